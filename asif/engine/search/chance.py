"""The chance of a score: how many anchors of other pairs would score as high for a query."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asif.vectors import Float32, Float64

_TAIL_SHARE = 0.05
_LEAST_TAIL = 10
_DECILE_SHARE = 0.1
_LEAST_CHANCE = 1e-6


@dataclass(frozen=True)
class ChanceCurve:
    """Hold the scores of one query with anchors of other pairs [m], in any order.

    Beyond their tail's first score the share falls off exponentially: a result may score higher than all anchors, whose
    number would bound the chance from below. With `decay`, of `measure_decay`, the tail begins at the upper decile, and
    its mean excess is `decay` times the interdecile range, which the few anchors that are about the query after all
    hardly change. Without, it begins at the score that 5 % reach, at least ten, and has the mean excess of these.
    (Peaks over a threshold, with the exponential distribution: Balkema and de Haan, 1974; Pickands, 1975.)

    >>> curve = ChanceCurve(np.linspace(0, 1, 1000, dtype=np.float32))
    >>> [round(float(share), 3) for share in curve.estimate(np.array([0.5, 0.95, 1.2], np.float32))]
    [0.5, 0.05, 0.0]
    """

    scores: Float32
    decay: float | None = None

    @cached_property
    def _ascending(self) -> Float64:
        return np.sort(self.scores.astype(np.float64))

    @cached_property
    def _tail(self) -> tuple[float, float, float]:
        """Return where the tail begins, the share of scores from there on, and its mean excess."""
        ascending = self._ascending
        if self.decay is not None:
            low, high, share = _find_deciles(ascending)
            return high, share, self.decay * (high - low)
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
        with np.errstate(over="ignore"):
            tail = share * np.exp(-np.maximum(beyond, 0) / excess) if excess > 0 else np.zeros(len(wide))
        return np.where(beyond > 0, tail, empirical)


def take_held_out(scores: Float32, likeness: Float32) -> Float32:
    """Return the scores that anchors of other pairs would have for a query: of the half that is least like it [m/2].

    `scores` [m] and `likeness` [m], of their other side to the query, are those of all pairs. The half is less like the
    query than most items are, so its scores are raised to the median likeness by their regression on it, if they rise.

    >>> take_held_out(np.array([0.1, 0.2, 0.3, 0.9], np.float32), np.array([0, 0.1, 0.2, 0.8], np.float32)).round(2)
    array([0.25, 0.25], dtype=float32)
    """
    least = np.argsort(likeness, kind="stable")[: (len(likeness) + 1) // 2]
    chosen, alike = scores[least].astype(np.float64), likeness[least].astype(np.float64)
    centred = alike - alike.mean()
    squares = float((centred**2).sum())
    slope = max(0.0, float((chosen * centred).sum()) / squares) if squares > 0 else 0.0
    return np.asarray(chosen + slope * (np.median(likeness) - alike), np.float32)


def measure_decay(samples: Iterable[Float32]) -> float:
    """Return the mean excess over the upper decile, in interdecile ranges, of scores [m] of several queries.

    Both are summed over the queries, since those of a single one vary too much to tell chances apart that are far
    below one in m.

    >>> round(measure_decay([np.arange(1000, dtype=np.float32)]), 3)
    0.062
    """
    excess = spread = 0.0
    for sample in samples:
        ascending = np.sort(sample.astype(np.float64))
        low, high, _ = _find_deciles(ascending)
        excess += float((ascending[ascending >= high] - high).mean())
        spread += high - low
    return excess / spread if spread > 0 else 0.0


def _find_deciles(ascending: Float64) -> tuple[float, float, float]:
    """Return the lower and the upper decile, and the share of values from the upper one on."""
    size = math.ceil(_DECILE_SHARE * len(ascending))
    return float(ascending[size - 1]), float(ascending[-size]), size / len(ascending)


def format_chance(chance: float) -> str:
    """Format a chance as a percentage of two digits.

    >>> format_chance(0.0123), format_chance(1), format_chance(0.00000001)
    ('1.2 %', '100 %', '<0.0001 %')
    """
    if chance < _LEAST_CHANCE:
        return f"<{100 * _LEAST_CHANCE:.4f} %"
    return f"{float(f'{100 * chance:.2g}'):.6f}".rstrip("0").rstrip(".") + " %"
