"""Write the blocks of a set as a build would: without deleted rows, and few of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asif.anchorset.blocks import MAX_ROWS
from asif.anchorset.edits import begun, joined, published
from asif.anchorset.folder import SetFolder
from asif.anchorset.manifest import BlockEntry
from asif.anchorset.opened import AnchorSet


def compact(folder: SetFolder, version: str) -> AnchorSet:
    """Publish a version of the current one whose blocks have no deleted rows; neighbours that fit into one are joined.

    Digest, rows and fits are the same. Older versions keep their blocks until `gc`. Where there is nothing to do, no
    version is made. Memory: one block. Raises Conflict, OutOfSpace.
    """
    with begun(folder, version) as parent:
        groups = list(_groups(parent.blocks))
        touched = [group for group in groups if len(group) > 1 or group[0].deleted]
        if not touched:
            return AnchorSet(folder, version)
        blocks = [
            joined(folder, parent, [(entry, entry.live) for entry in group]) if group in touched else group[0]
            for group in groups
        ]
        return published(folder, parent, blocks, {"kind": "compact", "blocks": len(touched)})


def _groups(blocks: Sequence[BlockEntry]) -> Iterator[list[BlockEntry]]:
    """Group neighbours as long as their rows fit into one block."""
    group: list[BlockEntry] = []
    for entry in blocks:
        if group and sum(one.count for one in group) + entry.count > MAX_ROWS:
            yield group
            group = []
        group.append(entry)
    yield group
