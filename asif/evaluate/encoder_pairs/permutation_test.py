"""A permutation test: a measure of paired rows against shuffled pairings, and its standard error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from asif.vectors import Float64

TIE_TOLERANCE = 1e-9  # a shuffled pairing this close below counts as equal: sums in another order round otherwise


@dataclass(frozen=True)
class PermutationTest:
    """Hold a measure of the pairs as they are, and the mean and spread of it over shuffled pairings.

    `p` is (1 + how many shuffled ones are at least as high) / (1 + all of them), `z` the distance from their mean in
    their standard deviations (None if they do not differ), `influence` [n] what each pair moves, on average zero.
    """

    value: float
    null_mean: float
    null_sd: float
    p: float
    influence: Float64 = field(repr=False)

    @classmethod
    def of(cls, value: float, null: Float64, influence: Float64) -> PermutationTest:
        """Test a value against those of shuffled pairings."""
        p = (1 + int((null >= value - TIE_TOLERANCE).sum())) / (1 + len(null))
        return cls(float(value), float(null.mean()), float(null.std(ddof=1)), p, influence)

    @property
    def z(self) -> float | None:
        return (self.value - self.null_mean) / self.null_sd if self.null_sd > TIE_TOLERANCE else None

    @property
    def standard_error(self) -> float:
        """Return how far other pairs of the same kind would move the value.

        For CKA the delta method, to first order; for mutual k-NN a rule that resampling bears out: each shared
        neighbour belongs to two pairs, which doubles the variance of one end alone.
        """
        return _compute_standard_error(self.influence)

    def clearly_above(self, other: PermutationTest) -> bool:
        """Return whether this is higher by over two standard errors of the difference, over the same pairs."""
        return self.value - other.value > 2 * _compute_standard_error(self.influence - other.influence) + TIE_TOLERANCE


def _compute_standard_error(values: Float64) -> float:
    """Return the standard error of a mean of independent values [n]."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
