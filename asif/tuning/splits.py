"""Some anchors are held out: the rest is fitted, and they are the questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Anchors
from asif.aligners.sampling import evenly, groups
from asif.errors import InputRefused
from asif.vectors import Embeddings, Float32, Int64, Side, gathered

MOST_PAIRS = 20_000  # looked at, of a larger set in runs of
RUN = 50  # rows, evenly spread: pairs that share an image tend to lie together
MOST_QUESTIONS = 1_000  # held out at a time
BLOCK_ROWS = 8_192
GLANCE = 256  # rows that tell whether texts repeat, where there is no time for more
BLUR = 0.3  # labels are asked of images unlike the anchors': see bench/tuning.py

Captions = Callable[[Int64], tuple[Embeddings, Int64]]
"""Give captions of anchors, by row: their embeddings, and which of the rows, by position, each belongs to."""


@dataclass(frozen=True, eq=False)
class Subset:
    """Hold some rows of an anchor set in memory, as an aligner sees anchors."""

    sides: dict[Side, NDArray[Any]]

    @classmethod
    def of(cls, anchors: Anchors, rows: Int64) -> Subset:
        """Gather rows, in ascending order, of both sides."""
        sides: tuple[Side, Side] = ("image", "text")
        return cls({side: gathered(anchors.blocks(side), rows) for side in sides})

    @property
    def count(self) -> int:
        return len(self.sides["image"])

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        return [self.sides[side][start : start + BLOCK_ROWS] for start in range(0, self.count, BLOCK_ROWS)]

    def mean(self, side: Side) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self.sides[side].astype(np.float64).mean(axis=0)
        return mean

    def rows(self, chosen: Int64) -> Subset:
        """Return some of its rows."""
        return Subset({side: values[chosen] for side, values in self.sides.items()})


@dataclass(frozen=True)
class Questions:
    """Hold one division: the anchors to fit, and held-out pairs as distinct images, distinct texts, and what is right.

    `right` [images, texts] tells which were paired. Pairs that share an image are held out together.
    """

    fitted: Subset
    images: Embeddings
    texts: Embeddings
    right: NDArray[np.bool_]

    def blurred(self, seed: int, cosine: float = BLUR) -> Questions:
        """Return the same with noise in all directions on the images, each about as similar to itself as said."""
        values = self.images.values
        noise = np.random.default_rng(seed).standard_normal(values.shape).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        return replace(self, images=Embeddings.from_raw(cosine * values + np.sqrt(1 - cosine**2) * noise))


def divisions(anchors: Anchors, seed: int, captions: Captions | None = None) -> Iterator[Questions]:
    """Divide an anchor set: a fifth, at most 1,000 images, is held out at a time, two to five times over.

    Where `captions` are given, held-out texts are single captions of the pairs, as questions are asked, in place of
    what is stored of all captions together. Raises InputRefused where fewer than 10 distinct images, or two distinct
    texts, are there to ask about.
    """
    rows = looked_at(anchors.count)
    pairs = Subset.of(anchors, rows)
    image, text = groups(pairs.sides["image"]), groups(pairs.sides["text"])
    count = int(image.max()) + 1
    if count < 10 or text.max() < 1:
        raise InputRefused(
            f"{count} distinct images and {int(text.max()) + 1} distinct texts among the anchors",
            "at least 10 images and two texts: some are held out to ask about",
            "add pairs, or name an aligner yourself: --aligner asif",
        )
    size = min(MOST_QUESTIONS, -(-count // 5))
    order = np.random.default_rng(seed).permutation(count)
    for fold in range(max(2, min(5, -(-2 * MOST_QUESTIONS // size)))):
        held = np.isin(image, order[fold * size : (fold + 1) * size])
        if held.all() or not held.any():
            continue
        fitted = pairs.rows(np.flatnonzero(~held))
        asked = pairs.rows(np.flatnonzero(held))
        if captions is None:
            said, whose = asked.sides["text"].astype(np.float32), np.arange(len(asked.sides["text"]))
        else:
            embeddings, whose = captions(rows[held])
            said = embeddings.values
        yield questions(fitted, image[held], asked.sides["image"], said, whose)


def texts_repeat(anchors: Anchors, most: int = MOST_PAIRS) -> bool:
    """Tell, by at most so many anchors, whether texts stand beside two images or more, as class-level captions do.

    Where they do, the texts are the labels to be asked about; where not, most images have a text of their own.

    >>> from types import SimpleNamespace
    >>> texts_repeat(SimpleNamespace(count=4, blocks={"text": [np.eye(2)[[0, 1, 1, 0]]]}.get))
    True
    """
    rows = evenly(anchors.count, most)
    return 2 * (int(groups(gathered(anchors.blocks("text"), rows)).max()) + 1) <= len(rows)


def looked_at(count: int) -> Int64:
    """Return the rows that are looked at: all, or at most MOST_PAIRS in evenly spread runs.

    >>> len(looked_at(100)), len(looked_at(1_000_000)), looked_at(1_000_000)[[0, 49, 50]].tolist()
    (100, 20000, [0, 49, 2506])
    """
    if count <= MOST_PAIRS:
        return np.arange(count)
    starts = np.linspace(0, count - RUN, MOST_PAIRS // RUN).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(RUN))


def questions(fitted: Subset, numbers: Int64, images: NDArray[Any], said: Float32, whose: Int64) -> Questions:
    """Turn held-out pairs into questions: every distinct image and text once.

    `numbers` [n] tell images [n, di] apart; texts `said` [m, dt] are each of the pair in `whose` [m].
    """
    _, first, which = np.unique(numbers, return_index=True, return_inverse=True)
    texts = groups(said)
    _, once = np.unique(texts, return_index=True)
    right = np.zeros((len(first), len(once)), bool)
    right[which[whose], texts] = True
    return Questions(fitted, Embeddings(images[first].astype(np.float32)), Embeddings(said[once]), right)
