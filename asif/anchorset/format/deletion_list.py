"""The deletion list of a block: which of its rows a version leaves out, as a few run lengths in the manifest.

The runs are in turn of live rows and of deleted rows; all rows after the last run are live. `(5, 1, 2, 3)` leaves out
row 5 and rows 8, 9, 10. A list has at most MAX_DELETED_RUNS runs of deleted rows: an edit that would need more writes
the block again without its deleted rows. So the live rows are always a few slices of the block, which are views and
copy nothing, and a list takes at most some 150 bytes.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

MAX_DELETED_RUNS = 16
DeletionList = tuple[int, ...]
LiveRows = NDArray[np.bool_]
"""Which rows of a block are live [rows]."""


def encode_deletions(live: LiveRows) -> DeletionList:
    """Return the deletion list of a block with these live rows [n].

    >>> encode_deletions(np.array([True, False, False, True, False, True]))
    (1, 2, 1, 1)
    >>> encode_deletions(np.ones(3, bool))
    ()
    """
    edges = np.flatnonzero(np.diff(live.astype(np.int8), prepend=1, append=1))
    lengths: list[int] = np.diff(edges, prepend=0).tolist()
    return tuple(lengths)


def find_live_slices(deleted: DeletionList, rows: int) -> list[slice]:
    """Return the live rows of a block of `rows` rows as slices, none of them empty.

    >>> find_live_slices((0, 2, 1, 1), 6)
    [slice(2, 3, None), slice(4, 6, None)]
    """
    edges = [0, *accumulate(deleted), rows]
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def decode_live_rows(deleted: DeletionList, rows: int) -> LiveRows:
    """Return which rows of a block of `rows` rows are live [rows].

    >>> decode_live_rows((1, 2), 4).tolist()
    [True, False, False, True]
    """
    live = np.zeros(rows, bool)
    for some in find_live_slices(deleted, rows):
        live[some] = True
    return live


def find_live_range(deleted: DeletionList, rows: int) -> tuple[int, int]:
    """Return the first live row of a block of `rows` rows, and the row after the last one.

    >>> find_live_range((0, 2, 1, 1, 3, 4), 11), find_live_range((), 3)
    ((2, 7), (0, 3))
    """
    first = deleted[1] if deleted and deleted[0] == 0 else 0
    return first, sum(deleted[:-1]) if sum(deleted) == rows else rows


def is_deletion_list(deleted: DeletionList, rows: int) -> bool:
    """Tell whether these are run lengths, as `encode_deletions` writes them, that leave some of `rows` rows live.

    >>> [is_deletion_list(deleted, 2) for deleted in [(0, 1), (0, 2), (1, 0), (1,)]]
    [True, False, False, False]
    """
    valid = all(type(run) is int and run >= (at > 0) for at, run in enumerate(deleted))
    return (
        valid
        and len(deleted) % 2 == 0
        and len(deleted) <= 2 * MAX_DELETED_RUNS
        and sum(deleted) <= rows
        and sum(deleted[1::2]) < rows
    )
