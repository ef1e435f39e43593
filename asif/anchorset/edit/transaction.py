"""Edits: the next version of a set, made from the current one under the set's lock.

An edit starts from a version that was read without the lock. It is published only if that version is still current: of
two edits at the same time the second one fails (Conflict), and nothing is lost. Blocks are written before the manifest,
the manifest before the alias. An edit that is killed at any point leaves the old version intact, and running it again
gives the same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.content import iter_live_row_hashes
from asif.anchorset.format.fit_cache import copy_fits
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.format.row_hash import compute_set_digest
from asif.anchorset.format.versions import check_current
from asif.anchorset.write.version import commit_version, current_utc_time, next_sequence_number, store_rejects
from asif.pairs.pair import Reject
from asif.version import VERSION


@contextmanager
def edit_lock(folder: SetFolder, version: str) -> Iterator[Manifest]:
    """Hold the lock for an edit of a version, and yield its manifest; raises Conflict unless it is current."""
    with folder.locked():
        check_current(folder, version, "the edit was begun on")
        yield folder.manifest(version)


@dataclass(frozen=True)
class SourceState:
    """Hold what an update found in the source of a gallery: how it is read, and the rows that are no items."""

    origin: Mapping[str, Any]
    rejects: Sequence[Reject]


def publish_edit(
    folder: SetFolder,
    parent: Manifest,
    blocks: Sequence[BlockEntry],
    operation: Mapping[str, Any],
    state: SourceState | None = None,
) -> AnchorSet:
    """Publish the next version with these blocks; all else, and fits to the same rows, is taken from its parent.

    With `state`, origin and rejects are those of the source as it is now.
    """
    fingerprints = {side: info.fingerprint for side, info in parent.encoders.items()}
    count = sum(entry.count for entry in blocks)
    if state is not None:
        rejects = store_rejects(folder, state.rejects) if state.rejects else None
        parent = replace(parent, origin=state.origin, rejects=rejects, rejected=len(state.rejects))
    manifest = replace(
        parent,
        seq=next_sequence_number(folder),
        digest=compute_set_digest(
            parent.dtype, parent.captions, fingerprints, iter_live_row_hashes(folder, parent, blocks)
        ),
        count=count,
        rows_in=count + parent.rejected,
        blocks=tuple(blocks),
        parent=parent.version,
        operation=operation,
        created=current_utc_time(),
        asif=VERSION,
    )
    if manifest.digest == parent.digest:
        copy_fits(folder.fit_path("x").parent, parent, manifest)
    return AnchorSet(folder, commit_version(folder, manifest))
