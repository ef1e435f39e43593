"""Hubness correction: how easily a candidate is everyone's neighbour is taken off its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from asif.aligners.protocol import Anchors, Fitted
from asif.aligners.sampling import strangers
from asif.errors import UsageError
from asif.kernels import Engine, nearest
from asif.vectors import DenseRows, Float32, FusedRows, Rows, Side, SparseRows, lengths

Method = Literal["none", "nnn", "csls"]
BANK_ROWS = 16_384
MOST = 0.9  # with larger shares, sums of a score and a bias might leave the range in which they are exact
METHODS: tuple[Method, ...] = ("none", "nnn", "csls")


@dataclass(frozen=True)
class Hubness:
    """Correct scores by a bank of queries: the anchors' other side, never the queries that are asked.

    - `nnn`: a candidate's score less `alpha` times the mean of its `k` largest similarities to the bank (nearest
      neighbour normalisation, Chowdhury et al., EMNLP 2024)
    - `csls`: twice the score less such a mean, of the 10 largest, and less the same mean of the query among the
      candidates' bank (Lample et al., ICLR 2018); the latter ranks nothing anew for one query and is left out, and
      the score is halved, so that it is `nnn` with k = 10 and alpha = ½.

    Raises UsageError for an unknown method, k < 1 or an alpha outside 0 to 0.9.

    >>> Hubness("csls").parameters
    {'method': 'csls', 'k': 10, 'alpha': 0.5}
    """

    method: Method = "nnn"
    k: int = 32
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"the hubness correction is {self.method!r}", f"one of {', '.join(METHODS)}", "pass nnn")
        if self.k < 1:
            raise UsageError(f"hubness k is {self.k}", "a whole number from 1", "pass a k such as 32")
        if not 0 <= self.alpha <= MOST:
            raise UsageError(
                f"hubness alpha is {self.alpha}", f"a number from 0 to {MOST}", "pass an alpha such as 0.5"
            )
        if self.method == "csls":
            object.__setattr__(self, "k", 10)
            object.__setattr__(self, "alpha", 0.5)

    @property
    def parameters(self) -> dict[str, Any]:
        if self.method == "none":
            return {"method": "none"}
        return {"method": self.method, "k": self.k, "alpha": self.alpha}

    def __str__(self) -> str:
        """Name it: 'nnn k=32 alpha=0.5'."""
        found = self.parameters
        return " ".join([found.pop("method"), *(f"{name}={value}" for name, value in found.items())])

    def biases(self, rows: Rows, bank: Rows, engine: Engine = "auto") -> Float32:
        """Return what is taken off each row's scores [n]: alpha x the mean of its k best scores with the bank.

        >>> rows = DenseRows(np.eye(2, dtype=np.float32))
        >>> Hubness(k=1).biases(rows, DenseRows(np.array([[1.0, 0.0], [0.0, 0.5]], np.float32))).tolist()
        [0.5, 0.25]
        """
        if self.method == "none":
            return np.zeros(len(rows), np.float32)
        best = nearest(rows, bank, self.k, engine=engine).scores
        return np.asarray(self.alpha * best.mean(axis=1, dtype=np.float64), np.float32)


def bank(fitted: Fitted, anchors: Anchors, side: Side, engine: Engine = "auto") -> Rows:
    """Represent one side of the anchors, at most BANK_ROWS of them, evenly spread: what candidates are held against.

    Raises UsageError where rows are not of one length.
    """
    rows = strangers(fitted, anchors, side, BANK_ROWS, engine)
    if not all(equal(part) for part in lengths(rows)):
        raise UsageError(
            f"a hubness correction of {side} rows that are not of one length",
            "an aligner that normalises both sides, so that scores of all queries can be compared",
            "use --aligner asif instead of asif-paper, or --hubness none",
        )
    return rows


def equal(found: Float32) -> bool:
    """Tell whether all lengths above zero are the same, but for rounding.

    >>> equal(np.array([0.5, 0.0, 0.50001], np.float32)), equal(np.array([0.5, 1.0], np.float32))
    (True, False)
    """
    above = found[found > 0]
    return not len(above) or float(above.max()) <= 1.001 * float(above.min())


def with_bias(rows: Rows, bias: Float32) -> Rows:
    """Append to each row one more entry, its bias: inner products with rows that have 1 there are that much larger.

    >>> with_bias(DenseRows(np.array([[0.6, 0.8]], np.float32)), np.array([-0.25], np.float32)).values.tolist()
    [[0.6000000238418579, 0.800000011920929, -0.25]]
    """
    if isinstance(rows, FusedRows):
        first = with_bias(rows.parts[0], bias)
        assert not isinstance(first, FusedRows)
        return FusedRows((first, *rows.parts[1:]))
    if isinstance(rows, DenseRows):
        return DenseRows(np.concatenate([rows.values, bias[:, None]], axis=1))
    last = np.full((len(rows), 1), rows.width)
    values = np.concatenate([rows.values, bias[:, None]], axis=1, dtype=np.float32)
    return SparseRows(np.concatenate([rows.indices, last], axis=1), values, rows.width + 1)
