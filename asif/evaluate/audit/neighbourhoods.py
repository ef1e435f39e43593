"""Neighbourhoods: the anchors nearest to each query; an anchor's own copies are excluded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Aligner, Anchors
from asif.aligners.fused import Fused
from asif.aligners.relative import CentredBlocks, Relative, centre_rows
from asif.evaluate.audit.near_duplicates import MAX_COPIES, ExcludedCopies
from asif.kernels import KernelName, topk_similarity
from asif.vectors import Float32, Int64, Side, TopK, gather_rows

NO_NEIGHBOUR = -1
"""Fills the end of a neighbourhood that has fewer than k anchors."""

_BATCH = 1024


@dataclass(frozen=True)
class SearchSpace:
    """Hold one side of an anchor set for the search of neighbours: as stored, or about its mean."""

    stored: Sequence[NDArray[Any]]
    mean: NDArray[np.float64] | None = None

    @classmethod
    def from_anchors(cls, anchors: Anchors, side: Side, centre: bool) -> SearchSpace:
        """Take one side of an anchor set."""
        return cls(anchors.blocks(side), anchors.mean(side) if centre else None)

    @cached_property
    def blocks(self) -> Sequence[NDArray[Any]]:
        """Return the blocks that are searched."""
        return self.stored if self.mean is None else CentredBlocks(self.stored, self.mean)

    @cached_property
    def count(self) -> int:
        """Return the number of anchors."""
        return sum(map(len, self.stored))

    def transform(self, vectors: NDArray[Any]) -> Float32:
        """Return unit vectors [n, d] as queries of this space."""
        return vectors.astype(np.float32) if self.mean is None else centre_rows(vectors, self.mean)

    def transform_anchors(self, rows: Int64) -> Float32:
        """Return the anchors at ascending rows as queries of this space [n, d]."""
        return self.transform(gather_rows(self.stored, rows))


def find_relative(aligner: Aligner) -> Relative | None:
    """Return the aligner, or the member of a fused one, that represents inputs by anchors; None if there is none."""
    if isinstance(aligner, Fused):
        return next((found for each in aligner.members if (found := find_relative(each.aligner)) is not None), None)
    return aligner if isinstance(aligner, Relative) else None


def find_anchor_neighbours(
    space: SearchSpace,
    k: int,
    copies: ExcludedCopies,
    kernel: KernelName = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Int64:
    """Find the k nearest anchors of each anchor at `copies.rows`, without itself and its copies: [q, k].

    Nearest first, ties by row, similarities above zero only; the rest is NO_NEIGHBOUR. An anchor with more copies than
    MAX_COPIES may have fewer neighbours. Memory: [q, k], and a batch of wider lists.
    """
    equal, near_pairs = copies.equal, copies.near_pairs
    keys, parts = near_pairs.keys, [np.empty((0, k), np.int64)]
    for start in range(0, len(copies.rows), _BATCH):
        rows = copies.rows[start : start + _BATCH]
        found = topk_similarity(space.transform_anchors(rows), space.blocks, k + 1 + MAX_COPIES, engine=kernel)
        excluded = equal[found.indices] == equal[rows][:, None]
        excluded |= is_in_sorted(rows[:, None] * near_pairs.count + found.indices, keys)
        parts.append(_drop_excluded(found, excluded, k))
        progress(len(rows))
    return np.concatenate(parts)


def find_query_neighbours(
    space: SearchSpace,
    vectors: Float32,
    k: int,
    kernel: KernelName = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Int64:
    """Find the k nearest anchors of each query [q, d], those with a similarity above zero: [q, k]."""
    parts = [np.empty((0, k), np.int64)]
    for start in range(0, len(vectors), _BATCH):
        found = topk_similarity(space.transform(vectors[start : start + _BATCH]), space.blocks, k, engine=kernel)
        parts.append(_drop_excluded(found, np.zeros(found.indices.shape, bool), k))
        progress(len(found.indices))
    return np.concatenate(parts)


def _drop_excluded(found: TopK, excluded: NDArray[np.bool_], k: int) -> Int64:
    """Return the first k of each list that are not excluded and have a similarity above zero.

    >>> found = TopK(np.array([[4, 2, 7]]), np.array([[0.9, 0.8, 0.0]], np.float32))
    >>> _drop_excluded(found, found.indices == 4, 2).tolist()
    [[2, -1]]
    """
    excluded = excluded | (found.scores <= 0)
    order = np.argsort(excluded, axis=1, kind="stable")[:, :k]
    indices = np.take_along_axis(found.indices, order, 1)
    lists = np.where(np.take_along_axis(excluded, order, 1), NO_NEIGHBOUR, indices)
    return np.pad(lists, ((0, 0), (0, k - lists.shape[1])), constant_values=NO_NEIGHBOUR)


def is_in_sorted(values: Int64, known: Int64) -> NDArray[np.bool_]:
    """Tell which values are in `known`, which is ascending.

    >>> is_in_sorted(np.array([[1, 2], [3, 4]]), np.array([2, 3])).tolist()
    [[False, True], [True, False]]
    """
    if not len(known):
        return np.zeros(values.shape, bool)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[place] == values)
