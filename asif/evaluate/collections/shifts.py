"""What a distribution shift costs: the drop of accuracy, and effective robustness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asif.evaluate.collections.definition import CollectionEntry, ReferenceModel

_LEAST_SHARE = 1e-4  # accuracies nearer to 0 or 1 are taken as this far from it, so that their logits are finite


@dataclass(frozen=True)
class Shift:
    """Hold the accuracies on a data set and on a shifted version of it, shares of 1.

    `drop` is their difference. `expected` is the accuracy of the shifted version that standard models with the same
    original accuracy have, by a line through their logits, and `effective_robustness` the accuracy above it (Taori et
    al., NeurIPS 2020); both are None with fewer than two `references` that have both accuracies.
    """

    dataset: str
    shift_of: str
    original: float
    shifted: float
    expected: float | None
    references: int

    @property
    def drop(self) -> float:
        return self.original - self.shifted

    @property
    def effective_robustness(self) -> float | None:
        return None if self.expected is None else self.shifted - self.expected

    def to_json(self) -> dict[str, float | int | str | None]:
        """Return the JSON object."""
        return {
            "dataset": self.dataset,
            "shift_of": self.shift_of,
            "original_acc1": self.original,
            "shifted_acc1": self.shifted,
            "drop": self.drop,
            "expected_acc1": self.expected,
            "effective_robustness": self.effective_robustness,
            "references": self.references,
        }


def measure_shifts(
    entries: Sequence[CollectionEntry], accuracies: Mapping[str, float], references: Sequence[ReferenceModel]
) -> tuple[Shift, ...]:
    """Measure every shift of which both accuracies are known, by the names of data sets."""
    shifts = []
    for entry in entries:
        base = entry.shift_of
        if base is None or entry.name not in accuracies or base not in accuracies:
            continue
        known = [
            (each.figures[base], each.figures[entry.name])
            for each in references
            if base in each.figures and entry.name in each.figures
        ]
        expected = predict_shifted(known, accuracies[base])
        shifts.append(Shift(entry.name, base, accuracies[base], accuracies[entry.name], expected, len(known)))
    return tuple(shifts)


def predict_shifted(known: Sequence[tuple[float, float]], original: float) -> float | None:
    """Predict the shifted accuracy from pairs (original, shifted): least squares on logits.

    None with fewer than two different original accuracies.

    >>> predict_shifted([(0.5, 0.25), (0.75, 0.5)], 0.5), predict_shifted([(0.5, 0.25)], 0.5)
    (0.25, None)
    """
    if len({first for first, _ in known}) < 2:
        return None
    x, y = (np.array([_logit(value) for value in side]) for side in zip(*known, strict=True))
    slope, offset = np.polyfit(x, y, 1)
    return round(1 / (1 + math.exp(-(slope * _logit(original) + offset))), 12)


def _logit(share: float) -> float:
    share = min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE)
    return math.log(share / (1 - share))
