"""Rank candidates for queries by the inner product of their representations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asif.aligners.hubness import append_bias
from asif.kernels import PreparedRows, compute_similarity, find_nearest, prepare_rows, select_topk
from asif.vectors import Float32, Rows, TopK


@dataclass(frozen=True)
class Candidates:
    """Hold what queries are compared with: `per_candidate` consecutive rows each, of which the best one counts.

    `biases` [rows] are taken off the scores, where there are any: what a hubness correction found.
    """

    rows: Rows
    per_candidate: int = 1
    biases: Float32 | None = None

    def __len__(self) -> int:
        return len(self.rows) // self.per_candidate

    @cached_property
    def prepared(self) -> PreparedRows:
        """The rows as queries meet them, ready for all comparisons: with one entry more where there are biases."""
        return prepare_rows(self.rows if self.biases is None else append_bias(self.rows, -self.biases))

    def facing(self, queries: Rows) -> Rows:
        """Return queries as they meet the rows."""
        return queries if self.biases is None else append_bias(queries, np.ones(len(queries), np.float32))


def scores(queries: Rows, candidates: Candidates) -> Float32:
    """Score every candidate for every query: [q, c]; the maximum over a candidate's rows, biases taken off.

    >>> from asif.vectors import SparseRows
    >>> rows = SparseRows(np.array([[0], [1]]), np.array([[1.0], [1.0]], np.float32), 2)
    >>> scores(rows, Candidates(rows)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> scores(rows, Candidates(rows, per_candidate=2)).tolist()
    [[1.0], [1.0]]
    """
    every = compute_similarity(candidates.facing(queries), candidates.prepared)
    best: Float32 = every.reshape(len(queries), len(candidates), candidates.per_candidate).max(axis=2)
    return best


def rank(queries: Rows, candidates: Candidates, k: int) -> TopK:
    """Find the k best candidates per query, score descending, then smaller index.

    Where a candidate is one row, memory does not hold the scores of all candidates.
    """
    if candidates.per_candidate == 1:
        return find_nearest(candidates.facing(queries), candidates.prepared, k)
    return select_topk(scores(queries, candidates), k)


def best_row(query: Rows, candidates: Candidates, candidate: int) -> int:
    """Return which row of the candidates a candidate's score for this query came from."""
    first = candidate * candidates.per_candidate
    some = slice(first, first + candidates.per_candidate)
    biases = None if candidates.biases is None else candidates.biases[some]
    return first + int(np.argmax(scores(query, Candidates(candidates.rows[some], biases=biases))[0]))
