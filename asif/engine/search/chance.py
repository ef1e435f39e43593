"""The chance of a score: how many anchors of other pairs would score as high for a query."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asif.vectors import Float32, Float64

_TAIL_SHARE = 0.05
_LEAST_TAIL = 10
_LEAST_CHANCE = 1e-6


@dataclass(frozen=True)
class ChanceCurve:
    """Hold the scores of one query with anchors of other pairs [m], in any order.

    Above the score that 5 % of them reach, at least ten, the share falls off exponentially, as the mean excess over
    that score says: a result may score higher than all anchors, whose number would bound the chance from below. (Peaks
    over a threshold, with the exponential distribution: Balkema and de Haan, 1974; Pickands, 1975.)

    >>> curve = ChanceCurve(np.linspace(0, 1, 1000, dtype=np.float32))
    >>> [round(float(share), 3) for share in curve.estimate(np.array([0.5, 0.95, 1.2], np.float32))]
    [0.5, 0.05, 0.0]
    """

    scores: Float32

    @cached_property
    def _ascending(self) -> Float64:
        return np.sort(self.scores.astype(np.float64))

    @cached_property
    def _tail(self) -> tuple[float, float, float]:
        """Return where the tail begins, the share of scores from there on, and their mean excess."""
        ascending = self._ascending
        size = min(len(ascending), max(_LEAST_TAIL, math.ceil(_TAIL_SHARE * len(ascending))))
        above = ascending[-size:]
        return float(above[0]), size / len(ascending), float((above - above[0]).mean())

    def estimate(self, scores: Float32) -> Float64:
        """Return the chance of each score [n]; 1 if there is no anchor of another pair."""
        if not len(self.scores):
            return np.ones(len(scores))
        start, share, excess = self._tail
        wide = scores.astype(np.float64)
        empirical = 1 - np.searchsorted(self._ascending, wide) / len(self._ascending)
        beyond = wide - start
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = share * np.exp(-beyond / excess) if excess > 0 else np.zeros(len(wide))
        return np.where(beyond > 0, tail, empirical)


def format_chance(chance: float) -> str:
    """Format a chance as a percentage of two digits.

    >>> format_chance(0.0123), format_chance(1), format_chance(0.00000001)
    ('1.2 %', '100 %', '<0.0001 %')
    """
    if chance < _LEAST_CHANCE:
        return f"<{100 * _LEAST_CHANCE:.4f} %"
    return f"{float(f'{100 * chance:.2g}'):.6f}".rstrip("0").rstrip(".") + " %"
