"""Cross-validation over anchors: aligners are fitted to some of them, the held-out ones are the queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Anchors
from asif.aligners.protocol import read_captions
from asif.aligners.sampling import choose_evenly_spaced, number_equal_rows
from asif.errors import InputRefused
from asif.vectors import Embeddings, Int64, Side, gather_rows

MAX_PAIRS = 20_000  # used for tuning; of a larger set, evenly spaced runs
_RUN_ROWS = 50  # rows of a run: pairs that share an image are often adjacent
_MAX_HELD_OUT_IMAGES = 1_000  # held out at a time
_BLOCK_ROWS = 8_192
QUICK_CHECK_ROWS = 256  # for `has_repeated_texts` when a fast answer is needed
NOISE_COSINE = 0.3  # of an image to itself with noise: query images differ from anchors, see bench/tuning.py

CaptionSampler = Callable[[Int64], tuple[Embeddings, Int64]]
"""Returns captions of anchors, by row: their embeddings, and for each the position of its row among those given."""


@dataclass(frozen=True, eq=False)
class AnchorSubset:
    """Hold some rows of an anchor set in memory, with the protocol of `Anchors`.

    `rows` [n] are those of the set `whole`, whose captions are read when an aligner compares words.
    """

    sides: dict[Side, NDArray[Any]]
    whole: Anchors | None = None
    rows: Int64 | None = None

    @classmethod
    def of(cls, anchors: Anchors, rows: Int64) -> AnchorSubset:
        """Copy rows, in ascending order, of both sides."""
        sides: tuple[Side, Side] = ("image", "text")
        return cls({side: gather_rows(anchors.blocks(side), rows) for side in sides}, anchors, rows)

    @property
    def count(self) -> int:
        return len(self.sides["image"])

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        return [self.sides[side][start : start + _BLOCK_ROWS] for start in range(0, self.count, _BLOCK_ROWS)]

    def mean(self, side: Side) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self.sides[side].astype(np.float64).mean(axis=0)
        return mean

    def select_rows(self, chosen: Int64) -> AnchorSubset:
        """Return a subset of the rows."""
        rows = None if self.rows is None else self.rows[chosen]
        return AnchorSubset({side: values[chosen] for side, values in self.sides.items()}, self.whole, rows)

    def read_captions(self) -> list[tuple[str, ...]]:
        """Read the captions of the rows; empty if the set has none."""
        captions = None if self.whole is None or self.rows is None else read_captions(self.whole)
        return [captions[row] for row in self.rows.tolist()] if captions and self.rows is not None else []


@dataclass(frozen=True)
class HeldOutQueries:
    """Hold one fold: the anchors to fit, and the held-out pairs as distinct images and distinct texts.

    `matches` [images, texts] marks the true pairs. Pairs that share an image are held out together.
    """

    anchors: AnchorSubset
    images: Embeddings
    texts: Embeddings
    matches: NDArray[np.bool_]

    def add_noise(self, seed: int, cosine: float = NOISE_COSINE) -> HeldOutQueries:
        """Add isotropic noise to the images, such that each has about this cosine to itself without noise."""
        values = self.images.values
        noise = np.random.default_rng(seed).standard_normal(values.shape).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        return replace(self, images=Embeddings.from_raw(cosine * values + np.sqrt(1 - cosine**2) * noise))


def split_folds(
    anchors: Anchors, seed: int, captions: CaptionSampler | None = None, *, words: bool = True
) -> Iterator[HeldOutQueries]:
    """Split an anchor set into two to five folds: a fifth of the images, at most 1,000, is held out at a time.

    With `captions`, the held-out texts are single captions of the pairs, as queries are, instead of the stored means
    of several. With `words`, vectors of texts come with the texts. Raises InputRefused for fewer than 10 distinct
    images or two distinct texts.
    """
    rows = choose_runs(anchors.count)
    pairs = AnchorSubset.of(anchors, rows)
    image_groups, text_groups = number_equal_rows(pairs.sides["image"]), number_equal_rows(pairs.sides["text"])
    count = int(image_groups.max()) + 1
    if count < 10 or text_groups.max() < 1:
        raise InputRefused(
            f"{count} distinct images and {int(text_groups.max()) + 1} distinct texts among the anchors",
            "at least 10 images and two texts: some are held out as queries",
            "add pairs, or name an aligner yourself: --aligner asif",
        )
    size = min(_MAX_HELD_OUT_IMAGES, -(-count // 5))
    order = np.random.default_rng(seed).permutation(count)
    for fold in range(max(2, min(5, -(-2 * _MAX_HELD_OUT_IMAGES // size)))):
        held_out = np.isin(image_groups, order[fold * size : (fold + 1) * size])
        if held_out.all() or not held_out.any():
            continue
        fit_anchors = pairs.select_rows(np.flatnonzero(~held_out))
        query_pairs = pairs.select_rows(np.flatnonzero(held_out))
        if captions is None:
            said = tuple(query_pairs.read_captions()) or None
            texts, owners = Embeddings(query_pairs.sides["text"].astype(np.float32), said), np.arange(query_pairs.count)
        else:
            texts, owners = captions(rows[held_out])
        texts = texts if words else Embeddings(texts.values)
        yield _build_queries(fit_anchors, image_groups[held_out], query_pairs.sides["image"], texts, owners)


def has_repeated_texts(anchors: Anchors, most: int = MAX_PAIRS) -> bool:
    """Tell, from at most `most` anchors, whether texts have two or more images each on average, as class names do.

    If so, the texts are the labels to classify by; if not, most images have a text that no other image has.

    >>> from types import SimpleNamespace
    >>> has_repeated_texts(SimpleNamespace(count=4, blocks={"text": [np.eye(2)[[0, 1, 1, 0]]]}.get))
    True
    """
    rows = choose_evenly_spaced(anchors.count, most)
    return 2 * (int(number_equal_rows(gather_rows(anchors.blocks("text"), rows)).max()) + 1) <= len(rows)


def has_repeated_images(anchors: Anchors) -> bool:
    """Tell, from the first 256 anchors, whether images have two or more anchors each on average.

    So it is where each caption is an anchor of its own: these are neighbours in the order of ids.

    >>> from types import SimpleNamespace
    >>> has_repeated_images(SimpleNamespace(count=4, blocks={"image": [np.eye(2)[[0, 0, 1, 1]]]}.get))
    True
    """
    rows = np.arange(min(anchors.count, QUICK_CHECK_ROWS))
    return 2 * (int(number_equal_rows(gather_rows(anchors.blocks("image"), rows)).max()) + 1) <= len(rows)


def choose_runs(count: int) -> Int64:
    """Return the rows used for tuning: all, or at most MAX_PAIRS in evenly spaced runs.

    >>> len(choose_runs(100)), len(choose_runs(1_000_000)), choose_runs(1_000_000)[[0, 49, 50]].tolist()
    (100, 20000, [0, 49, 2506])
    """
    if count <= MAX_PAIRS:
        return np.arange(count)
    starts = np.linspace(0, count - _RUN_ROWS, MAX_PAIRS // _RUN_ROWS).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(_RUN_ROWS))


def _build_queries(
    anchors: AnchorSubset, image_groups: Int64, images: NDArray[Any], texts: Embeddings, owners: Int64
) -> HeldOutQueries:
    """Turn held-out pairs into queries: every distinct image and text once.

    `image_groups` [n] are equal for equal images [n, di]; `owners` [m] are the pairs that the texts [m, dt] belong to.
    """
    _, first_images, image_numbers = np.unique(image_groups, return_index=True, return_inverse=True)
    text_numbers = number_equal_rows(texts.values)
    _, first_texts = np.unique(text_numbers, return_index=True)
    matches = np.zeros((len(first_images), len(first_texts)), bool)
    matches[image_numbers[owners], text_numbers] = True
    distinct_images = Embeddings(images[first_images].astype(np.float32))
    return HeldOutQueries(anchors, distinct_images, texts.select_rows(first_texts), matches)
