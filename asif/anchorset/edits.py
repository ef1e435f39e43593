"""Edits: the next version of a set, made of the current one under the set's lock.

An edit is begun on a version that was read without the lock. It is published only if that version is still current:
of two at once the second is told so (Conflict), and nothing is lost. Whatever it writes comes before the manifest, the
manifest before the alias: killed anywhere, it leaves the old version whole, and done again it ends in the same one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np

from asif.anchorset.blocks import MAX_ROWS, make_block
from asif.anchorset.deletions import LONGEST, Mask, runs_of
from asif.anchorset.fits import carry_fits
from asif.anchorset.folder import SetFolder
from asif.anchorset.manifest import BlockEntry, Manifest
from asif.anchorset.names import seq_of
from asif.anchorset.opened import AnchorSet, live_rows, load_pairs
from asif.anchorset.publish import put_block, settle, utc_now
from asif.anchorset.rows import hash_rows, set_digest
from asif.anchorset.versions import check_current
from asif.errors import UsageError
from asif.vectors import SIDES, Int64, gathered
from asif.version import VERSION


def remove_rows(folder: SetFolder, version: str, rows: Int64) -> AnchorSet:
    """Publish a version without some rows, ascending and distinct, of the current one.

    Blocks are shared but for those whose rows would lie in more than a few pieces, which are written anew. Raises
    Conflict where `version` is not current (any more), UsageError where nothing would be left, OutOfSpace.
    """
    with begun(folder, version) as parent:
        if len(rows) == parent.count:
            raise UsageError(
                f"all {parent.count:,} pairs of {parent.name}@{parent.seq} would be removed",
                "one that stays, at least",
                "choose fewer, or delete the set itself",
            )
        blocks: list[BlockEntry] = []
        for entry, here in _by_block(parent, rows):
            blocks += _without(folder, parent, entry, here)
        return published(folder, parent, blocks, {"kind": "remove", "pairs": len(rows)})


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

    Ids keep their order: a block into whose range of ids a row falls is written anew, as blocks of at most 8,192 rows.
    With ids in no particular order those are all blocks, with ids that follow all others the last one. Memory: a block
    and the rows that go into it. `gone` and `rows` are ascending and distinct. Raises Conflict, OutOfSpace.
    """
    with begun(folder, version) as parent:
        begins = np.cumsum([entry.count for entry in parent.blocks])[:-1]
        starts = [ids[row].encode() for row in begins]
        owner = np.array([bisect_right(starts, pair.id.encode()) for pair in fresh.records(rows)], np.int64)
        blocks: list[BlockEntry] = []
        for at, (entry, here) in enumerate(_by_block(parent, gone)):
            new = rows[owner == at]
            if len(new):
                blocks += _mixed(folder, parent, entry, here, fresh, new)
            else:
                blocks += _without(folder, parent, entry, here)
        return published(folder, parent, blocks, operation)


@contextmanager
def begun(folder: SetFolder, version: str) -> Iterator[Manifest]:
    """Hold the lock over an edit of a version; raises Conflict where it is not current (any more)."""
    with folder.locked():
        check_current(folder, version, "the edit was begun on")
        yield folder.manifest(version)


def _by_block(manifest: Manifest, rows: Int64) -> Iterator[tuple[BlockEntry, Int64]]:
    """Yield each block with those of the rows that it has, counted over its rows that are there."""
    first = 0
    for entry in manifest.blocks:
        yield entry, rows[(rows >= first) & (rows < first + entry.count)] - first
        first += entry.count


def _without(folder: SetFolder, manifest: Manifest, entry: BlockEntry, rows: Int64) -> list[BlockEntry]:
    """Return what stands for a block without some of its rows: a longer deletion list, another block, or nothing."""
    if not len(rows):
        return [entry]
    live = _left(entry, rows)
    runs = runs_of(live)
    if len(runs) <= 2 * LONGEST:
        return [replace(entry, deleted=runs)] if live.any() else []
    return [joined(folder, manifest, [(entry, live)])]


def joined(
    folder: SetFolder, manifest: Manifest, parts: Sequence[tuple[BlockEntry, Mask]], to: SetFolder | None = None
) -> BlockEntry:
    """Write one block of some rows of others, [rows] of each, into `folder` or `to`; the caller holds its lock."""
    blocks = [(folder.block(manifest, entry), some) for entry, some in parts]
    image, text = (np.concatenate([block.side(side)[some] for block, some in blocks]) for side in SIDES)
    records = [record for entry, some in parts for record in compress(load_pairs(folder, entry), some)]
    hashes = np.concatenate([block.row_hash[some] for block, some in blocks])
    return put_block(to or folder, make_block(image, text, hashes), records, manifest.dtype)


def _mixed(
    folder: SetFolder, manifest: Manifest, entry: BlockEntry, gone: Int64, fresh: AnchorSet, new: Int64
) -> list[BlockEntry]:
    """Write a block anew without some of its rows and with rows of another set, in order of ids."""
    block, every, left = folder.block(manifest, entry), load_pairs(folder, entry), np.flatnonzero(_left(entry, gone))
    records = [*(every[row] for row in left), *fresh.records(new)]
    image, text = (np.concatenate([block.side(side)[left], gathered(fresh.blocks(side), new)]) for side in SIDES)
    hashes = hash_rows(records)
    order = np.array(sorted(range(len(records)), key=lambda at: records[at].id.encode()), np.int64)
    found = []
    for start in range(0, len(order), MAX_ROWS):
        some = order[start : start + MAX_ROWS]
        part = make_block(image[some], text[some], hashes[some])
        found.append(put_block(folder, part, [records[at] for at in some], manifest.dtype))
    return found


def _left(entry: BlockEntry, rows: Int64) -> Mask:
    """Tell which rows of a block are there without some of those that are."""
    live = entry.live
    live[np.flatnonzero(live)[rows]] = False
    return live


def published(
    folder: SetFolder, parent: Manifest, blocks: Sequence[BlockEntry], operation: Mapping[str, Any]
) -> AnchorSet:
    """Publish the next version: of these blocks, all else, and fits to the same rows, as its parent has it."""
    fingerprints = {side: info.fingerprint for side, info in parent.encoders.items()}
    hashes = (live_rows(folder.block(parent, entry).row_hash, entry) for entry in blocks)
    count = sum(entry.count for entry in blocks)
    manifest = replace(
        parent,
        seq=max(map(seq_of, folder.versions())) + 1,
        digest=set_digest(parent.dtype, parent.captions, fingerprints, hashes),
        count=count,
        rows_in=count + parent.rejected,
        blocks=tuple(blocks),
        parent=parent.version,
        operation=operation,
        created=utc_now(),
        asif=VERSION,
    )
    if manifest.digest == parent.digest:
        carry_fits(folder.fit("x").parent, parent, manifest)
    return AnchorSet(folder, settle(folder, manifest))
