"""The definitions in plain numpy: slow, with all scores in memory; the oracle in tests of every other engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.kernels.canonical import compute_scales, round_to_grid
from asif.vectors import Float32, SparseRows, TopK


def score_pairs(queries: NDArray[Any], anchors: NDArray[Any]) -> Float32:
    """Return the canonical score of every query [q, d] with every anchor [n, d]: [q, n]."""
    exact = np.array([[np.sum(q * a) for a in round_to_grid(anchors)] for q in round_to_grid(queries)])
    return exact.reshape(len(queries), len(anchors)).astype(np.float32)


def select_topk(all_scores: Float32, k: int) -> TopK:
    """Keep the k best of [q, n], score descending, then smaller index."""
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, :k]
    return TopK(order.astype(np.int64), np.take_along_axis(all_scores, order, axis=1))


def topk_similarity(queries: Float32, anchors: Sequence[NDArray[Any]], k: int) -> TopK:
    """Score all anchors, sort, and keep the k best."""
    return select_topk(score_pairs(queries, np.concatenate([np.asarray(block, np.float32) for block in anchors])), k)


def sparse_similarity(a: SparseRows, b: SparseRows) -> Float32:
    """Scale both sides as dense rows, round, multiply, and scale back: [a, b]."""
    left, right = compute_scales(a.values), compute_scales(b.values)
    exact = [[np.sum(x * y) for y in round_to_grid(b.to_dense() / right)] for x in round_to_grid(a.to_dense() / left)]
    scores: Float32 = (np.reshape(exact, (len(a), len(b))) * left * right.T).astype(np.float32)
    return scores + np.float32(0)  # not -0.0


def sparse_topk(queries: SparseRows, gallery: SparseRows, k: int) -> TopK:
    """Score all rows, sort, and keep the k best."""
    return select_topk(sparse_similarity(queries, gallery), k)
