"""Which rows of a block a version leaves out: few numbers in the manifest, whatever the block holds.

A deletion list is run lengths: so many rows that are there, so many that are not, in turn; those after the last run are
there. `(5, 1, 2, 3)` leaves out row 5 and rows 8, 9, 10. No list has more than LONGEST deleted runs: an edit that would
need more writes the block anew without its deleted rows. So the rows that are there are always a few slices of the
block, views that copy nothing, and a list is at most some 150 bytes.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

LONGEST = 16
Runs = tuple[int, ...]
Mask = NDArray[np.bool_]


def runs_of(live: Mask) -> Runs:
    """Return the deletion list of a block, from which of its rows are there [n].

    >>> runs_of(np.array([True, False, False, True, False, True]))
    (1, 2, 1, 1)
    >>> runs_of(np.ones(3, bool))
    ()
    """
    edges = np.flatnonzero(np.diff(live.astype(np.int8), prepend=1, append=1))
    lengths: list[int] = np.diff(edges, prepend=0).tolist()
    return tuple(lengths)


def live_slices(runs: Runs, rows: int) -> list[slice]:
    """Return the rows that are there as slices, none of them empty.

    >>> live_slices((0, 2, 1, 1), 6)
    [slice(2, 3, None), slice(4, 6, None)]
    """
    edges = [0, *accumulate(runs), rows]
    return [slice(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def live_mask(runs: Runs, rows: int) -> Mask:
    """Tell which of so many rows are there [rows].

    >>> live_mask((1, 2), 4).tolist()
    [True, False, False, True]
    """
    mask = np.zeros(rows, bool)
    for some in live_slices(runs, rows):
        mask[some] = True
    return mask


def live_range(runs: Runs, rows: int) -> tuple[int, int]:
    """Return the first row that is there, and the one after the last.

    >>> live_range((0, 2, 1, 1, 3, 4), 11), live_range((), 3)
    ((2, 7), (0, 3))
    """
    first = runs[1] if runs and runs[0] == 0 else 0
    return first, sum(runs[:-1]) if sum(runs) == rows else rows


def is_list(runs: Runs, rows: int) -> bool:
    """Tell whether these are run lengths, as `runs_of` writes them, that leave some of so many rows.

    >>> is_list((0, 1), 2), is_list((0, 2), 2), is_list((1, 0), 2), is_list((1,), 2)
    (True, False, False, False)
    """
    whole = all(type(run) is int and run >= (at > 0) for at, run in enumerate(runs))
    return whole and len(runs) % 2 == 0 and len(runs) <= 2 * LONGEST and sum(runs) <= rows and sum(runs[1::2]) < rows
