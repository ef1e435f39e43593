"""Criteria of tuning: how well a table of scores ranks the true pairs of held-out queries."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asif.vectors import Float32, Float64

Task = Literal["classify", "search"]
TASKS: tuple[Task, ...] = ("classify", "search")

_CHOICES = 100  # labels of a simulated classification


def count_candidates_ahead(scores: Float32, matches: NDArray[np.bool_]) -> Float64:
    """Count for each query the wrong candidates that score above its best true candidate [q]; ties count half.

    `scores` [q, c]; `matches` [q, c] marks the true candidates, at least one in every row.

    >>> scores, matches = np.array([[0.5, 0.9, 0.5, 0.1]], np.float32), np.array([[True, False, False, True]])
    >>> count_candidates_ahead(scores, matches).tolist()
    [1.5]
    """
    best = np.where(matches, scores, -np.inf).max(axis=1, keepdims=True)
    above, tied = (scores > best) & ~matches, (scores == best) & ~matches
    return np.asarray(above.sum(axis=1) + tied.sum(axis=1) / 2, np.float64)


def compute_reciprocal_rank(above: Float64) -> Float64:
    """Return the reciprocal rank of the best true candidate [q], from the number of candidates ahead of it [q].

    >>> compute_reciprocal_rank(np.array([0.0, 1.0, 3.0])).tolist()
    [1.0, 0.5, 0.25]
    """
    return np.asarray(1 / (1 + above), np.float64)


def compute_chance_of_first(above: Float64, wrong: NDArray[np.int64], choices: int = _CHOICES) -> Float64:
    """Return the probability that the true candidate ranks first among `choices`, the others drawn at random [q].

    With a of w wrong candidates above it, that is C(w - a, m - 1) / C(w, m - 1) for m choices, at most w + 1: the
    expectation of the accuracy that one draw would estimate.

    >>> compute_chance_of_first(np.array([1.0]), np.array([4]), 3).round(6).tolist()
    [0.5]
    """
    from scipy.special import gammaln

    others = np.minimum(choices - 1, wrong)
    below = wrong - above
    possible = below >= others

    def log_falling_factorial(total: Any) -> Float64:
        total = np.maximum(total, others)
        return np.asarray(gammaln(total + 1) - gammaln(total - others + 1), np.float64)

    return np.where(possible, np.exp(log_falling_factorial(below) - log_falling_factorial(wrong)), 0.0)
