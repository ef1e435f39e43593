"""One aligner answers the held-out questions: its scores, those of its bank, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Fitted, Hubness, make_aligner
from asif.aligners.fused import spread
from asif.aligners.sampling import strangers
from asif.kernels import similarity
from asif.tuning.criteria import Float64, Task, ahead, chance_of_first, reciprocal
from asif.tuning.splits import Questions
from asif.vectors import Float32

BANK_ROWS = 2_048
MOST_NEIGHBOURS = 128


@dataclass(frozen=True, eq=False)
class Scores:
    """Hold what an aligner says of one division, divided by its spread.

    `table` [images, texts]; `banks` the bank's images with the texts [b, texts] and, where search is the task, the
    images with the bank's texts [images, b].
    """

    table: Float32
    banks: tuple[Float32, ...]

    def plus(self, other: Scores, weight: float) -> Scores:
        """Add up with another aligner's, weighed."""
        banks = tuple(mine + np.float32(weight) * theirs for mine, theirs in zip(self.banks, other.banks, strict=True))
        return Scores(self.table + np.float32(weight) * other.table, banks)


def answers(name: str, questions: Questions, task: Task, bank: bool) -> Scores:
    """Fit an aligner to the rest and ask it; with its bank where scores are to be corrected."""
    return asked(make_aligner(name).fit(questions.fitted), questions, task, bank)


def asked(fitted: Fitted, questions: Questions, task: Task, bank: bool) -> Scores:
    """Ask an aligner that was fitted to the rest."""
    images, texts = fitted.represent("image", questions.images), fitted.represent("text", questions.texts)
    banks: list[Float32] = []
    if bank:
        banks.append(similarity(strangers(fitted, questions.fitted, "image", BANK_ROWS), texts))
        if task == "search":
            banks.append(similarity(images, strangers(fitted, questions.fitted, "text", BANK_ROWS)))
    unit = np.float32(spread(fitted, questions.fitted) or 1)
    return Scores(similarity(images, texts) / unit, tuple(each / unit for each in banks))


class Corrector:
    """Take hubness off a division's scores; the highest similarities to the bank are found once for all settings."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.best = [highest(bank if at == 0 else bank.T) for at, bank in enumerate(scores.banks)]

    def corrected(self, hubness: Hubness, direction: int) -> Float32:
        """Return the table [queries, candidates]: images ask of texts in direction 0, texts of images in 1."""
        table = self.scores.table if direction == 0 else self.scores.table.T
        if hubness.method == "none":
            return table
        bias = hubness.alpha * self.best[direction][: hubness.k].mean(axis=0)
        return np.asarray(table - bias, np.float32)


def highest(bank: Float32) -> Float32:
    """Return each column's highest entries, descending [at most MOST_NEIGHBOURS, c]."""
    most = min(MOST_NEIGHBOURS, len(bank))
    found = np.partition(bank, len(bank) - most, axis=0)[len(bank) - most :]
    return np.asarray(-np.sort(-found, axis=0), np.float32)


def worth(table: Float32, right: NDArray[np.bool_], task: Task) -> Float64:
    """Return what every question of one direction is worth [q], from 0 to 1."""
    above = ahead(table, right)
    return reciprocal(above) if task == "search" else chance_of_first(above, (~right).sum(axis=1))


def judged(corrector: Corrector, hubness: Hubness, right: NDArray[np.bool_], task: Task) -> Float64:
    """Return what every held-out question is worth: labels of images, or search in both directions [q]."""
    forward = worth(corrector.corrected(hubness, 0), right, task)
    if task == "classify":
        return forward
    return np.concatenate([forward, worth(corrector.corrected(hubness, 1), right.T, task)])
