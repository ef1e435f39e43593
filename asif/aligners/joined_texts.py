"""Texts as sentence vectors joined with their words, images after a power; and the sums over anchors of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from asif.aligners.linear import scale_to_unit
from asif.aligners.moments import Moments
from asif.aligners.protocol import Anchors, read_captions
from asif.aligners.sampling import number_equal_rows
from asif.aligners.words import Vocabulary
from asif.kernels.blas import compute_gram_matrix
from asif.kernels.canonical import round_to_grid
from asif.vectors import SIDES, FitArrays, Float64, Side, Texts, gather_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

IMAGE_POWER = 0.6
_FEW_IMAGES = 300
_BLOCK_ROWS = 8192  # of the sums: they do not depend on how anchors lie in blocks


@dataclass(frozen=True)
class JoinedTexts:
    """Hold how images and texts are prepared: the power of images, the weight of words, the vocabulary.

    `images` is the number of distinct images, which is that of pairs even where each caption is an anchor of its own.
    `centres` [d] are the anchors' means of both sides, of images after the power.
    """

    images: int
    power: float
    centres: dict[Side, Float64]
    words: float
    vocabulary: Vocabulary

    def as_arrays(self) -> FitArrays:
        """Return all as named arrays of floats, for a file."""
        centres = {f"centre_{side}": self.centres[side] for side in SIDES}
        given = {"images": self.images, "power": self.power, "words_weight": self.words}
        numbers = {name: np.array(float(value)) for name, value in given.items()}
        return {**centres, **numbers, **self.vocabulary.as_arrays()}

    @classmethod
    def from_arrays(cls, arrays: FitArrays) -> JoinedTexts:
        """Read what `as_arrays` wrote; raises KeyError if something is missing."""
        centres: dict[Side, Float64] = {side: np.array(arrays[f"centre_{side}"]) for side in SIDES}
        power, words = float(arrays["power"]), float(arrays["words_weight"])
        return cls(int(arrays["images"]), power, centres, words, Vocabulary.from_arrays(arrays))

    def centre(self, values: Any, side: Side) -> Float64:
        """Centre rows [n, d] and bring them to unit length, on the grid; the powers of images come first."""
        return round_to_grid(scale_to_unit(_raise(values, self.power if side == "image" else 1) - self.centres[side]))

    def represent_words(self, texts: Texts) -> csr_array:
        """Return the weighted words of texts [n, v], on the grid."""
        rows = self.vocabulary.represent(texts)
        rows.data = round_to_grid(self.words * rows.data)
        return rows


_JoinedSums = tuple[JoinedTexts, Moments]
_SHARED: WeakKeyDictionary[Anchors, dict[tuple[float | None, float | None], _JoinedSums]] = WeakKeyDictionary()


def share_joined_sums(anchors: Anchors) -> None:
    """Let all maps of these anchors share their sums, as long as the anchors are in memory; for tuning.

    The sums of 4,096 words take 200 MB, so those of other anchors are dropped after a fit.
    """
    _SHARED.setdefault(anchors, {})


def find_joined_sums(anchors: Anchors, words: float | None, power: float | None) -> _JoinedSums:
    """Sum over the anchors; where `words` or `power` is None the anchors decide, see `LexicalCca`."""
    shared = _SHARED.get(anchors, {})
    if (words, power) not in shared:
        shared[words, power] = _sum_anchors(anchors, words, power)
    return shared[words, power]


def count_images(anchors: Anchors) -> int:
    """Count the distinct images of anchors: where each caption is an anchor of its own, several have one."""
    rows = gather_rows(anchors.blocks("image"), np.arange(anchors.count))
    return int(number_equal_rows(rows).max()) + 1


def choose_word_weight(images: int) -> float:
    """Return the weight of words next to a unit sentence vector: half below 300 images.

    >>> choose_word_weight(299), choose_word_weight(300)
    (0.5, 1.0)
    """
    return 0.5 if images < _FEW_IMAGES else 1.0


def _sum_anchors(anchors: Anchors, words: float | None, power: float | None) -> _JoinedSums:
    """Count the words, find the centres, and sum: reads the anchors three times, a block at a time."""
    images = count_images(anchors)
    captions = [] if words == 0 else read_captions(anchors) or []
    vocabulary = Vocabulary.count(captions, images)
    if words is None:
        words = choose_word_weight(images)
    if power is None:
        power = 1.0 if any((rows < 0).any() for rows in anchors.blocks("image")) else IMAGE_POWER
    powers: dict[Side, float] = {"image": power, "text": 1.0}
    centres: dict[Side, Float64] = {
        side: np.add.reduce([_raise(rows, powers[side]).sum(axis=0) for rows in read_rows(anchors, side)])
        / anchors.count
        for side in SIDES
    }
    joined = JoinedTexts(images, power, centres, words, vocabulary)
    return joined, _sum_blocks(joined, anchors, captions)


def _raise(values: Any, power: float) -> Float64:
    """Raise the entries of rows [n, d] to a power and bring the rows to unit length; 1 leaves them as they are."""
    wide = np.ascontiguousarray(values, np.float64)
    return wide if power == 1 else scale_to_unit(np.maximum(wide, 0) ** power)


def read_rows(anchors: Anchors, side: Side) -> Iterator[Any]:
    """Yield one side in blocks of 8,192 rows, copied."""
    blocks = anchors.blocks(side)
    for start in range(0, anchors.count, _BLOCK_ROWS):
        yield gather_rows(blocks, np.arange(start, min(start + _BLOCK_ROWS, anchors.count)))


def _sum_blocks(joined: JoinedTexts, anchors: Anchors, captions: list[tuple[str, ...]]) -> Moments:
    """Sum over the anchors with joined texts [sentence vector, words]."""
    total: Moments | None = None
    for at, images, texts in zip(count(), read_rows(anchors, "image"), read_rows(anchors, "text"), strict=False):
        x, y = joined.centre(images, "image"), joined.centre(texts, "text")
        some = captions[at * _BLOCK_ROWS : at * _BLOCK_ROWS + len(x)] or [()] * len(x)
        part = _sum_block(x, y, joined.vocabulary, joined.words, some)
        total = part if total is None else total + part
    assert total is not None
    return total


def _sum_block(
    x: Float64, y: Float64, vocabulary: Vocabulary, weight: float, captions: Sequence[tuple[str, ...]]
) -> Moments:
    """Sum over images [n, di], and texts whose sentence vectors are [n, dt] and whose words [n, v] are sparse.

    The products of words with words are means over the captions of a pair, the others those of its mean words.
    """
    from scipy.sparse import csr_array, diags_array

    counts = np.array([len(some) for some in captions], np.int64)
    shares = 1 / np.repeat(counts, counts)
    single = weight * vocabulary.represent([(caption,) for some in captions for caption in some])
    ends = np.concatenate([[0], np.cumsum(counts)])
    words = csr_array((shares, np.arange(len(shares)), ends), (len(x), len(shares))) @ single
    turned = words.T.tocsr()
    crossed = turned @ y  # [v, dt]
    within = (single.T @ (diags_array(shares) @ single)).toarray()
    yy = np.block([[compute_gram_matrix(y), crossed.T], [crossed, within]])
    xy = np.hstack([x.T @ y, (turned @ x).T])
    return Moments(len(x), x.sum(axis=0), np.append(y.sum(axis=0), words.sum(axis=0)), compute_gram_matrix(x), yy, xy)
