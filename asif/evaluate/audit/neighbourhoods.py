"""Neighbourhoods: the anchors nearest to each query, itself and its copies left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Aligner, Anchors
from asif.aligners.fused import Fused
from asif.aligners.relative import CentredBlocks, Relative, centred
from asif.evaluate.audit.near_duplicates import LOOKED_AT, Alike
from asif.kernels import Engine, topk_similarity
from asif.vectors import Float32, Int64, Side, TopK, gathered

BATCH = 1024
NOBODY = -1
"""Stands where a neighbourhood has fewer anchors than others."""


@dataclass(frozen=True)
class Space:
    """Hold one side of an anchor set as neighbours are searched in: as stored, or about its mean."""

    stored: Sequence[NDArray[Any]]
    mean: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, anchors: Anchors, side: Side, centre: bool) -> Space:
        """Take one side of an anchor set."""
        return cls(anchors.blocks(side), anchors.mean(side) if centre else None)

    @cached_property
    def blocks(self) -> Sequence[NDArray[Any]]:
        """Return the blocks that are searched."""
        return self.stored if self.mean is None else CentredBlocks(self.stored, self.mean)

    @cached_property
    def count(self) -> int:
        """Count the anchors."""
        return sum(map(len, self.stored))

    def placed(self, vectors: NDArray[Any]) -> Float32:
        """Bring unit vectors [n, d] into this space."""
        return vectors.astype(np.float32) if self.mean is None else centred(vectors, self.mean)

    def own(self, rows: Int64) -> Float32:
        """Return anchors, by ascending rows, as queries [n, d]."""
        return self.placed(gathered(self.stored, rows))


def relative_of(aligner: Aligner) -> Relative | None:
    """Return the aligner, or the part of a sum, that represents inputs by anchors; None where there is none."""
    if isinstance(aligner, Fused):
        return next((found for each in aligner.members if (found := relative_of(each.aligner)) is not None), None)
    return aligner if isinstance(aligner, Relative) else None


def left_out(
    space: Space,
    rows: Int64,
    k: int,
    twins: Int64,
    alike: Alike,
    kernel: Engine = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Int64:
    """Find the k anchors nearest to each of the anchors at `rows`, as if it and its copies were not there: [q, k].

    Copies are anchors with the same stored image, by `twins`, and near duplicates of it. Nearest first, equal ones by
    row; only such with a similarity above zero. NOBODY fills what is missing: where copies are more than LOOKED_AT,
    neighbours may be. Memory: [q, k], and a batch of wider lists.
    """
    keys, parts = alike.keys, [np.empty((0, k), np.int64)]
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        found = topk_similarity(space.own(some), space.blocks, k + 1 + LOOKED_AT, engine=kernel)
        copies = twins[found.indices] == twins[some][:, None]
        copies |= among(some[:, None] * alike.count + found.indices, keys)
        parts.append(kept(found, copies, k))
        progress(len(some))
    return np.concatenate(parts)


def of_queries(
    space: Space,
    vectors: Float32,
    k: int,
    kernel: Engine = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Int64:
    """Find the k anchors nearest to each query [q, d], those with a similarity above zero: [q, k]."""
    parts = [np.empty((0, k), np.int64)]
    for start in range(0, len(vectors), BATCH):
        found = topk_similarity(space.placed(vectors[start : start + BATCH]), space.blocks, k, engine=kernel)
        parts.append(kept(found, np.zeros(found.indices.shape, bool), k))
        progress(len(found.indices))
    return np.concatenate(parts)


def kept(found: TopK, out: NDArray[np.bool_], k: int) -> Int64:
    """Return the first k of each list that are not `out` and are similar at all.

    >>> found = TopK(np.array([[4, 2, 7]]), np.array([[0.9, 0.8, 0.0]], np.float32))
    >>> kept(found, found.indices == 4, 2).tolist()
    [[2, -1]]
    """
    out = out | (found.scores <= 0)
    order = np.argsort(out, axis=1, kind="stable")[:, :k]
    lists = np.where(np.take_along_axis(out, order, 1), NOBODY, np.take_along_axis(found.indices, order, 1))
    return np.pad(lists, ((0, 0), (0, k - lists.shape[1])), constant_values=NOBODY)


def among(values: Int64, known: Int64) -> NDArray[np.bool_]:
    """Tell which values are among ascending known ones.

    >>> among(np.array([[1, 2], [3, 4]]), np.array([2, 3])).tolist()
    [[False, True], [True, False]]
    """
    if not len(known):
        return np.zeros(values.shape, bool)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[place] == values)
