"""An anchor set whose rows are searched, and summed over, by workers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Moments
from asif.aligners.relative import CentredBlocks
from asif.anchorset import AnchorSet
from asif.engine.sharded.worker import SetPlace
from asif.engine.sharded.workers import SearchWorkers
from asif.kernels.remote import RemoteBlocks
from asif.vectors import Float32, Side, TopK

_SENT_BYTES = 16 << 20
"""Bytes of queries that are sent to each worker at a time."""


class ShardedBlocks(list[NDArray[Any]], RemoteBlocks):
    """Blocks of one side of a set, which workers search."""

    def __init__(self, opened: AnchorSet, side: Side, workers: SearchWorkers, mean: NDArray[np.float64] | None) -> None:
        super().__init__(AnchorSet.blocks(opened, side))
        self._place, self._side, self._workers, self._mean = SetPlace.of(opened), side, workers, mean
        self._opened = opened

    def find_topk(self, queries: Float32, k: int) -> TopK:
        """Find the k rows most similar to each query, of all workers."""
        step = max(1, _SENT_BYTES // max(1, queries.nbytes // max(1, len(queries))))
        found = [
            self._workers.find_best(
                k, "find_topk", self._place, self._side, queries[start : start + step], k, self._mean
            )
            for start in range(0, len(queries), step)
        ]
        return TopK(np.concatenate([each.indices for each in found]), np.concatenate([each.scores for each in found]))

    def centre(self, mean: NDArray[np.float64]) -> CentredShards:
        """Return the same rows after subtraction of a mean, scaled to unit length."""
        return CentredShards(ShardedBlocks(self._opened, self._side, self._workers, mean), mean)


class CentredShards(RemoteBlocks):
    """Centred blocks, which workers centre and search; those that are read here are centred here."""

    def __init__(self, shards: ShardedBlocks, mean: NDArray[np.float64]) -> None:
        self._shards, self._read = shards, CentredBlocks(shards, mean)

    @overload
    def __getitem__(self, at: int) -> Float32: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Float32]: ...
    def __getitem__(self, at: int | slice) -> Float32 | Sequence[Float32]:
        return self._read[at]

    def __len__(self) -> int:
        return len(self._read)

    def find_topk(self, queries: Float32, k: int) -> TopK:
        """Find the k rows most similar to each query, of all workers."""
        return self._shards.find_topk(queries, k)

    def centre(self, mean: NDArray[np.float64]) -> RemoteBlocks:
        """Return the rows about another mean."""
        return self._shards.centre(mean)


class ShardedAnchorSet(AnchorSet):
    """A version of an anchor set, opened; `topk_similarity` over its blocks is done by workers, each with a share."""

    def __init__(self, opened: AnchorSet, workers: SearchWorkers) -> None:
        super().__init__(opened.folder, opened.version)
        self._workers = workers

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        """Return the embeddings of one side as stored, mapped, in blocks that workers search."""
        self._open_blocks()
        return ShardedBlocks(self, side, self._workers, None)

    def sum_moments(self) -> Moments:
        """Sum over the pairs: workers sum over their shares, and the sums are added in the order of rows."""
        found = self._workers.call("sum_moments", SetPlace.of(self))
        return reduce(add, [Moments.from_arrays(arrays) for arrays in found if arrays is not None])
