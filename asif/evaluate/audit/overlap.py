"""How much the neighbourhoods of a pair's image and captions have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from asif.evaluate.audit.neighbourhoods import NOBODY
from asif.vectors import Int64, Side

BATCH = 1024
MOST = 1_000  # neighbours that are compared
MEANT = 2.0  # neighbours that sides which know nothing of one another would share


def breadth(count: int) -> int:
    """Return how many neighbours are compared among so many anchors: √(2n), at most MOST.

    Of k neighbours on either side, drawn from n anchors, k²/n are common by chance: 2 with this k, whatever n is. With
    fewer, good pairs too would share none; with more, wrong ones would share some.

    >>> [breadth(count) for count in (3, 50, 1_000, 6_000, 1_600_000)]
    [2, 10, 45, 110, 1000]
    """
    return max(1, min(round(math.sqrt(MEANT * count)), count - 1, MOST))


@dataclass(frozen=True)
class Pairing:
    """Hold the neighbourhoods [q, k] of both sides of the same pairs, and their `rows` [q] among the anchors.

    `twins` number equal embeddings of each side [n]: who is equal to a neighbour is as near as it is.
    """

    rows: Int64
    lists: dict[Side, Int64]
    twins: dict[Side, Int64]

    def overlap(self, order: Int64) -> Int64:
        """Count the common neighbours of image i and text `order[i]`: [q], -1 where either has no neighbour at all.

        A neighbour of one side counts if it, or its equal by the other side's embeddings, is one of the other's.
        """
        images, texts = self.lists["image"], self.lists["text"][order]
        counts = np.empty(len(images), np.int64)
        for start in range(0, len(images), BATCH):
            left, right = images[start : start + BATCH], texts[start : start + BATCH]
            by_text = common(left, right, self.twins["text"])
            by_image = common(right, left, self.twins["image"])
            counts[start : start + BATCH] = np.maximum(by_text, by_image)
        lonely = (images == NOBODY).all(axis=1) | (texts == NOBODY).all(axis=1)
        return np.where(lonely, -1, counts)


def common(asked: Int64, known: Int64, twins: Int64) -> Int64:
    """Count, in lists side by side [q, k], the entries of one that are in the other, or equal to one that is.

    >>> common(np.array([[0, 1, -1]]), np.array([[2, -1, -1]]), np.array([5, 6, 5])).tolist()
    [1]
    """
    width = int(twins.max()) + 2
    offsets = width * np.arange(len(asked))[:, None]
    left, right = (np.where(lists == NOBODY, width - 1, twins[lists]) + offsets for lists in (asked, known))
    counts: Int64 = (np.isin(left, right) & (asked != NOBODY)).sum(axis=1)
    return counts
