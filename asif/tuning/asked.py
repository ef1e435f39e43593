"""One aligner answers the held-out questions: its scores, those of its bank, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Hubness, make_aligner
from asif.aligners.fused import spread
from asif.aligners.sampling import strangers
from asif.kernels import similarity
from asif.tuning.criteria import Float64, Task, ahead, chance_of_first, reciprocal
from asif.tuning.held_out import Questions
from asif.vectors import Embeddings, Float32, Rows, Side

BLURS = (0.6, 0.3)  # cosines of a blurred image to itself: labels are asked of images unlike the anchors'
BANK_ROWS = 2_048
MOST_NEIGHBOURS = 128


@dataclass(frozen=True, eq=False)
class Scores:
    """Hold what an aligner says of one division, divided by its spread.

    `tables` [images, texts] for the images as they are and, where labels are the task, blurred; `banks` the bank's
    images with the texts [b, texts] and, where search is the task, the images with the bank's texts [images, b].
    """

    tables: tuple[Float32, ...]
    banks: tuple[Float32, ...]

    def plus(self, other: Scores, weight: float) -> Scores:
        """Add up with another aligner's, weighed."""
        tables = tuple(
            mine + np.float32(weight) * theirs for mine, theirs in zip(self.tables, other.tables, strict=True)
        )
        banks = tuple(mine + np.float32(weight) * theirs for mine, theirs in zip(self.banks, other.banks, strict=True))
        return Scores(tables, banks)


def answers(name: str, questions: Questions, blurred: Sequence[Embeddings], task: Task, bank: bool) -> Scores:
    """Fit an aligner to the rest and ask it."""
    fitted = make_aligner(name).fit(questions.fitted)
    texts = fitted.represent("text", questions.texts)
    images = [fitted.represent("image", asked) for asked in (questions.images, *blurred)]
    tables = [similarity(rows, texts) for rows in images]
    banks: list[Float32] = []
    if bank:

        def behind(side: Side) -> Rows:
            return strangers(fitted, questions.fitted, side, BANK_ROWS)

        banks.append(similarity(behind("image"), texts))
        if task == "search":
            banks.append(similarity(images[0], behind("text")))
    unit = np.float32(spread(fitted, questions.fitted) or 1)
    return Scores(tuple(table / unit for table in tables), tuple(each / unit for each in banks))


class Corrector:
    """Take hubness off a division's scores; the highest similarities to the bank are found once for all settings."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.best = [highest(bank if at == 0 else bank.T) for at, bank in enumerate(scores.banks)]

    def corrected(self, hubness: Hubness, direction: int) -> list[Float32]:
        """Return the tables [queries, candidates]: images ask of texts in direction 0, texts of images in 1."""
        tables = [table if direction == 0 else table.T for table in self.scores.tables]
        if hubness.method == "none":
            return tables
        bias = hubness.alpha * self.best[direction][: hubness.k].mean(axis=0)
        return [table - bias for table in tables]


def highest(bank: Float32) -> Float32:
    """Return each column's highest entries, descending [at most MOST_NEIGHBOURS, c]."""
    most = min(MOST_NEIGHBOURS, len(bank))
    found = np.partition(bank, len(bank) - most, axis=0)[len(bank) - most :]
    return np.asarray(-np.sort(-found, axis=0), np.float32)


def worth(tables: Sequence[Float32], right: NDArray[np.bool_], task: Task) -> Float64:
    """Return what every question of one direction is worth [q], from 0 to 1."""
    if task == "search":
        return reciprocal(ahead(tables[0], right))
    wrong = (~right).sum(axis=1)
    return np.asarray(np.mean([chance_of_first(ahead(table, right), wrong) for table in tables], axis=0), np.float64)


def judged(corrector: Corrector, hubness: Hubness, right: NDArray[np.bool_], task: Task) -> Float64:
    """Return what every held-out question is worth: labels of images, or search in both directions [q]."""
    forward = worth(corrector.corrected(hubness, 0), right, task)
    if task == "classify":
        return forward
    return np.concatenate([forward, worth(corrector.corrected(hubness, 1), right.T, task)])
