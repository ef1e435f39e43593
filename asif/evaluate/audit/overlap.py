"""The overlap of a pair's two neighbourhoods: the anchors near its image that are near its captions too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from asif.evaluate.audit.neighbourhoods import NO_NEIGHBOUR
from asif.vectors import Int64, Side

_BATCH = 1024
_MAX_NEIGHBOURS = 1_000
_EXPECTED_BY_CHANCE = 2.0  # common neighbours of sides that are independent


def compute_overlap_k(count: int) -> int:
    """Return the number of neighbours to compare among `count` anchors: √(2n), at most 1,000.

    Of k neighbours on either side, drawn from n anchors, k²/n are common by chance: 2 with this k, for any n. With
    fewer, good pairs too would share none; with more, wrong ones would share some.

    >>> [compute_overlap_k(count) for count in (3, 50, 1_000, 6_000, 1_600_000)]
    [2, 10, 45, 110, 1000]
    """
    return max(1, min(round(math.sqrt(_EXPECTED_BY_CHANCE * count)), count - 1, _MAX_NEIGHBOURS))


@dataclass(frozen=True)
class PairNeighbourhoods:
    """Hold the neighbourhoods [q, k] of both sides of pairs, and the `rows` [q] of these among the anchors.

    `equal` numbers equal embeddings of each side [n]: an anchor equal to a neighbour is as near as that.
    """

    rows: Int64
    neighbours: dict[Side, Int64]
    equal: dict[Side, Int64]

    def count_overlap(self, order: Int64) -> Int64:
        """Count the common neighbours of image i and text `order[i]`: [q], -1 if either has no neighbour at all.

        A neighbour of one side counts if it, or its equal by the other side's embeddings, is a neighbour of the other.
        """
        images, texts = self.neighbours["image"], self.neighbours["text"][order]
        counts = np.empty(len(images), np.int64)
        for start in range(0, len(images), _BATCH):
            left, right = images[start : start + _BATCH], texts[start : start + _BATCH]
            by_text = _count_common(left, right, self.equal["text"])
            by_image = _count_common(right, left, self.equal["image"])
            counts[start : start + _BATCH] = np.maximum(by_text, by_image)
        isolated = (images == NO_NEIGHBOUR).all(axis=1) | (texts == NO_NEIGHBOUR).all(axis=1)
        return np.where(isolated, -1, counts)


def _count_common(left: Int64, right: Int64, equal: Int64) -> Int64:
    """Count, row by row, the entries of `left` [q, k] that are in `right` or equal to an entry of it: [q].

    >>> _count_common(np.array([[0, 1, -1]]), np.array([[2, -1, -1]]), np.array([5, 6, 5])).tolist()
    [1]
    """
    width = int(equal.max()) + 2
    offsets = width * np.arange(len(left))[:, None]
    keys, known = (np.where(lists == NO_NEIGHBOUR, width - 1, equal[lists]) + offsets for lists in (left, right))
    counts: Int64 = (np.isin(keys, known) & (left != NO_NEIGHBOUR)).sum(axis=1)
    return counts
