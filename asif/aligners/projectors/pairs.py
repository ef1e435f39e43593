"""What a projector is trained on: cached embeddings of images, and of each of their captions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from asif.aligners.protocol import Anchors
from asif.aligners.sampling import groups
from asif.vectors import Embeddings, Float32, Int64, Side

SIDES: tuple[Side, Side] = ("image", "text")
MOST_HELD = 500


@dataclass(frozen=True)
class TrainingPairs:
    """Hold distinct images [n, di], texts [m, dt] and the image that each text belongs to [m], ascending.

    Every image has at least one text. Rows are unit vectors.
    """

    images: Float32
    texts: Float32
    owners: Int64

    @classmethod
    def of(cls, anchors: Anchors, captions: tuple[Embeddings, Int64] | None = None) -> TrainingPairs:
        """Take the pairs of an anchor set; anchors with equal images are one image with several texts.

        `captions` are single captions [m, dt] and the anchor that each belongs to [m], in place of the stored texts.
        """
        image, text = (np.concatenate([block.astype(np.float32) for block in anchors.blocks(side)]) for side in SIDES)
        numbers = groups(image)
        _, first = np.unique(numbers, return_index=True)
        texts, whose = (text, np.arange(len(text))) if captions is None else (captions[0].values, captions[1])
        owners = numbers[whose]
        order = np.argsort(owners, kind="stable")
        return cls(image[first], texts[order], owners[order])

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def same(self) -> Int64:
        """Which texts are equal [m]: equal numbers for equal vectors."""
        return groups(self.texts)

    @cached_property
    def starts(self) -> Int64:
        """Where each image's texts begin, and where the last one's end [n + 1]."""
        return np.searchsorted(self.owners, np.arange(len(self) + 1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which texts are right for which image [n, m]: its own, and those that are equal to one of its own."""
        said = np.zeros((len(self), int(self.same.max()) + 1), bool)
        said[self.owners, self.same] = True
        return said[:, self.same]

    def drawn(self, images: Int64, random: np.random.Generator) -> Int64:
        """Draw one text for each image [b]."""
        first, after = self.starts[images], self.starts[images + 1]
        return first + (random.random(len(images)) * (after - first)).astype(np.int64)

    def some(self, images: Int64) -> TrainingPairs:
        """Return some images, ascending, with all their texts."""
        kept = np.isin(self.owners, images)
        return TrainingPairs(self.images[images], self.texts[kept], np.searchsorted(images, self.owners[kept]))

    def divided(self, seed: int) -> tuple[TrainingPairs, TrainingPairs]:
        """Hold out a tenth of the images, at least two and at most 500: (to train on, held out)."""
        held = max(2, min(MOST_HELD, len(self) // 10))
        order = np.random.default_rng(seed).permutation(len(self))
        return self.some(np.sort(order[held:])), self.some(np.sort(order[:held]))
