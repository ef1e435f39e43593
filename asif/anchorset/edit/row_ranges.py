"""Pieces: some rows of a block, of this set or of another, from which an edit puts a version together.

A version lists its pieces in the order of their ids. Most are whole blocks. A block with rows left out stays one piece
while these are in few places (see `deletions`); a block into which rows of another were put comes as several, with
theirs between them: so an edit writes what is new, and the order of ids, which decides between equal scores, is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asif.anchorset.format.anchor_set import load_pairs
from asif.anchorset.format.blocks import MAX_ROWS, make_block
from asif.anchorset.format.deletion_list import LONGEST, runs_of
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.write.publish import put_block
from asif.pairs.pair import PairRecord
from asif.vectors import SIDES, Int64


@dataclass(frozen=True)
class Piece:
    """Hold `rows` of a block of a version, ascending and not empty, as they are counted with those left out."""

    folder: SetFolder
    manifest: Manifest
    entry: BlockEntry
    rows: Int64

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def whole(self) -> bool:
        """Tell whether the block has no other rows."""
        return len(self) == self.entry.rows


def pieces_of(folder: SetFolder, manifest: Manifest) -> list[Piece]:
    """Return the pieces of a version as it lists them."""
    return [Piece(folder, manifest, entry, np.flatnonzero(entry.live)) for entry in manifest.blocks]


def groups(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Group neighbours as long as their rows fit into one block."""
    group: list[Piece] = []
    for piece in pieces:
        if group and sum(map(len, group)) + len(piece) > MAX_ROWS:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def kept(folder: SetFolder, piece: Piece) -> BlockEntry:
    """Return the entry of a piece of the set's own: its block with a list of what is left out, or written anew."""
    live = np.zeros(piece.entry.rows, bool)
    live[piece.rows] = True
    runs = runs_of(live)
    return replace(piece.entry, deleted=runs) if len(runs) <= 2 * LONGEST else joined(folder, [piece])


def rewritten(folder: SetFolder, pieces: Sequence[Piece], to: SetFolder | None = None) -> list[BlockEntry]:
    """Return entries of pieces as few whole blocks, written into the set or into `to`.

    Blocks of the set that are whole, and fit into none with others, stay as they are.
    """
    return [
        group[0].entry
        if len(group) == 1 and group[0].whole and group[0].folder == folder
        else joined(to or folder, group)
        for group in groups(pieces)
    ]


def regions(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Part pieces before the first of each block, so that an edit changes the parts alone into which it falls."""
    seen: set[str] = set()
    region: list[Piece] = []
    for piece in pieces:
        if region and piece.entry.sha256 not in seen:
            yield region
            region = []
        seen.add(piece.entry.sha256)
        region.append(piece)
    if region:
        yield region


def joined(folder: SetFolder, pieces: Sequence[Piece]) -> BlockEntry:
    """Write one block of pieces that fit into one; the caller holds the lock."""
    blocks = [(piece.folder.block(piece.manifest, piece.entry), piece.rows) for piece in pieces]
    image, text = (np.concatenate([block.side(side)[rows] for block, rows in blocks]) for side in SIDES)
    hashes = np.concatenate([block.row_hash[rows] for block, rows in blocks])
    tables: dict[str, list[PairRecord]] = {}
    records: list[PairRecord] = []
    for piece in pieces:
        name = piece.entry.pairs.sha256
        if name not in tables:
            tables[name] = load_pairs(piece.folder, piece.entry)
        records += [tables[name][row] for row in piece.rows]
    return put_block(folder, make_block(image, text, hashes), records, pieces[0].manifest.dtype)
