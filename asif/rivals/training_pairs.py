"""Training data of projectors: frozen features of images, and of each of their captions."""

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
from asif.aligners.sampling import number_equal_rows
from asif.vectors import SIDES, Embeddings, Float32, Int64, Side

_MAX_HELD_OUT = 500
Dims = Mapping[str, int]
"""Dimensions of the networks' inputs: `image`, `text`, and with tokens also `pooled`, an image's pooled vector."""
FeatureReader = Callable[[Int64], tuple[Any, ...]]
"""Returns the inputs of a network for some rows: tensors of as many rows each."""
PairFeaturesT = TypeVar("PairFeaturesT", bound="PairFeatures")


@dataclass(frozen=True)
class PairFeatures:
    """Hold distinct images [n, ...], texts [m, ...] and the image that each text belongs to [m], ascending.

    Every image has at least one text. Subclasses define what images and texts are, and how they become network inputs.
    """

    images: NDArray[Any]
    texts: NDArray[Any]
    owners: Int64
    read_rows: ClassVar[int] = sys.maxsize
    """How many rows are read at a time when all are needed."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    @abstractmethod
    def dims(self) -> Dims:
        """Return the dimensions of what `reader` reads."""

    @cached_property
    @abstractmethod
    def text_groups(self) -> Int64:
        """A group number for each text [m], equal for equal texts."""

    @abstractmethod
    def reader(self, side: Side, device: str) -> FeatureReader:
        """Return a function that reads rows of one side as inputs of its network, on a device."""

    @cached_property
    def text_starts(self) -> Int64:
        """The index of each image's first text, and the number of texts [n + 1]."""
        return np.searchsorted(self.owners, np.arange(len(self) + 1))

    @property
    def matches(self) -> NDArray[np.bool_]:
        """The true texts of each image [n, m]: its own, and those equal to one of its own."""
        image_groups = np.zeros((len(self), int(self.text_groups.max()) + 1), bool)
        image_groups[self.owners, self.text_groups] = True
        return image_groups[:, self.text_groups]

    def draw_texts(self, images: Int64, random: np.random.Generator) -> Int64:
        """Draw one text for each image [b]."""
        first, after = self.text_starts[images], self.text_starts[images + 1]
        return first + (random.random(len(images)) * (after - first)).astype(np.int64)

    def select_images(self: PairFeaturesT, images: Int64) -> PairFeaturesT:
        """Return a subset of the images, given in ascending order, with all their texts."""
        selected = np.isin(self.owners, images)
        owners = np.searchsorted(images, self.owners[selected])
        return replace(self, images=self.images[images], texts=self.texts[selected], owners=owners)

    def split(self: PairFeaturesT, seed: int) -> tuple[PairFeaturesT, PairFeaturesT]:
        """Split off a tenth of the images, at least two and at most 500: (training pairs, held-out pairs)."""
        count = max(2, min(_MAX_HELD_OUT, len(self) // 10))
        order = np.random.default_rng(seed).permutation(len(self))
        return self.select_images(np.sort(order[count:])), self.select_images(np.sort(order[:count]))


@dataclass(frozen=True)
class TrainingPairs(PairFeatures):
    """Hold cached embeddings: images [n, di] and texts [m, dt], unit vectors."""

    images: Float32
    texts: Float32

    @classmethod
    def of(cls, anchors: Anchors, captions: tuple[Embeddings, Int64] | None = None) -> TrainingPairs:
        """Take the pairs of an anchor set; anchors with equal images count as one image with several texts.

        `captions` are single captions [m, dt] and the anchor of each [m], instead of the stored texts.
        """
        image, text = (np.concatenate([block.astype(np.float32) for block in anchors.blocks(side)]) for side in SIDES)
        numbers = number_equal_rows(image)
        _, first = np.unique(numbers, return_index=True)
        texts, whose = (text, np.arange(len(text))) if captions is None else (captions[0].values, captions[1])
        owners = numbers[whose]
        order = np.argsort(owners, kind="stable")
        return cls(image[first], texts[order], owners[order])

    @property
    def dims(self) -> Dims:
        return {"image": self.images.shape[1], "text": self.texts.shape[1]}

    @cached_property
    def text_groups(self) -> Int64:
        return number_equal_rows(self.texts)

    def reader(self, side: Side, device: str) -> FeatureReader:
        """Copy all rows of one side to the device; the reader selects among them."""
        import torch

        rows = torch.from_numpy(self.images if side == "image" else self.texts).to(device)
        return lambda indices: (rows[indices],)
