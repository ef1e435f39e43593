"""The canonical score: one float32 number per (query, anchor), equal on every engine.

Entries are rounded to multiples of 2^-26. A product of two is then a multiple of 2^-52, and by Cauchy–Schwarz every
partial sum over two rows of length at most sqrt(2) stays within 2, so it fits the 53 bits of a float64 exactly:
no order of summation, no thread count, no block size and no fused multiply-add can change it. Rounding that exact sum
to float32 once gives the canonical score. Against the unrounded inner product of unit rows of dimension d it is off by
at most sqrt(d) * 2^-26, in practice about 1e-8; float16 values are multiples of 2^-24 and are not changed at all.
"""

from __future__ import annotations

GRID = 2.0**26
"""Entries of unit rows are rounded to multiples of 1 / GRID before they are multiplied."""
