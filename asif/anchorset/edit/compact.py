"""Compact a set: rewrite its blocks as a build would, few and without deleted rows."""

from __future__ import annotations

from asif.anchorset.edit.row_ranges import list_row_ranges, rewrite_ranges
from asif.anchorset.edit.transaction import edit_lock, publish_edit
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import SetFolder


def compact(folder: SetFolder, version: str) -> AnchorSet:
    """Publish a version of the current one whose blocks have no deleted rows; neighbours that fit into one are joined.

    Digest, rows and fits stay the same. Older versions keep their blocks until `gc`. If there is nothing to do, no
    version is published. Memory: one block. Raises Conflict, OutOfSpace.
    """
    with edit_lock(folder, version) as parent:
        blocks = rewrite_ranges(folder, list_row_ranges(folder, parent))
        rewritten = set(blocks).difference(parent.blocks)
        if not rewritten:
            return AnchorSet(folder, version)
        return publish_edit(folder, parent, blocks, {"kind": "compact", "blocks": len(rewritten)})
