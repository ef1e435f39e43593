"""Rows of several blocks, or versions, that hold the same record and the same vector, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.blocks import UInt8
from asif.vectors import Int64

ShortHashes = NDArray[np.uint64]
"""The first eight bytes of row hashes, as numbers; equal ones are only candidates."""


def shorten_hashes(row_hashes: UInt8) -> ShortHashes:
    """Return the first eight bytes of row hashes [n, 32] as numbers [n]."""
    return np.ascontiguousarray(row_hashes[:, :8]).view(np.uint64)[:, 0]


def match_hashes(known: ShortHashes, numbers: Int64, wanted: ShortHashes) -> Int64:
    """Return the number of the known hash, of which `known` [n] are ascending, that equals each wanted one; -1: none.

    >>> match_hashes(np.array([3, 7], np.uint64), np.array([10, 11]), np.array([7, 5, 9], np.uint64)).tolist()
    [11, -1, -1]
    """
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, numbers[at], -1)


def are_equal_rows(some: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows of two contiguous arrays [n, d] have equal bytes [n].

    >>> are_equal_rows(np.eye(2), np.array([[1.0, 0.0], [-0.0, 1.0]])).tolist()
    [True, False]
    """
    equal: NDArray[np.bool_] = (some.view(np.uint8) == others.view(np.uint8)).all(axis=1)
    return equal
