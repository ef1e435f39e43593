"""The canonical score: one float32 number per (query, anchor), equal on every engine.

Entries are rounded to multiples of 2^-26. A product of two is then a multiple of 2^-52, and by Cauchy–Schwarz every
partial sum over two rows of length at most sqrt(2) stays within 2, so it fits the 53 bits of a float64 exactly:
no order of summation, no thread count, no block size and no fused multiply-add can change it. Rounding that exact sum
to float32 once gives the canonical score. Against the unrounded inner product of unit rows of dimension d it is off by
at most sqrt(d) * 2^-26, in practice about 1e-8; float16 values are multiples of 2^-24 and are not changed at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 2.0**26
"""Entries of unit rows are rounded to multiples of 1 / GRID before they are multiplied."""


def round_to_grid(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Round entries to the canonical grid, ties to even.

    >>> (round_to_grid(np.array([0.1], np.float32)) * 2**26).tolist()
    [6710886.0]
    """
    return np.rint(np.asarray(rows, np.float64) * GRID) / GRID


def compute_scales(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return for each row the power of two by which to divide it for a length of 0.7 to 1.4: [n, 1], 1 for zero rows.

    A row that is not of unit length, such as an image row of asif-paper, keeps its small entries on the grid if it is
    divided by this power; multiplying the sums by it again is exact. Lengths are computed from entries rounded to 16
    bits, whose squares add up exactly in any order, so that all engines choose the same power.

    >>> compute_scales(np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 1e-5], [0.0, 0.0]])).ravel().tolist()
    [4.0, 1.0, 7.62939453125e-06, 1.0]
    """
    wide = np.asarray(rows, np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0.0)
    exponents = np.where(largest > 0, np.frexp(largest)[1] - 1, 0)
    squares = np.square(np.rint(np.ldexp(wide, 15 - exponents))).sum(axis=1, keepdims=True)
    while (long := squares > 1.96 * 2.0**30).any():
        exponents, squares = exponents + long, np.where(long, squares / 4, squares)
    return np.ldexp(1.0, exponents)
