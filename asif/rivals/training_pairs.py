"""What a projector is trained on: frozen features of images, and of each of their captions."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from asif.aligners.protocol import Anchors
from asif.aligners.sampling import groups
from asif.vectors import SIDES, Embeddings, Float32, Int64, Side

MOST_HELD = 500
Dims = Mapping[str, int]
"""Dimensions of what networks take: `image`, `text`, and with tokens `pooled`, those of an image's one vector."""
Reader = Callable[[Int64], tuple[Any, ...]]
"""Gives what a network takes for some rows: tensors of as many rows each."""
P = TypeVar("P", bound="Pairs")


@dataclass(frozen=True)
class Pairs:
    """Hold distinct images [n, ...], texts [m, ...] and the image that each text belongs to [m], ascending.

    Every image has at least one text. What images and texts are, and how networks get them, is the subclass's.
    """

    images: NDArray[Any]
    texts: NDArray[Any]
    owners: Int64
    portion: ClassVar[int] = sys.maxsize
    """How many rows are read at a time where all of them are wanted."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    @abstractmethod
    def dims(self) -> Dims:
        """Return the dimensions of what `reader` gives."""

    @cached_property
    @abstractmethod
    def same(self) -> Int64:
        """Which texts are equal [m]: equal numbers for equal texts."""

    @abstractmethod
    def reader(self, side: Side, device: str) -> Reader:
        """Return what reads rows of one side for its network, on a device."""

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

    def some(self: P, images: Int64) -> P:
        """Return some images, ascending, with all their texts."""
        kept = np.isin(self.owners, images)
        owners = np.searchsorted(images, self.owners[kept])
        return replace(self, images=self.images[images], texts=self.texts[kept], owners=owners)

    def divided(self: P, seed: int) -> tuple[P, P]:
        """Hold out a tenth of the images, at least two and at most 500: (to train on, held out)."""
        held = max(2, min(MOST_HELD, len(self) // 10))
        order = np.random.default_rng(seed).permutation(len(self))
        return self.some(np.sort(order[held:])), self.some(np.sort(order[:held]))


@dataclass(frozen=True)
class TrainingPairs(Pairs):
    """Hold cached embeddings: images [n, di] and texts [m, dt], unit vectors."""

    images: Float32
    texts: Float32

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

    @property
    def dims(self) -> Dims:
        return {"image": self.images.shape[1], "text": self.texts.shape[1]}

    @cached_property
    def same(self) -> Int64:
        return groups(self.texts)

    def reader(self, side: Side, device: str) -> Reader:
        """Put all rows of one side on the device, once."""
        import torch

        rows = torch.from_numpy(self.images if side == "image" else self.texts).to(device)
        return lambda some: (rows[some],)
