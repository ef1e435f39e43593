"""Hubness correction: lowers the scores of candidates that are near neighbours of many queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from asif.aligners.protocol import Anchors, FittedAligner
from asif.aligners.sampling import compute_spread, represent_leave_one_out
from asif.errors import UsageError
from asif.kernels import KernelName, compute_similarity, find_nearest
from asif.vectors import DenseRows, Float32, Float64, FusedRows, Rows, Side, SparseRows, compute_lengths

HubnessMethod = Literal["none", "nnn", "csls", "lse"]
MAX_BANK_ROWS = 16_384
_MAX_SOFT_ROWS = 4_096  # of a bank, whose scores are all raised to a power
_ROWS_PER_BLOCK = 2_048
_MAX_ALPHA = 0.9  # above it, the sum of a score and a bias might leave the range in which it is exact
HUBNESS_METHODS: tuple[HubnessMethod, ...] = ("none", "nnn", "csls", "lse")


@dataclass(frozen=True)
class Hubness:
    """Correct scores by a query bank: the anchors' other side, never the queries themselves.

    - `nnn`: subtract from a candidate's score `alpha` times the mean of its `k` largest similarities to the bank
      (nearest neighbour normalisation, Chowdhury et al., EMNLP 2024)
    - `csls`: twice the score, minus such a mean of the 10 largest, minus the same mean of the query in the candidates'
      bank (Lample et al., ICLR 2018); the last term does not change the ranking for one query and is left out, and
      the score is halved, which makes it `nnn` with k = 10 and alpha = ½
    - `lse`: subtract ¾ of the soft maximum t·log(mean(exp(s/t))) of a candidate's similarities s to at most 4,096 of
      the bank, with t 0.4 times the spread of scores between anchors (see `compute_spread`). Small t make it the
      maximum, large ones the mean.

    Raises UsageError for an unknown method, k < 1, an alpha outside 0 to 0.9 or a temperature that is not above 0.

    >>> Hubness("csls").parameters
    {'method': 'csls', 'k': 10, 'alpha': 0.5}
    """

    method: HubnessMethod = "nnn"
    k: int = 32
    alpha: float = 0.5
    temperature: float = 0.4

    def __post_init__(self) -> None:
        if self.method not in HUBNESS_METHODS:
            raise UsageError(
                f"the hubness correction is {self.method!r}", f"one of {', '.join(HUBNESS_METHODS)}", "pass nnn"
            )
        if self.k < 1:
            raise UsageError(f"hubness k is {self.k}", "a whole number from 1", "pass a k such as 32")
        if not 0 <= self.alpha <= _MAX_ALPHA:
            raise UsageError(
                f"hubness alpha is {self.alpha}", f"a number from 0 to {_MAX_ALPHA}", "pass an alpha such as 0.5"
            )
        if not self.temperature > 0:
            raise UsageError(f"hubness temperature is {self.temperature}", "a number above 0", "pass one such as 0.4")
        if self.method == "lse":
            object.__setattr__(self, "alpha", 0.75)
        if self.method == "csls":
            object.__setattr__(self, "k", 10)
            object.__setattr__(self, "alpha", 0.5)

    @property
    def parameters(self) -> dict[str, Any]:
        if self.method == "none":
            return {"method": "none"}
        if self.method == "lse":
            return {"method": "lse", "alpha": self.alpha, "temperature": self.temperature}
        return {"method": self.method, "k": self.k, "alpha": self.alpha}

    def __str__(self) -> str:
        """Return a short text such as 'nnn k=32 alpha=0.5'."""
        parameters = self.parameters
        return " ".join([parameters.pop("method"), *(f"{name}={value}" for name, value in parameters.items())])

    def compute_biases(self, rows: Rows, bank: QueryBank, engine: KernelName = "auto") -> Float32:
        """Return what to subtract from each row's scores [n], from its similarities to the bank.

        >>> rows = DenseRows(np.eye(2, dtype=np.float32))
        >>> bank = QueryBank(DenseRows(np.array([[1.0, 0.0], [0.0, 0.5]], np.float32)))
        >>> Hubness(k=1).compute_biases(rows, bank).tolist()
        [0.5, 0.25]
        """
        if self.method == "none":
            return np.zeros(len(rows), np.float32)
        if self.method == "lse":
            some = bank.rows[:: -(-len(bank.rows) // _MAX_SOFT_ROWS)]
            soft = [
                self.average_softly(
                    compute_similarity(some, rows[start : start + _ROWS_PER_BLOCK], engine=engine), bank.spread
                )
                for start in range(0, len(rows), _ROWS_PER_BLOCK)
            ]
            return np.concatenate([np.empty(0), *soft]).astype(np.float32)
        best = find_nearest(rows, bank.rows, self.k, engine=engine).scores
        return np.asarray(self.alpha * best.mean(axis=1, dtype=np.float64), np.float32)

    def average_softly(self, scores: Float32, spread: float) -> Float64:
        """Return alpha times the soft maximum of each column of scores [b, n], with a temperature in spreads.

        >>> Hubness("lse").average_softly(np.array([[1.0], [1.0]], np.float32), 0.5).tolist()
        [0.75]
        """
        width = self.temperature * (spread or 1.0)
        highest = scores.max(axis=0).astype(np.float64)
        raised = np.exp((scores - highest) / width)
        soft: Float64 = self.alpha * (highest + width * np.log(np.add.reduce(raised, axis=0) / len(scores)))
        return soft


@dataclass(frozen=True, eq=False)
class QueryBank:
    """Hold anchors as queries, represented; `find_spread` computes the spread of scores, see `compute_spread`."""

    rows: Rows
    find_spread: Callable[[], float] = lambda: 1.0

    @cached_property
    def spread(self) -> float:
        return self.find_spread()


def build_query_bank(fitted: FittedAligner, anchors: Anchors, side: Side, engine: KernelName = "auto") -> QueryBank:
    """Represent one side of at most MAX_BANK_ROWS evenly spaced anchors: the query bank of the hubness correction.

    Raises UsageError if rows differ in length.
    """
    rows = represent_leave_one_out(fitted, anchors, side, MAX_BANK_ROWS, engine)
    if not all(_are_equal_lengths(part) for part in compute_lengths(rows)):
        raise UsageError(
            f"a hubness correction of {side} rows that are not of one length",
            "an aligner that normalises both sides, so that scores of all queries can be compared",
            "use --aligner asif instead of asif-paper, or --hubness none",
        )
    return QueryBank(rows, partial(compute_spread, fitted, anchors, engine))


def _are_equal_lengths(row_lengths: Float32) -> bool:
    """Tell whether all lengths above zero are equal up to rounding.

    >>> _are_equal_lengths(np.array([0.5, 0.0, 0.50001], np.float32))
    True
    >>> _are_equal_lengths(np.array([0.5, 1.0], np.float32))
    False
    """
    positive = row_lengths[row_lengths > 0]
    return not len(positive) or float(positive.max()) <= 1.001 * float(positive.min())


def append_bias(rows: Rows, bias: Float32) -> Rows:
    """Append its bias to each row as one more entry: it is added to inner products with rows that have 1 there.

    >>> append_bias(DenseRows(np.array([[0.6, 0.8]], np.float32)), np.array([-0.25], np.float32)).values.tolist()
    [[0.6000000238418579, 0.800000011920929, -0.25]]
    """
    if isinstance(rows, FusedRows):
        first = append_bias(rows.parts[0], bias)
        assert not isinstance(first, FusedRows)
        return FusedRows((first, *rows.parts[1:]))
    if isinstance(rows, DenseRows):
        return DenseRows(np.concatenate([rows.values, bias[:, None]], axis=1))
    last = np.full((len(rows), 1), rows.width)
    values = np.concatenate([rows.values, bias[:, None]], axis=1, dtype=np.float32)
    return SparseRows(np.concatenate([rows.indices, last], axis=1), values, rows.width + 1)
