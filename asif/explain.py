"""Which anchors spoke: a score taken apart into one contribution per anchor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asif.vectors import Float32, Int64, SparseRows


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


def contributions(query: SparseRows, candidate: SparseRows, top: int) -> Contributions:
    """Take the score of one query row and one candidate row apart.

    score = sum_i r_i t_i over the anchors i that both keep; anchor i contributes r_i t_i. Equal contributions are
    ordered by anchor index.

    >>> r = SparseRows(np.array([[0, 1, 2]]), np.array([[0.5, 0.5, 0.75]], np.float32), 4)
    >>> t = SparseRows(np.array([[2, 3, 1]]), np.array([[0.5, 0.25, 0.0]], np.float32), 4)
    >>> contributions(r, t, top=5)
    Contributions(anchors=array([2]), values=array([0.375], dtype=float32), remainder=0.0, others=0, score=0.375)
    """
    shared, mine, theirs = np.intersect1d(query.indices[0], candidate.indices[0], return_indices=True)
    products = query.values[0][mine].astype(np.float64) * candidate.values[0][theirs]
    speaking = products > 0
    shared, products = shared[speaking], products[speaking]
    order = np.lexsort((shared, -products))
    shown = order[:top]
    values = products[shown].astype(np.float32)
    score = float(np.float32(products.sum()))
    remainder = float(products[order[top:]].sum()) if len(order) > top else 0.0
    return Contributions(shared[shown].astype(np.int64), values, remainder, len(order) - len(shown), score)
