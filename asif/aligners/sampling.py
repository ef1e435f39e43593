"""Some anchors stand in for questions: banks of hubness corrections, and how far scores spread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners.protocol import Anchors, Fitted
from asif.kernels import Engine
from asif.vectors import Embeddings, FusedRows, Int64, Rows, Side, SparseRows, gathered


def evenly(count: int, most: int) -> Int64:
    """Choose at most so many of `count` rows, evenly spread from the first to the last: rows are often sorted.

    >>> evenly(4, 2).tolist(), evenly(2, 4).tolist()
    ([0, 3], [0, 1])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def sample(anchors: Anchors, side: Side, most: int) -> Embeddings:
    """Return one side of at most so many anchors, evenly spread [m, d].

    >>> from types import SimpleNamespace
    >>> blocks = {"image": [np.eye(4, dtype=np.float16)[:1], np.eye(4, dtype=np.float16)[1:]]}
    >>> sample(SimpleNamespace(count=4, blocks=blocks.get), "image", 2).values.tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    return Embeddings(gathered(anchors.blocks(side), evenly(anchors.count, most)).astype(np.float32))


def strangers(fitted: Fitted, anchors: Anchors, side: Side, most: int, engine: Engine = "auto") -> Rows:
    """Represent one side of at most so many anchors as if each were not an anchor itself.

    An anchor is more similar to itself than anything that is asked will be to it; where rows are over the anchors, its
    own entry is taken out of its row, and the rest brought to the length that it had.
    """
    rows = fitted.represent(side, sample(anchors, side, most), engine)
    own = evenly(anchors.count, most)
    if isinstance(rows, FusedRows):
        return FusedRows(tuple(without(part, own) if isinstance(part, SparseRows) else part for part in rows.parts))
    return without(rows, own) if isinstance(rows, SparseRows) else rows


def without(rows: SparseRows, own: Int64) -> SparseRows:
    """Take entry own[i] out of row i, and bring the row to its old length again.

    >>> rows = SparseRows(np.array([[1, 0]]), np.array([[0.8, 0.6]], np.float32), 2)
    >>> without(rows, np.array([1])).values.tolist()
    [[0.0, 1.0]]
    """
    left = np.where(rows.indices == own[:, None], 0.0, rows.values.astype(np.float64))
    before, after = (np.linalg.norm(values, axis=1, keepdims=True) for values in (rows.values.astype(np.float64), left))
    scaled = np.divide(left * before, after, out=np.zeros_like(left), where=after > 0)
    return replace(rows, values=scaled.astype(np.float32))


def groups(rows: NDArray[Any]) -> Int64:
    """Number rows [n], equal ones alike, in order of first appearance.

    >>> groups(np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]])).tolist()
    [0, 1, 0]
    """
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, where = np.unique(whole, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[where], np.int64)
