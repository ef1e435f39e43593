"""Scores of an aligner on held-out queries, their hubness correction, and the criterion computed from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asif.aligners import FittedAligner, Hubness, make_aligner
from asif.aligners.sampling import compute_spread, represent_leave_one_out
from asif.kernels import compute_similarity
from asif.tuning.criteria import Task, compute_chance_of_first, compute_reciprocal_rank, count_candidates_ahead
from asif.tuning.splits import HeldOutQueries
from asif.vectors import Float32, Float64

MAX_BANK_ROWS = 2_048
_MAX_NEIGHBOURS = 128


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """Hold an aligner's scores on one fold, divided by their spread.

    `table` [images, texts]; `banks` are the scores of the query bank's images with the texts [b, texts] and, if the
    task is search, of the images with the bank's texts [images, b].
    """

    table: Float32
    banks: tuple[Float32, ...]

    def add_weighted(self, other: HeldOutScores, weight: float) -> HeldOutScores:
        """Add another aligner's scores, multiplied by a weight."""
        banks = tuple(mine + np.float32(weight) * theirs for mine, theirs in zip(self.banks, other.banks, strict=True))
        return HeldOutScores(self.table + np.float32(weight) * other.table, banks)


def fit_and_score(name: str, queries: HeldOutQueries, task: Task, bank: bool) -> HeldOutScores:
    """Fit an aligner to a fold's anchors and score its held-out queries; with `bank`, also those of the query bank."""
    return score_held_out(make_aligner(name).fit(queries.anchors), queries, task, bank)


def score_held_out(fitted: FittedAligner, queries: HeldOutQueries, task: Task, bank: bool) -> HeldOutScores:
    """Score held-out queries with an aligner that was fitted to the fold's anchors."""
    images, texts = fitted.represent("image", queries.images), fitted.represent("text", queries.texts)
    banks: list[Float32] = []
    if bank:
        banks.append(
            compute_similarity(represent_leave_one_out(fitted, queries.anchors, "image", MAX_BANK_ROWS), texts)
        )
        if task == "search":
            banks.append(
                compute_similarity(images, represent_leave_one_out(fitted, queries.anchors, "text", MAX_BANK_ROWS))
            )
    unit = np.float32(compute_spread(fitted, queries.anchors) or 1)
    return HeldOutScores(compute_similarity(images, texts) / unit, tuple(each / unit for each in banks))


class HubnessCorrector:
    """Correct one fold's scores for hubness; the highest similarities to the bank are found once."""

    def __init__(self, scores: HeldOutScores) -> None:
        self.scores = scores
        self.highest = [_find_highest(bank if at == 0 else bank.T) for at, bank in enumerate(scores.banks)]

    def correct(self, hubness: Hubness, direction: int) -> Float32:
        """Return the corrected table [queries, candidates]: images are the queries in direction 0, texts in 1."""
        table = self.scores.table if direction == 0 else self.scores.table.T
        if hubness.method == "none":
            return table
        if hubness.method == "lse":
            bank = self.scores.banks[direction]
            return np.asarray(table - hubness.average_softly(bank if direction == 0 else bank.T, 1.0), np.float32)
        bias = hubness.alpha * self.highest[direction][: hubness.k].mean(axis=0)
        return np.asarray(table - bias, np.float32)


def _find_highest(bank: Float32) -> Float32:
    """Return each column's highest entries, descending [at most MOST_NEIGHBOURS, c]."""
    count = min(_MAX_NEIGHBOURS, len(bank))
    highest = np.partition(bank, len(bank) - count, axis=0)[len(bank) - count :]
    return np.asarray(-np.sort(-highest, axis=0), np.float32)


def _score_one_direction(table: Float32, matches: NDArray[np.bool_], task: Task) -> Float64:
    """Compute the criterion for every query of one direction [q], from 0 to 1."""
    above = count_candidates_ahead(table, matches)
    return (
        compute_reciprocal_rank(above) if task == "search" else compute_chance_of_first(above, (~matches).sum(axis=1))
    )


def compute_query_scores(
    corrector: HubnessCorrector, hubness: Hubness, matches: NDArray[np.bool_], task: Task
) -> Float64:
    """Compute the criterion for every held-out query [q]: labels of images, or search in both directions."""
    forward = _score_one_direction(corrector.correct(hubness, 0), matches, task)
    if task == "classify":
        return forward
    return np.concatenate([forward, _score_one_direction(corrector.correct(hubness, 1), matches.T, task)])
