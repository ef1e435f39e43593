"""Write the blocks of a set as a build would: without deleted rows, and few of them."""

from __future__ import annotations

from asif.anchorset.edit.row_ranges import pieces_of, rewritten
from asif.anchorset.edit.transaction import begun, published
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import SetFolder


def compact(folder: SetFolder, version: str) -> AnchorSet:
    """Publish a version of the current one whose blocks have no deleted rows; neighbours that fit into one are joined.

    Digest, rows and fits are the same. Older versions keep their blocks until `gc`. Where there is nothing to do, no
    version is made. Memory: one block. Raises Conflict, OutOfSpace.
    """
    with begun(folder, version) as parent:
        blocks = rewritten(folder, pieces_of(folder, parent))
        anew = set(blocks).difference(parent.blocks)
        if not anew:
            return AnchorSet(folder, version)
        return published(folder, parent, blocks, {"kind": "compact", "blocks": len(anew)})
