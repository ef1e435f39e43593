"""Row ranges: some rows of a block, of this set or of another; an edit assembles a version from them.

A version lists its row ranges in the order of their ids. Most are whole blocks. A block with deleted rows stays one
row range while its deletion list is short (see `deletion_list`). A block into which rows of another were inserted is
listed several times, with the inserted rows in between. So an edit writes only what is new and keeps the order of ids,
which breaks ties between equal scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from asif.anchorset.format.blocks import MAX_BLOCK_ROWS, build_block
from asif.anchorset.format.content import load_whole_records
from asif.anchorset.format.deletion_list import MAX_DELETED_RUNS, encode_deletions
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.write.version import store_block
from asif.pairs.pair import PairRecord
from asif.vectors import Int64

_Part = TypeVar("_Part", bound=Sized)


@dataclass(frozen=True)
class RowRange:
    """Hold `rows` of a block of a version, ascending and not empty; they are numbered with the deleted ones."""

    folder: SetFolder
    manifest: Manifest
    entry: BlockEntry
    rows: Int64

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_whole_block(self) -> bool:
        """Tell whether these are all rows of the block."""
        return len(self) == self.entry.rows


def list_row_ranges(folder: SetFolder, manifest: Manifest) -> list[RowRange]:
    """Return the row ranges of a version in the order in which its manifest lists them."""
    return [RowRange(folder, manifest, entry, np.flatnonzero(entry.live)) for entry in manifest.blocks]


def group_into_blocks(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Group neighbouring parts, such as row ranges, while their rows fit into one block."""
    group: list[_Part] = []
    for part in parts:
        if group and sum(map(len, group)) + len(part) > MAX_BLOCK_ROWS:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def split_at_new_blocks(ranges: Sequence[RowRange]) -> Iterator[list[RowRange]]:
    """Split row ranges before the first one of each block, so that an edit changes only the parts that it touches."""
    seen: set[str] = set()
    part: list[RowRange] = []
    for row_range in ranges:
        if part and row_range.entry.sha256 not in seen:
            yield part
            part = []
        seen.add(row_range.entry.sha256)
        part.append(row_range)
    if part:
        yield part


def mark_deleted(folder: SetFolder, row_range: RowRange) -> BlockEntry:
    """Return the block of a row range with all its other rows marked as deleted.

    If the deletion list would become too long, the rows are written as a separate block instead.
    """
    live = np.zeros(row_range.entry.rows, bool)
    live[row_range.rows] = True
    runs = encode_deletions(live)
    if len(runs) <= 2 * MAX_DELETED_RUNS:
        return replace(row_range.entry, deleted=runs)
    return write_joined_block(folder, [row_range])


def rewrite_ranges(folder: SetFolder, ranges: Sequence[RowRange], to: SetFolder | None = None) -> list[BlockEntry]:
    """Return row ranges as few whole blocks, written into the set or into `to`.

    Whole blocks of the set that cannot be joined with their neighbours are kept as they are.
    """
    return [
        group[0].entry
        if len(group) == 1 and group[0].is_whole_block and group[0].folder == folder
        else write_joined_block(to or folder, group)
        for group in group_into_blocks(ranges)
    ]


def write_joined_block(folder: SetFolder, ranges: Sequence[RowRange]) -> BlockEntry:
    """Write row ranges that fit into one block as one block; the caller holds the lock."""
    blocks = [(each.folder.block(each.manifest, each.entry), each.rows) for each in ranges]
    sides = ranges[0].manifest.sides
    values = {side: np.concatenate([block.side(side)[rows] for block, rows in blocks]) for side in sides}
    hashes = np.concatenate([block.row_hash[rows] for block, rows in blocks])
    tables: dict[str, list[PairRecord]] = {}
    records: list[PairRecord] = []
    for each in ranges:
        sha256 = each.entry.pairs.sha256
        if sha256 not in tables:
            tables[sha256] = load_whole_records(each.folder, each.entry)
        records += [tables[sha256][row] for row in each.rows]
    return store_block(folder, build_block(values, hashes), records, ranges[0].manifest.dtype)
