"""Which anchors spoke: a score taken apart into one contribution per anchor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asif.vectors import AnchorContributions, Float32, Int64


@dataclass(frozen=True)
class Contributions:
    """Hold what anchors add to one score, largest first.

    `anchors` [m] are indices, `values` [m] what each adds, `remainder` what the `others` further anchors add
    together: sum(values) + remainder is `score`.
    """

    anchors: Int64
    values: Float32
    remainder: float
    others: int
    score: float


def contributions(parts: AnchorContributions, top: int) -> Contributions:
    """Name the anchors that add most to a score, and what all others add together.

    Equal contributions are ordered by anchor index.

    >>> contributions(AnchorContributions(np.array([2, 5, 7]), np.array([0.25, 0.5, -0.125])), top=1)
    Contributions(anchors=array([5]), values=array([0.5], dtype=float32), remainder=0.125, others=2, score=0.625)
    """
    order = np.lexsort((parts.anchors, -parts.values))
    shown = order[:top]
    score = float(np.float32(parts.values.sum()))
    remainder = float(parts.values[order[top:]].sum()) if len(order) > top else 0.0
    return Contributions(
        parts.anchors[shown].astype(np.int64),
        parts.values[shown].astype(np.float32),
        remainder,
        len(order) - len(shown),
        score,
    )
