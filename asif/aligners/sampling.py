"""Samples of anchors used as queries: for query banks of hubness corrections and for the spread of scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners.protocol import Anchors, FittedAligner, TokenReader, read_captions, uses_texts
from asif.kernels import KernelName, compute_similarity
from asif.vectors import SIDES, Embeddings, FusedRows, Int64, Rows, Side, SparseRows, gather_rows

_SPREAD_ANCHORS = 512  # of each side, from which the spread of scores is estimated


def choose_evenly_spaced(count: int, most: int) -> Int64:
    """Choose at most `most` of `count` rows, evenly spaced from first to last, because rows are often sorted.

    >>> choose_evenly_spaced(4, 2).tolist(), choose_evenly_spaced(2, 4).tolist()
    ([0, 3], [0, 1])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _sample_anchors(anchors: Anchors, side: Side, most: int, *, with_texts: bool = False) -> Embeddings:
    """Return one side of at most `most` evenly spaced anchors [m, d], and on request their captions.

    >>> from types import SimpleNamespace
    >>> blocks = {"image": [np.eye(4, dtype=np.float16)[:1], np.eye(4, dtype=np.float16)[1:]]}
    >>> _sample_anchors(SimpleNamespace(count=4, blocks=blocks.get), "image", 2).values.tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    rows = choose_evenly_spaced(anchors.count, most)
    captions = read_captions(anchors) if with_texts and side == "text" else None
    texts = None if captions is None else tuple(captions[row] for row in rows)
    return Embeddings(gather_rows(anchors.blocks(side), rows).astype(np.float32), texts)


def represent_leave_one_out(
    fitted: FittedAligner, anchors: Anchors, side: Side, most: int, engine: KernelName = "auto"
) -> Rows:
    """Represent one side of at most `most` anchors, leave-one-out.

    An anchor is more similar to itself than any query will be. In rows with one entry per anchor, its own entry is
    removed, and the rest is scaled to the row's former length. An aligner of tokens has rows of anchors of its own.
    """
    if isinstance(fitted, TokenReader):
        return fitted.represent_anchors(side, most)
    sample = _sample_anchors(anchors, side, most, with_texts=uses_texts(fitted))
    rows = fitted.represent(side, sample, engine)
    own = choose_evenly_spaced(anchors.count, most)
    if isinstance(rows, FusedRows):
        return FusedRows(
            tuple(_drop_own_entries(part, own) if isinstance(part, SparseRows) else part for part in rows.parts)
        )
    return _drop_own_entries(rows, own) if isinstance(rows, SparseRows) else rows


def _drop_own_entries(rows: SparseRows, own: Int64) -> SparseRows:
    """Set entry own[i] of row i to zero, and scale the row to its former length.

    >>> rows = SparseRows(np.array([[1, 0]]), np.array([[0.8, 0.6]], np.float32), 2)
    >>> _drop_own_entries(rows, np.array([1])).values.tolist()
    [[0.0, 1.0]]
    """
    left = np.where(rows.indices == own[:, None], 0.0, rows.values.astype(np.float64))
    before, after = (np.linalg.norm(values, axis=1, keepdims=True) for values in (rows.values.astype(np.float64), left))
    scaled = np.divide(left * before, after, out=np.zeros_like(left), where=after > 0)
    return replace(rows, values=scaled.astype(np.float32))


def number_equal_rows(rows: NDArray[Any]) -> Int64:
    """Return a group number for each row [n], equal for equal rows, in order of first appearance.

    >>> number_equal_rows(np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]])).tolist()
    [0, 1, 0]
    """
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, where = np.unique(whole, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[where], np.int64)


def compute_spread(fitted: FittedAligner, anchors: Anchors, engine: KernelName = "auto") -> float:
    """Return the standard deviation of an aligner's scores between images and texts of different anchors."""
    images, texts = (represent_leave_one_out(fitted, anchors, side, _SPREAD_ANCHORS, engine) for side in SIDES)
    scores = compute_similarity(images, texts, engine=engine).astype(np.float64)
    off_diagonal = scores[~np.eye(len(scores), dtype=bool)]
    return float(off_diagonal.std()) if len(off_diagonal) else 0.0
