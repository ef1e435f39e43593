"""Explain a score: split it into one contribution per anchor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asif.vectors import AnchorContributions, Float32, Int64


@dataclass(frozen=True)
class Contributions:
    """The contributions of anchors to one score, largest first.

    `anchors` [m] are indices, `values` [m] their contributions, `remainder` the sum of the contributions of the
    `others` further anchors: sum(values) + remainder is `score`.
    """

    anchors: Int64
    values: Float32
    remainder: float
    others: int
    score: float


def compute_contributions(parts: AnchorContributions, top: int) -> Contributions:
    """Find the `top` largest contributions to a score, and the sum of all others.

    Equal contributions are ordered by anchor index.

    >>> compute_contributions(AnchorContributions(np.array([2, 5, 7]), np.array([0.25, 0.5, -0.125])), top=1)
    Contributions(anchors=array([5]), values=array([0.5], dtype=float32), remainder=0.125, others=2, score=0.625)
    """
    order = np.lexsort((parts.anchors, -parts.values))
    largest = order[:top]
    score = float(np.float32(parts.values.sum()))
    remainder = float(parts.values[order[top:]].sum()) if len(order) > top else 0.0
    return Contributions(
        parts.anchors[largest].astype(np.int64),
        parts.values[largest].astype(np.float32),
        remainder,
        len(order) - len(largest),
        score,
    )
