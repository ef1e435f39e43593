"""Vectors of a block that other blocks of the gallery have, byte for byte: what is kept of those is copied.

An edit that touches many places of a block writes it again, with most of its rows as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from asif.anchorset import AnchorSet
from asif.anchorset.format.blocks import AnchorBlock
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.engine.search.row_match import ShortHashes, are_equal_rows, match_hashes, shorten_hashes
from asif.errors import AsifError
from asif.vectors import Int64, Side


@dataclass(frozen=True)
class CopiedRows:
    """Hold rows of a block, `mine` [m], that are `theirs` [m] in the block with a sha256."""

    mine: Int64
    sha256: str
    theirs: Int64


@dataclass(frozen=True)
class BlockCopies:
    """Find equal vectors of one side in blocks of other versions.

    `hashes` [n] are the beginnings of all row hashes, ascending; `owners` [n] number the blocks, `rows` [n] the rows.
    """

    side: Side
    blocks: Sequence[tuple[str, AnchorBlock]]
    hashes: ShortHashes
    owners: Int64
    rows: Int64

    @classmethod
    def of(cls, opened: AnchorSet, side: Side, is_kept: Callable[[str], bool]) -> BlockCopies:
        """Look into the blocks, of which something is kept, of versions other than the opened one."""
        blocks = []
        for sha256, (manifest, entry) in _list_other_blocks(opened).items():
            if is_kept(sha256):
                with suppress(AsifError):  # `verify` reports it, or it was deleted meanwhile
                    blocks.append((sha256, opened.folder.block(manifest, entry)))
        hashes = np.concatenate(
            [np.empty(0, np.uint64), *(shorten_hashes(block.row_hash) for _, block in blocks)], dtype=np.uint64
        )
        counts = [len(block) for _, block in blocks]
        owners = np.repeat(np.arange(len(blocks)), counts)
        rows = np.concatenate([np.empty(0, np.int64), *map(np.arange, counts)], dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        return cls(side, blocks, hashes[order], owners[order], rows[order])

    def find(self, block: AnchorBlock) -> Iterator[CopiedRows]:
        """Yield the rows of a block whose vectors another one has."""
        if not len(self.hashes):
            return
        at = match_hashes(self.hashes, np.arange(len(self.hashes)), shorten_hashes(block.row_hash))
        owners = np.where(at >= 0, self.owners[at], -1)
        for owner in np.unique(owners[owners >= 0]).tolist():
            mine = np.flatnonzero(owners == owner)
            sha256, other = self.blocks[owner]
            theirs = self.rows[at[mine]]
            same = are_equal_rows(block.side(self.side)[mine], other.side(self.side)[theirs])
            if same.any():
                yield CopiedRows(mine[same], sha256, theirs[same])


def _list_other_blocks(opened: AnchorSet) -> dict[str, tuple[Manifest, BlockEntry]]:
    """Return the blocks of other versions that the opened one does not have, by sha256; the newest first."""
    own = {entry.sha256 for entry in opened.manifest.files}
    found: dict[str, tuple[Manifest, BlockEntry]] = {}
    for version in reversed(opened.folder.versions()):
        with suppress(AsifError):  # `verify` reports it, or it was deleted meanwhile
            manifest = opened.folder.manifest(version)
            for entry in manifest.files:
                if entry.sha256 not in own:
                    found.setdefault(entry.sha256, (manifest, entry))
    return found
