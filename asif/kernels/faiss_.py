"""Top-k similarity with candidates from faiss's flat index, ranked by canonical scores: an oracle for tests.

The error of faiss's float32 products has a proved bound. Somewhat more than k candidates are searched; if the k-th
canonical score exceeds the lowest of their products by more than the bound, the result is certain. Otherwise
(near-ties) the query is searched again exhaustively.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.errors import MissingDependency
from asif.kernels import torch_
from asif.kernels.canonical import round_to_grid
from asif.vectors import Float32, Int64, TopK

BLOCK_BYTES = 2**28  # of float32 anchors that are indexed at a time
_ITERATIONS, _ROWS_PER_CENTROID = 10, 64  # of k-means
_GATHERED_ENTRIES = 2**23  # entries of candidates that are scored at a time


def topk_similarity(queries: Float32, anchors: Sequence[NDArray[Any]], k: int) -> TopK:
    """Search candidates, compute their canonical scores, and search again for queries without a certain result."""
    count = sum(map(len, anchors))
    proposals = min(count, k + max(16, k // 4))
    proposed, lowest = _propose_candidates(queries, anchors, proposals)
    starts = np.cumsum([0, *map(len, anchors)])
    indices, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    step = max(1, _GATHERED_ENTRIES // (proposals * queries.shape[1]))
    for at in range(0, len(queries), step):
        some = slice(at, at + step)
        rows = round_to_grid(_gather_candidates(anchors, starts, proposed[some]))
        exact = np.einsum("qd,qnd->qn", round_to_grid(queries[some]), rows).astype(np.float32) + np.float32(0)
        order = np.lexsort((proposed[some], -exact), axis=1)[:, :k]
        indices[some] = np.take_along_axis(proposed[some], order, axis=1)
        scores[some] = np.take_along_axis(exact, order, axis=1)
    unsure = (
        np.flatnonzero(scores[:, -1] <= lowest + _bound_error(queries.shape[1]))
        if proposals < count
        else np.empty(0, int)
    )
    if unsure.size:
        again = torch_.topk_similarity(queries[unsure], anchors, k)
        indices[unsure], scores[unsure] = again.indices, again.scores
    return TopK(indices, scores)


def _bound_error(dim: int) -> float:
    """Bound |float32 product - canonical score| of rows at most sqrt(2) long, in any order of summation."""
    return float(2 * 1.01 * (dim + 8) * 2.0**-24 + 4 * dim**0.5 * 2.0**-27 + 2.0**-23)


def _propose_candidates(queries: Float32, anchors: Sequence[NDArray[Any]], proposals: int) -> tuple[Int64, Float32]:
    """Return the indices of faiss's best candidates [q, m], and the lowest of their products for each query [q]."""
    try:
        import faiss
    except ImportError as error:
        raise MissingDependency("the engine is faiss", "the library faiss", "pip install faiss-cpu") from error
    products, indices = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    contiguous = np.ascontiguousarray(queries, np.float32)
    first, rows = 0, max(1, BLOCK_BYTES // (4 * queries.shape[1]))
    for block in anchors:
        for start in range(0, len(block), rows):
            part = np.ascontiguousarray(block[start : start + rows], np.float32)
            index = faiss.IndexFlatIP(queries.shape[1])
            index.add(part)
            found, places = index.search(contiguous, min(proposals, len(part)))
            products = np.concatenate([products, found], axis=1)
            indices = np.concatenate([indices, places + first], axis=1)
            first += len(part)
            if products.shape[1] > proposals:
                best = np.argpartition(-products, proposals - 1, axis=1)[:, :proposals]
                products = np.take_along_axis(products, best, axis=1)
                indices = np.take_along_axis(indices, best, axis=1)
    return indices, products.min(axis=1)


def _gather_candidates(anchors: Sequence[NDArray[Any]], starts: Int64, indices: Int64) -> NDArray[Any]:
    """Gather the anchors at `indices` [q, n], numbered over all blocks: [q, n, d] float32."""
    owners = np.searchsorted(starts, indices, side="right") - 1
    rows = np.empty((*indices.shape, anchors[0].shape[1]), np.float32)
    for owner in np.unique(owners):
        mine = owners == owner
        rows[mine] = np.asarray(anchors[owner][indices[mine] - starts[owner]], np.float32)
    return rows


def find_centroids(rows: Float32, count: int) -> Float32:
    """Find at most `count` centroids [c, d] of rows [n, d] by k-means, in a sample of 64 rows for each centroid."""
    import faiss

    kmeans = faiss.Kmeans(
        rows.shape[1],
        min(count, len(rows)),
        niter=_ITERATIONS,
        seed=0,
        min_points_per_centroid=1,
        max_points_per_centroid=_ROWS_PER_CENTROID,
    )
    kmeans.train(rows)
    return np.asarray(kmeans.centroids, np.float32)
