"""What held-out pairs say of a table of scores: how well it finds what belongs together."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from asif.vectors import Float32

Task = Literal["classify", "search"]
TASKS: tuple[Task, ...] = ("classify", "search")
Float64 = NDArray[np.float64]

CHOICES = 100  # labels of an imagined question


def ahead(scores: Float32, right: NDArray[np.bool_]) -> Float64:
    """Count, per query, the wrong candidates with a higher score than the best right one [q]; ties count half.

    `scores` [q, c] and `right` [q, c], at least one in every row.

    >>> ahead(np.array([[0.5, 0.9, 0.5, 0.1]], np.float32), np.array([[True, False, False, True]])).tolist()
    [1.5]
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    above, level = (scores > best) & ~right, (scores == best) & ~right
    return np.asarray(above.sum(axis=1) + level.sum(axis=1) / 2, np.float64)


def reciprocal(above: Float64) -> Float64:
    """Return the reciprocal rank of the best right candidate [q].

    >>> reciprocal(np.array([0.0, 1.0, 3.0])).tolist()
    [1.0, 0.5, 0.25]
    """
    return np.asarray(1 / (1 + above), np.float64)


def chance_of_first(above: Float64, wrong: NDArray[np.int64], choices: int = CHOICES) -> Float64:
    """Return how probably the right candidate comes first among `choices` of which the others are drawn at random [q].

    With a of w wrong candidates above it that is C(w - a, m - 1) / C(w, m - 1) for m choices, at most w + 1. The
    accuracy that one drawing would estimate, without its noise.

    >>> chance_of_first(np.array([1.0]), np.array([4]), 3).round(6).tolist()
    [0.5]
    """
    others = np.minimum(choices - 1, wrong)
    left = wrong - above
    drawable = left >= others

    def choose(total: Any) -> Float64:
        kept = np.maximum(total, others)
        return np.asarray(gammaln(kept + 1) - gammaln(kept - others + 1), np.float64)

    return np.where(drawable, np.exp(choose(left) - choose(wrong)), 0.0)
