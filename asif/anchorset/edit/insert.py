"""Rows put into a version: between those it has, in the order of ids, with little written that was there before."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from asif.anchorset.edit.row_ranges import Piece, groups, joined, kept, pieces_of, rewritten
from asif.anchorset.edit.transaction import begun, published
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.blocks import MAX_ROWS
from asif.anchorset.format.deletion_list import runs_of
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.vectors import Int64

ROWS_PER_PIECE = 256
"""Pairs of a set for each piece that an edit may leave.

Kernels take ten times as many without being slower, but a manifest names each: 6,250 pieces of 1.6M pairs are 0.6 MB.
"""


def put_rows(
    folder: SetFolder,
    version: str,
    ids: Sequence[str],
    gone: Int64,
    fresh: AnchorSet,
    rows: Int64,
    operation: Mapping[str, Any],
) -> AnchorSet:
    """Publish a version of the current one, of these ids, without the rows `gone` and with rows of another set.

    The new rows are written as blocks of their own, and put between pieces of the others; where pieces would be more
    than one for each 256 pairs, all are written anew that are not whole blocks. Memory: a block, and the ids.
    `gone` and `rows` are ascending and distinct. Raises Conflict, OutOfSpace.
    """
    with begun(folder, version) as parent:
        names = [pair.id.encode() for pair in fresh.records(rows)]
        places = np.array([bisect_left(ids, name, key=str.encode) for name in names], np.int64)
        pieces = list(_interleaved(folder, parent, gone, fresh, rows, places))
        pieces, behind = _parted(folder, pieces)
        pairs = sum(map(len, pieces))
        if len(pieces) > pairs // ROWS_PER_PIECE + -(-pairs // MAX_ROWS):
            blocks = rewritten(folder, pieces + behind)
        else:
            blocks = _beside(folder, pieces) + rewritten(folder, behind)
        return published(folder, parent, blocks, operation)


def _interleaved(
    folder: SetFolder, parent: Manifest, gone: Int64, fresh: AnchorSet, rows: Int64, places: Int64
) -> Iterator[Piece]:
    """Yield pieces in the order of ids: each of `rows` comes before the parent's row at its place."""
    found, starts = np.unique(places, return_index=True)
    new = dict(zip(found.tolist(), np.split(rows, starts[1:]), strict=True))
    stays, none = np.ones(parent.count, bool), np.empty(0, np.int64)
    stays[gone] = False
    first = 0
    for piece in pieces_of(folder, parent):
        last = first + len(piece)
        cuts = [first, *found[(found > first) & (found < last)].tolist(), last]
        for start, stop in pairwise(cuts):
            yield from _of(fresh, new.get(start, none))
            left = piece.rows[start - first : stop - first][stays[start:stop]]
            if len(left):
                yield Piece(folder, parent, piece.entry, left)
        first = last
    yield from _of(fresh, new.get(first, none))


def _of(fresh: AnchorSet, rows: Int64) -> Iterator[Piece]:
    """Yield some rows of a set as pieces."""
    first = 0
    for piece in pieces_of(fresh.folder, fresh.manifest) if len(rows) else ():
        here = rows[(rows >= first) & (rows < first + len(piece))] - first
        if len(here):
            yield replace(piece, rows=piece.rows[here])
        first += len(piece)


def _parted(folder: SetFolder, pieces: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """Part pieces from new ones behind all others, and the last blocks that have no more rows than what comes to them.

    These are joined: so blocks get smaller towards the end by half or more, they stay few, and a row is written anew
    some ten times at most, however many edits put a few pairs behind the others.
    """
    first = len(pieces)
    while first and pieces[first - 1].folder != folder:
        first -= 1
    total = sum(map(len, pieces[first:]))
    while first and len(pieces[first - 1]) <= total <= MAX_ROWS - len(pieces[first - 1]):
        first -= 1
        total += len(pieces[first])
    return pieces[:first], pieces[first:]


def _beside(folder: SetFolder, pieces: Sequence[Piece]) -> list[BlockEntry]:
    """Return the entries of pieces: those of another set are written as blocks, and cut as they lie between others."""
    written: list[BlockEntry] = []
    for group in groups([piece for piece in pieces if piece.folder != folder]):
        entry, first = joined(folder, group), 0
        for piece in group:
            live = np.zeros(entry.rows, bool)
            live[first : first + len(piece)] = True
            written.append(replace(entry, deleted=runs_of(live)))
            first += len(piece)
    new = iter(written)
    return [kept(folder, piece) if piece.folder == folder else next(new) for piece in pieces]
