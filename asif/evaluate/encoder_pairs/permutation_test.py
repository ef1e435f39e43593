"""A measure of paired rows beside what shuffled pairings come to, and how far other pairs would move it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

TIE = 1e-9  # a shuffled pairing this close below counts as equal: sums in another order round otherwise


@dataclass(frozen=True)
class Measured:
    """Hold a measure of the pairs as they are, and what shuffled pairings of the same rows come to.

    `p` is (1 + how many shuffled ones are at least as high) / (1 + all of them), `z` the distance from their mean in
    their standard deviations (None where they do not differ), `influence` [n] what each pair moves, on average zero.
    """

    value: float
    null_mean: float
    null_sd: float
    p: float
    influence: Float64 = field(repr=False)

    @classmethod
    def of(cls, value: float, null: Float64, influence: Float64) -> Measured:
        """Set a value beside its shuffled ones."""
        p = (1 + int((null >= value - TIE).sum())) / (1 + len(null))
        return cls(float(value), float(null.mean()), float(null.std(ddof=1)), p, influence)

    @property
    def z(self) -> float | None:
        return (self.value - self.null_mean) / self.null_sd if self.null_sd > TIE else None

    @property
    def standard_error(self) -> float:
        """Return how far other pairs of the same kind would move the value.

        For CKA the delta method, to first order; for mutual k-NN a rule that resampling bears out: each shared
        neighbour belongs to two pairs, which doubles the variance of one end alone.
        """
        return spread_of_mean(self.influence)

    def clearly_above(self, other: Measured) -> bool:
        """Tell whether this is higher by over two standard errors of the difference, over the same pairs."""
        return self.value - other.value > 2 * spread_of_mean(self.influence - other.influence) + TIE


def spread_of_mean(values: Float64) -> float:
    """Return the standard error of a mean of independent values [n]."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
