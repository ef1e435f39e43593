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


def scales(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the power of two nearest to each row's length [n, 1], 1 for zero rows.

    Divided by it, a row that is not of unit length (asif-paper leaves images so) is at most sqrt(2) long and keeps
    its small entries on the grid; multiplying the sums by it again is exact.

    >>> scales(np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 1e-5], [0.0, 0.0]])).ravel().tolist()
    [4.0, 1.0, 7.62939453125e-06, 1.0]
    """
    length = np.linalg.norm(np.asarray(rows, np.float64), axis=1, keepdims=True)
    exponents: NDArray[np.float64] = np.log2(length, out=np.zeros_like(length), where=length > 0)
    return np.exp2(np.rint(exponents))
