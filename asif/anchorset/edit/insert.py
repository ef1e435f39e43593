"""Insert rows into a version, in the order of ids; few of the existing rows are rewritten."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from asif.anchorset.edit.row_ranges import (
    RowRange,
    group_into_blocks,
    list_row_ranges,
    mark_deleted,
    rewrite_ranges,
    write_joined_block,
)
from asif.anchorset.edit.transaction import SourceState, edit_lock, publish_edit
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.blocks import MAX_BLOCK_ROWS
from asif.anchorset.format.deletion_list import encode_deletions
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.vectors import Int64

PAIRS_PER_RANGE = 256
"""An edit may leave one row range for this many pairs of a set.

Kernels take ten times as many without slowing down, but a manifest lists each: 6,250 row ranges of 1.6M pairs take
0.6 MB.
"""


def insert_rows(
    folder: SetFolder,
    version: str,
    ids: Sequence[str],
    removed: Int64,
    fresh: AnchorSet | None,
    rows: Int64,
    operation: Mapping[str, Any],
    state: SourceState | None = None,
) -> AnchorSet:
    """Publish a version of the current one without the rows `removed` and with `rows` of the set `fresh`.

    `ids` are those of the current version. New rows are written as separate blocks and listed between ranges of
    the other blocks. If that would leave more than one row range for each 256 pairs, all blocks that are not used as a
    whole are rewritten. `removed` and `rows` are ascending and distinct. `state` is that of a gallery's source. Memory:
    a block, and the ids. Raises Conflict, OutOfSpace.
    """
    with edit_lock(folder, version) as parent:
        names = [pair.id.encode() for pair in fresh.records(rows)] if fresh is not None else []
        positions = np.array([bisect_left(ids, name, key=str.encode) for name in names], np.int64)
        ranges = list(_interleave(folder, parent, removed, fresh, rows, positions))
        ranges, tail = _split_tail(folder, ranges)
        pairs = sum(map(len, ranges))
        if len(ranges) > pairs // PAIRS_PER_RANGE + -(-pairs // MAX_BLOCK_ROWS):
            blocks = rewrite_ranges(folder, ranges + tail)
        else:
            blocks = _write_new_ranges(folder, ranges) + rewrite_ranges(folder, tail)
        return publish_edit(folder, parent, blocks, operation, state)


def _interleave(
    folder: SetFolder, parent: Manifest, removed: Int64, fresh: AnchorSet | None, rows: Int64, positions: Int64
) -> Iterator[RowRange]:
    """Yield row ranges in the order of ids: each of `rows` comes before the parent's row at its position."""
    distinct, starts = np.unique(positions, return_index=True)
    inserted = dict(zip(distinct.tolist(), np.split(rows, starts[1:]), strict=False))  # of no rows, one empty part
    live, none = np.ones(parent.count, bool), np.empty(0, np.int64)
    live[removed] = False
    first = 0
    for row_range in list_row_ranges(folder, parent):
        last = first + len(row_range)
        cuts = [first, *distinct[(distinct > first) & (distinct < last)].tolist(), last]
        for start, stop in pairwise(cuts):
            yield from _select_from_ranges(fresh, inserted.get(start, none))
            remaining = row_range.rows[start - first : stop - first][live[start:stop]]
            if len(remaining):
                yield RowRange(folder, parent, row_range.entry, remaining)
        first = last
    yield from _select_from_ranges(fresh, inserted.get(first, none))


def _select_from_ranges(fresh: AnchorSet | None, rows: Int64) -> Iterator[RowRange]:
    """Yield some rows of a set as row ranges."""
    first = 0
    for row_range in list_row_ranges(fresh.folder, fresh.manifest) if fresh is not None and len(rows) else ():
        selected = rows[(rows >= first) & (rows < first + len(row_range))] - first
        if len(selected):
            yield replace(row_range, rows=row_range.rows[selected])
        first += len(row_range)


def _split_tail(folder: SetFolder, ranges: list[RowRange]) -> tuple[list[RowRange], list[RowRange]]:
    """Split off the tail: new rows behind all others, and the last blocks that have at most as many rows as follow.

    The tail is joined. So, towards the end, each block is at most half as large as the one before it; there are few
    blocks, and a row is rewritten about ten times at most, in any number of edits that append a few pairs.
    """
    first = len(ranges)
    while first and ranges[first - 1].folder != folder:
        first -= 1
    total = sum(map(len, ranges[first:]))
    while first and len(ranges[first - 1]) <= total <= MAX_BLOCK_ROWS - len(ranges[first - 1]):
        first -= 1
        total += len(ranges[first])
    return ranges[:first], ranges[first:]


def _write_new_ranges(folder: SetFolder, ranges: Sequence[RowRange]) -> list[BlockEntry]:
    """Return the entries of row ranges; those of another set are written as blocks, one entry for each range."""
    written: list[BlockEntry] = []
    for group in group_into_blocks([each for each in ranges if each.folder != folder]):
        entry, first = write_joined_block(folder, group), 0
        for each in group:
            live = np.zeros(entry.rows, bool)
            live[first : first + len(each)] = True
            written.append(replace(entry, deleted=encode_deletions(live)))
            first += len(each)
    new = iter(written)
    return [mark_deleted(folder, each) if each.folder == folder else next(new) for each in ranges]
