"""The anchors nearest to the items of a gallery, kept by block, so that an edit of the anchors costs a small search.

Relative representations are made of them, alone or as part of a sum. Linear maps change with any pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from asif.aligners.fused import FittedFused, find_relative
from asif.aligners.neighbours import SPARE, Neighbours
from asif.aligners.relative import FittedRelative
from asif.anchorset import AnchorSet
from asif.anchorset.format.fit_cache import FitKey, hash_anchors
from asif.engine.search.block_copies import CopiedRows
from asif.engine.search.row_cache import NEIGHBOURS
from asif.engine.search.row_match import are_equal_rows, match_hashes, shorten_hashes
from asif.errors import AsifError
from asif.kernels import KernelName, topk_similarity
from asif.vectors import Embeddings, Int64, Rows, Side, TopK, gather_rows


@dataclass(frozen=True)
class AnchorChange:
    """Hold the `numbers` that the anchors of another version have in this one [N], -1 for none; and those `added`."""

    numbers: Int64
    added: Int64

    @classmethod
    def between(cls, old: AnchorSet, new: AnchorSet, side: Side) -> AnchorChange:
        """Find the anchors of two versions with equal row hashes and equal embeddings of one side."""
        before, after = (
            np.concatenate([shorten_hashes(each.row_hashes(at)) for at in range(len(each.manifest.blocks))])
            for each in (old, new)
        )
        order = np.argsort(after, kind="stable")
        numbers, start = match_hashes(after[order], order, before), 0
        for block in old.blocks(side):
            here = numbers[start : start + len(block)]
            known = np.flatnonzero(here >= 0)
            same = are_equal_rows(block[known], gather_rows(new.blocks(side), here[known]))
            here[known[~same]] = -1
            start += len(block)
        return cls(numbers, np.setdiff1d(np.arange(new.count), numbers))


@dataclass(frozen=True)
class BlockNeighbours:
    """Represent blocks of a gallery by an aligner with a relative member, from neighbours over another version.

    `other` is the hash of that version's anchors, None without any.
    """

    gallery: AnchorSet
    anchors: AnchorSet
    fitted: FittedRelative | FittedFused
    relative: FittedRelative
    side: Side
    kernel: KernelName
    other: str | None = None
    change: AnchorChange | None = None

    @classmethod
    def of(
        cls, gallery: AnchorSet, anchors: Any, fitted: Any, side: Side, kernel: KernelName, blocks: Iterable[str]
    ) -> BlockNeighbours | None:
        """Look for neighbours of these blocks over another version of the anchors; None for an aligner without any."""
        relative = find_relative(fitted)
        if not isinstance(anchors, AnchorSet) or relative is None:
            return None
        plain = cls(gallery, anchors, fitted, relative, side, kernel)
        for version in reversed(anchors.folder.versions()):
            with suppress(AsifError):  # `verify` reports it, or it was deleted meanwhile
                other = hash_anchors(anchors.folder.manifest(version))
                kept = any(gallery.has_fit_of(plain._key(block, other)) for block in blocks)
                if kept and other != hash_anchors(anchors.manifest):
                    with AnchorSet(anchors.folder, version) as old:
                        change = AnchorChange.between(old, anchors, side)
                    return replace(plain, other=other, change=change)
        return plain

    @cached_property
    def _parameters(self) -> Mapping[str, Any]:
        return {"k": self.relative.aligner.k, "side": self.side}

    def _key(self, block: str, anchors: str) -> FitKey:
        return FitKey(block, anchors, {"name": NEIGHBOURS, "parameters": {"anchors": anchors, **self._parameters}})

    def make_key(self, block: str) -> FitKey:
        """Return the key under which the neighbours of a block are kept."""
        return self._key(block, hash_anchors(self.anchors.manifest))

    def find(self, block: str, embeddings: Embeddings, copies: Sequence[CopiedRows], rest: Int64) -> Neighbours | None:
        """Find the neighbours of a block's embeddings [n, d].

        They are those of `copies` in other blocks, if there are any, and the `rest` is searched for; else they are made
        of those over the other version of the anchors, or by a search. None if they are not kept of all copies.
        """
        if copies:
            return self._join(embeddings, copies, rest)
        return self._update(block, embeddings) or self._search(embeddings)

    def represent(self, embeddings: Embeddings, near: Neighbours) -> Rows:
        """Represent embeddings whose neighbours were found."""
        return self.fitted.represent_neighbours(self.side, embeddings, near, self.kernel)

    def _search(self, embeddings: Embeddings) -> Neighbours:
        return self.relative.find_neighbours(self.side, embeddings, self.kernel)

    def _read(self, key: FitKey) -> Neighbours | None:
        with suppress(AsifError):  # damaged: `verify` reports it
            arrays = self.gallery.cached_fit_of(key)
            return None if arrays is None else Neighbours.from_arrays(arrays)
        return None

    def _join(self, embeddings: Embeddings, copies: Sequence[CopiedRows], rest: Int64) -> Neighbours | None:
        parts = []
        for copy in copies:
            near = self._read(self.make_key(copy.sha256))
            if near is None:
                return None
            parts.append(near.take(copy.theirs))
        if len(rest):
            parts.append(self._search(Embeddings(embeddings.values[rest])))
        return Neighbours.join(parts, np.concatenate([*(copy.mine for copy in copies), rest]))

    def _update(self, block: str, embeddings: Embeddings) -> Neighbours | None:
        """Return the neighbours of a block by those over the other version; None if most must be searched for."""
        if self.other is None or self.change is None or 2 * len(self.change.added) > self.anchors.count:
            return None
        near = self._read(self._key(block, self.other))
        if near is None:
            return None
        near = near.update(self.change.numbers, self._find_added(embeddings)).narrow(self.relative.k + SPARE)
        few = np.flatnonzero(~near.are_enough(self.relative.k))
        if 2 * len(few) > len(near):
            return None
        if not len(few):
            return near
        found = self._search(Embeddings(embeddings.values[few]))
        width = min(near.width, found.width)
        return near.narrow(width).replace_rows(few, found.narrow(width))

    def _find_added(self, embeddings: Embeddings) -> Neighbours:
        """Find the nearest of the anchors that the other version does not have."""
        assert self.change is not None
        added, count = self.change.added, len(embeddings)
        if not len(added):
            return Neighbours.of(TopK(np.empty((count, 0), np.int64), np.empty((count, 0), np.float32)), 0)
        blocks = [gather_rows(self.anchors.blocks(self.side), added)]
        most = min(len(added), self.relative.k + SPARE)
        found = topk_similarity(embeddings.values, blocks, most, engine=self.kernel)
        return Neighbours.of(TopK(added[found.indices], found.scores), len(added))
