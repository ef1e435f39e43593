"""Rank candidates for queries by the inner product of their representations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asif.kernels import SparseIndex, sparse_similarity, sparse_topk, topk
from asif.vectors import Float32, SparseRows, TopK


@dataclass(frozen=True)
class Candidates:
    """Hold what queries are compared with: `per_candidate` consecutive rows each, of which the best one counts."""

    rows: SparseRows
    per_candidate: int = 1

    def __len__(self) -> int:
        return len(self.rows) // self.per_candidate

    @cached_property
    def index(self) -> SparseIndex:
        """The rows, prepared once for all comparisons."""
        return SparseIndex(self.rows)


def scores(queries: SparseRows, candidates: Candidates) -> Float32:
    """Score every candidate for every query: [q, c]; the maximum over a candidate's rows.

    >>> rows = SparseRows(np.array([[0], [1]]), np.array([[1.0], [1.0]], np.float32), 2)
    >>> scores(rows, Candidates(rows)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> scores(rows, Candidates(rows, per_candidate=2)).tolist()
    [[1.0], [1.0]]
    """
    every = sparse_similarity(queries, candidates.index)
    best: Float32 = every.reshape(len(queries), len(candidates), candidates.per_candidate).max(axis=2)
    return best


def rank(queries: SparseRows, candidates: Candidates, k: int) -> TopK:
    """Find the k best candidates per query, score descending, then smaller index.

    Where a candidate is one row, memory does not hold the scores of all candidates.
    """
    if candidates.per_candidate == 1:
        return sparse_topk(queries, candidates.index, k)
    return topk(scores(queries, candidates), k)


def best_row(query: SparseRows, candidates: Candidates, candidate: int) -> SparseRows:
    """Return the one row of a candidate that its score for this query came from."""
    first = candidate * candidates.per_candidate
    rows = candidates.rows[first : first + candidates.per_candidate]
    at = int(np.argmax(sparse_similarity(query, rows)[0]))
    return rows[at : at + 1]
