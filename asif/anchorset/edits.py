"""Edits: the next version of a set, made of the current one under the set's lock.

An edit is begun on a version that was read without the lock. It is published only if that version is still current:
of two at once the second is told so (Conflict), and nothing is lost. Whatever it writes comes before the manifest, the
manifest before the alias: killed anywhere, it leaves the old version whole, and done again it ends in the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from asif.anchorset.blocks import make_block
from asif.anchorset.deletions import LONGEST, Mask, runs_of
from asif.anchorset.folder import SetFolder
from asif.anchorset.manifest import BlockEntry, Manifest
from asif.anchorset.names import seq_of
from asif.anchorset.opened import AnchorSet, live_rows, load_pairs
from asif.anchorset.publish import put_block, settle, utc_now
from asif.anchorset.rows import set_digest
from asif.anchorset.versions import check_current
from asif.errors import UsageError
from asif.vectors import Int64
from asif.version import VERSION


def remove_rows(folder: SetFolder, version: str, rows: Int64) -> AnchorSet:
    """Publish a version without some rows, ascending and distinct, of the current one.

    Blocks are shared but for those whose rows would lie in more than a few pieces, which are written anew. Raises
    Conflict where `version` is not current (any more), UsageError where nothing would be left, OutOfSpace.
    """
    with folder.locked():
        check_current(folder, version, "the edit was begun on")
        parent = folder.manifest(version)
        if len(rows) == parent.count:
            raise UsageError(
                f"all {parent.count:,} pairs of {parent.name}@{parent.seq} would be removed",
                "one that stays, at least",
                "choose fewer, or delete the set itself",
            )
        blocks: list[BlockEntry] = []
        first = 0
        for entry in parent.blocks:
            here = rows[(rows >= first) & (rows < first + entry.count)] - first
            blocks += _without(folder, parent, entry, here)
            first += entry.count
        return AnchorSet(
            folder, settle(folder, _edited(folder, parent, blocks, {"kind": "remove", "pairs": len(rows)}))
        )


def _without(folder: SetFolder, manifest: Manifest, entry: BlockEntry, rows: Int64) -> list[BlockEntry]:
    """Return what stands for a block without some of its rows: a longer deletion list, another block, or nothing."""
    if not len(rows):
        return [entry]
    live = entry.live
    live[np.flatnonzero(live)[rows]] = False
    runs = runs_of(live)
    if len(runs) <= 2 * LONGEST:
        return [replace(entry, deleted=runs)] if live.any() else []
    return [_rewritten(folder, manifest, entry, live)]


def _rewritten(folder: SetFolder, manifest: Manifest, entry: BlockEntry, live: Mask) -> BlockEntry:
    """Write a block anew, of some of its rows."""
    block, records = folder.block(manifest, entry), load_pairs(folder, entry)
    rows = np.flatnonzero(live)
    lesser = make_block(block.image[rows], block.text[rows], block.row_hash[rows])
    return put_block(folder, lesser, [records[row] for row in rows], manifest.dtype)


def _edited(
    folder: SetFolder, parent: Manifest, blocks: Sequence[BlockEntry], operation: Mapping[str, Any]
) -> Manifest:
    """Return the manifest of the next version: of these blocks, all else as its parent has it."""
    fingerprints = {side: info.fingerprint for side, info in parent.encoders.items()}
    hashes = (live_rows(folder.block(parent, entry).row_hash, entry) for entry in blocks)
    count = sum(entry.count for entry in blocks)
    return replace(
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
