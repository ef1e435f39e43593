"""Edits: the next version of a set, made of the current one under the set's lock.

An edit is begun on a version that was read without the lock. It is published only if that version is still current:
of two at once the second is told so (Conflict), and nothing is lost. Whatever it writes comes before the manifest, the
manifest before the alias: killed anywhere, it leaves the old version whole, and done again it ends in the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset.edit.row_ranges import kept, pieces_of
from asif.anchorset.format.anchor_set import AnchorSet, live_hashes
from asif.anchorset.format.fit_cache import carry_fits
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.format.references import seq_of
from asif.anchorset.format.row_hash import set_digest
from asif.anchorset.format.versions import check_current
from asif.anchorset.receipts.create import receipt_between
from asif.anchorset.receipts.receipt_file import write_receipt
from asif.anchorset.write.publish import settle, utc_now
from asif.errors import UsageError
from asif.vectors import Int64
from asif.version import VERSION


def remove_rows(folder: SetFolder, version: str, rows: Int64, receipt: Path | None = None) -> AnchorSet:
    """Publish a version without some rows, ascending and distinct, of the current one; then write its receipt, if any.

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
        stays = np.ones(parent.count, bool)
        stays[rows] = False
        blocks: list[BlockEntry] = []
        first = 0
        for piece in pieces_of(folder, parent):
            here = stays[first : first + len(piece)]
            if here.all():
                blocks.append(piece.entry)
            elif here.any():
                blocks.append(kept(folder, replace(piece, rows=piece.rows[here])))
            first += len(piece)
        opened = published(folder, parent, blocks, {"kind": "remove", "pairs": len(rows)})
        if receipt is not None:
            write_receipt(receipt, receipt_between(folder, parent, opened.manifest))
        return opened


@contextmanager
def begun(folder: SetFolder, version: str) -> Iterator[Manifest]:
    """Hold the lock over an edit of a version; raises Conflict where it is not current (any more)."""
    with folder.locked():
        check_current(folder, version, "the edit was begun on")
        yield folder.manifest(version)


def published(
    folder: SetFolder, parent: Manifest, blocks: Sequence[BlockEntry], operation: Mapping[str, Any]
) -> AnchorSet:
    """Publish the next version: of these blocks, all else, and fits to the same rows, as its parent has it."""
    fingerprints = {side: info.fingerprint for side, info in parent.encoders.items()}
    count = sum(entry.count for entry in blocks)
    manifest = replace(
        parent,
        seq=max(map(seq_of, folder.versions())) + 1,
        digest=set_digest(parent.dtype, parent.captions, fingerprints, live_hashes(folder, parent, blocks)),
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
