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
    """The candidates of queries: `per_candidate` consecutive rows each, of which the best one gives the score.

    `biases` [rows] are the biases of a hubness correction, which are subtracted from the scores.
    """

    rows: Rows
    per_candidate: int = 1
    biases: Float32 | None = None

    def __len__(self) -> int:
        return len(self.rows) // self.per_candidate

    @cached_property
    def prepared(self) -> PreparedRows:
        """The rows, prepared for comparisons; with biases each row has one more entry, the negative bias."""
        return prepare_rows(self.rows if self.biases is None else append_bias(self.rows, -self.biases))

    def extend_queries(self, queries: Rows) -> Rows:
        """Return queries that fit the prepared rows: with biases each has one more entry, a 1."""
        return queries if self.biases is None else append_bias(queries, np.ones(len(queries), np.float32))


def score_candidates(queries: Rows, candidates: Candidates) -> Float32:
    """Score every candidate for every query: [q, c]; the maximum over a candidate's rows, minus biases.

    >>> from asif.vectors import SparseRows
    >>> rows = SparseRows(np.array([[0], [1]]), np.array([[1.0], [1.0]], np.float32), 2)
    >>> score_candidates(rows, Candidates(rows)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> score_candidates(rows, Candidates(rows, per_candidate=2)).tolist()
    [[1.0], [1.0]]
    """
    by_row = compute_similarity(candidates.extend_queries(queries), candidates.prepared)
    best: Float32 = by_row.reshape(len(queries), len(candidates), candidates.per_candidate).max(axis=2)
    return best


def rank_candidates(queries: Rows, candidates: Candidates, k: int) -> TopK:
    """Find the k best candidates per query, score descending, then smaller index.

    If each candidate is one row, the scores of all candidates are never in memory at once.
    """
    if candidates.per_candidate == 1:
        return find_nearest(candidates.extend_queries(queries), candidates.prepared, k)
    return select_topk(score_candidates(queries, candidates), k)


def find_best_row(query: Rows, candidates: Candidates, candidate: int) -> int:
    """Find the row that gives a candidate its score for one query; ties go to the smaller index."""
    first = candidate * candidates.per_candidate
    some = slice(first, first + candidates.per_candidate)
    biases = None if candidates.biases is None else candidates.biases[some]
    return first + int(np.argmax(score_candidates(query, Candidates(candidates.rows[some], biases=biases))[0]))
