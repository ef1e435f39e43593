"""The anchors nearest to each input, with some to spare: updated, not searched again, when anchors come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.vectors import FitArrays, Float32, Int64, TopK

SPARE = 16
"""Anchors that are kept beyond those that a representation needs, so that some may be removed."""
_NONE = np.float32(-np.inf)


@dataclass(frozen=True)
class Neighbours:
    """Hold the nearest anchors of n inputs: `indices` and `scores` [n, m], in the order of top-k.

    All anchors with a score above `floors` [n] are among them; -inf if all anchors are. Behind the last one of an input
    there may be entries without an anchor, with the index -1 and the score -inf.
    """

    indices: Int64
    scores: Float32
    floors: Float32

    def __len__(self) -> int:
        return len(self.floors)

    @property
    def width(self) -> int:
        return int(self.scores.shape[1])

    @classmethod
    def of(cls, found: TopK, count: int) -> Neighbours:
        """Return what a search of `count` anchors found."""
        last = found.scores[:, -1] if found.scores.shape[1] < count else np.full(len(found.scores), _NONE)
        return cls(found.indices, found.scores, last)

    @classmethod
    def join(cls, parts: Sequence[Neighbours], places: Int64) -> Neighbours:
        """Join the neighbours of all inputs, as many as the part with the fewest has, each row at its place [n]."""
        width, order = min(part.width for part in parts), np.argsort(places)
        even = [part.narrow(width) for part in parts]
        return cls(
            np.concatenate([part.indices for part in even])[order],
            np.concatenate([part.scores for part in even])[order],
            np.concatenate([part.floors for part in even])[order],
        )

    def are_enough(self, k: int) -> Any:
        """Tell which inputs have all anchors that are as similar as the k-th, of those above zero: [n]."""
        if self.width < k:
            return np.zeros(len(self), bool)
        return (self.scores[:, k - 1] > self.floors) | (self.floors <= 0)

    def select(self, k: int) -> TopK:
        """Return the k nearest anchors and all as similar as the k-th, as `find_topk_with_ties` does."""
        last = self.scores[:, k - 1 : k]
        entries = max(k, int((self.scores >= last).sum(axis=1).max(initial=0, where=last[:, 0] > 0)))
        scores = np.where((self.scores >= last) & (self.scores > _NONE), self.scores, np.float32(0))
        return TopK(_fill_unused(self.indices[:, :entries]), scores[:, :entries])

    def update(self, numbers: Int64, added: Neighbours) -> Neighbours:
        """Return the nearest of the anchors that stay, which get other `numbers` (-1: none), and of those added."""
        stay = np.where(self.indices < 0, -1, numbers[self.indices])
        indices = np.concatenate([stay, added.indices], axis=1)
        scores = np.concatenate([self.scores, added.scores], axis=1)
        scores = np.where(indices < 0, _NONE, scores)
        order = np.lexsort((indices, -scores), axis=1)
        return Neighbours(
            np.take_along_axis(indices, order, 1),
            np.take_along_axis(scores, order, 1),
            np.maximum(self.floors, added.floors),
        )

    def narrow(self, width: int) -> Neighbours:
        """Return the `width` nearest."""
        if width >= self.width:
            return self
        floors = np.maximum(self.floors, self.scores[:, width])
        return Neighbours(self.indices[:, :width], self.scores[:, :width], floors)

    def replace_rows(self, rows: Int64, others: Neighbours) -> Neighbours:
        """Return these with the rows of others, which are as wide, in place of some [r]."""
        indices, scores, floors = self.indices.copy(), self.scores.copy(), self.floors.copy()
        indices[rows], scores[rows], floors[rows] = others.indices, others.scores, others.floors
        return Neighbours(indices, scores, floors)

    def take(self, rows: Int64) -> Neighbours:
        """Copy the neighbours of some inputs."""
        return Neighbours(self.indices[rows], self.scores[rows], self.floors[rows])

    def as_arrays(self) -> FitArrays:
        """Return named arrays of floats, which hold the indices exactly."""
        exact = np.float32 if self.indices.max(initial=0) < 1 << 24 else np.float64
        return {"indices": self.indices.astype(exact), "scores": self.scores, "floors": self.floors}

    @classmethod
    def from_arrays(cls, arrays: FitArrays) -> Neighbours:
        """Return what `as_arrays` made named arrays of."""
        return cls(arrays["indices"].astype(np.int64), arrays["scores"], arrays["floors"])


def _fill_unused(indices: Int64) -> Int64:
    """Put indices that a row does not use in place of -1.

    >>> _fill_unused(np.array([[1, 5, -1, -1]])).tolist()
    [[1, 5, 0, 2]]
    """
    rows = np.flatnonzero((indices < 0).any(axis=1))
    if not len(rows):
        return indices
    filled = indices.copy()
    for row in rows.tolist():
        free = np.setdiff1d(np.arange(indices.shape[1]), indices[row])
        empty = indices[row] < 0
        filled[row, empty] = free[: int(empty.sum())]
    return filled
