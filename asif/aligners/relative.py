"""Relative representations: ASIF (Norelli et al., NeurIPS 2023, arXiv 2210.01738), revised and as published."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from asif.aligners.neighbours import SPARE, Neighbours
from asif.aligners.protocol import Anchors, TemplateMode
from asif.errors import UsageError
from asif.kernels import KernelName, freeze, topk_similarity
from asif.kernels.remote import RemoteBlocks
from asif.vectors import AnchorContributions, Embeddings, FitArrays, Float32, Side, SparseRows, TopK

Normalise = Literal["both", "text"]

_BATCH_ROWS = 1024  # whose float64 weights fit in the cache


@dataclass(frozen=True)
class Relative:
    """Represent an embedding by its similarities to the anchors: keep the k largest, clamp at 0, raise to p, normalise.

    r(x)_i = max(<f(x), f(x_i)>, 0)^p over the k most similar anchors i, 0 elsewhere. If further anchors are exactly as
    similar as the k-th, for example because pairs share a text, they are all included: a cut among them would be
    arbitrary. `k` None means `compute_default_k` of the number of anchors. With `normalise="both"` rows have unit
    length (zero if no similarity is positive), so scores are cosines in [0, 1], and images can be ranked for a text
    as well as labels for an image. The published code normalises the text side only: same top label, but scores that
    cannot be compared between images. `centre` first subtracts the anchors' mean on each side and renormalises, for
    anchors and queries. `asif-paper` cuts through ties as published.
    Raises UsageError for k < 1 or a power that is not above zero.

    >>> Relative(k=3, power=0)
    Traceback (most recent call last):
        ...
    asif.errors.UsageError: power is 0
      expected: a number above zero
      to do:    pass a power such as 3
    """

    k: int | None = None
    power: float = 3.0
    centre: bool = False
    normalise: Normalise = "both"
    name: str = "asif"

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise UsageError(f"k is {self.k}", "a whole number from 1", "pass a k such as 50")
        if not (self.power > 0 and np.isfinite(self.power)):
            raise UsageError(f"power is {self.power}", "a number above zero", "pass a power such as 3")

    @property
    def parameters(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "name"}

    @property
    def template_mode(self) -> TemplateMode:
        """Average the prompts, or take the best one, as the published code does."""
        return "mean" if self.normalise == "both" else "max"

    def fit(self, anchors: Anchors) -> FittedRelative:
        """Bind to an anchor set; nothing is computed before the first query."""
        return FittedRelative(self, anchors)

    def restore(self, anchors: Anchors, arrays: FitArrays) -> FittedRelative:
        """Bind to an anchor set; there are no arrays to restore."""
        assert not arrays
        return self.fit(anchors)


def asif_paper(k: int = 800, power: float = 8.0) -> Relative:
    """Reproduce the published code: k = 800, p = 8, text side normalised only (use it with `--template-mode max`)."""
    return Relative(k=k, power=power, normalise="text", name="asif-paper")


@dataclass(frozen=True)
class FittedRelative:
    """A relative representation over one anchor set."""

    aligner: Relative
    anchors: Anchors

    @property
    def k(self) -> int:
        """Return how many anchors are kept for an input, without ties."""
        return min(self.aligner.k or compute_default_k(self.anchors.count), self.anchors.count)

    @property
    def parameters(self) -> dict[str, Any]:
        return {**self.aligner.parameters, "k": self.aligner.k or compute_default_k(self.anchors.count)}

    def arrays(self) -> FitArrays:
        """Return no arrays: the fit is the anchors themselves."""
        return {}

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> SparseRows:
        """Represent embeddings [n, d] as sparse rows over the anchors: min(k, N) entries each, more for ties."""
        values, blocks = embeddings.values, self.anchors.blocks(side)
        if self.aligner.centre:
            values, blocks = centre_rows(values, self.anchors.mean(side)), self._centred_blocks[side]
        if self.aligner.normalise == "text":
            found = topk_similarity(values, blocks, self.k, engine=engine)
        else:
            found = find_topk_with_ties(values, blocks, self.k, engine)
        return self._weigh(side, found)

    @property
    def has_neighbours(self) -> bool:
        """Tell whether rows are made of neighbours alone, with all that tie: without means, which any edit changes."""
        return not self.aligner.centre and self.aligner.normalise == "both"

    def find_neighbours(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> Neighbours:
        """Find the anchors that `represent` needs for embeddings [n, d], and some to spare."""
        taken = min(self.k + SPARE, self.anchors.count)
        found = topk_similarity(embeddings.values, self.anchors.blocks(side), taken, engine=engine)
        return Neighbours.of(found, self.anchors.count)

    def represent_neighbours(
        self, side: Side, embeddings: Embeddings, near: Neighbours, engine: KernelName = "auto"
    ) -> SparseRows:
        """Represent embeddings [n, d], whose neighbours are known, as `represent` does, bit for bit.

        Those with more anchors as similar as the k-th than are known are searched for.
        """
        few = np.flatnonzero(~near.are_enough(self.k))
        if not len(few):
            return self._weigh(side, near.select(self.k))
        rest = np.flatnonzero(near.are_enough(self.k))
        found = find_topk_with_ties(embeddings.values[few], self.anchors.blocks(side), self.k, engine)
        known = near.take(rest).select(self.k) if len(rest) else TopK(found.indices[:0], found.scores[:0])
        parts = [SparseRows(each.indices, each.scores, self.anchors.count) for each in (known, found)]
        entries = max(part.indices.shape[1] for part in parts)
        order = np.argsort(np.concatenate([rest, few]))
        indices, scores = (
            np.concatenate([getattr(part.widen(entries), name) for part in parts])[order]
            for name in ("indices", "values")
        )
        return self._weigh(side, TopK(indices, scores))

    def _weigh(self, side: Side, found: TopK) -> SparseRows:
        """Turn similarities, descending, into the entries of rows."""
        unit = self.aligner.normalise == "both" or side == "text"
        weights = np.empty_like(found.scores)
        for start in range(0, len(weights), _BATCH_ROWS):
            some = slice(start, start + _BATCH_ROWS)
            weights[some] = _compute_weights(found.scores[some], self.aligner.power, unit)
        return SparseRows(found.indices, weights, self.anchors.count)

    def split_score(self, image: SparseRows, text: SparseRows) -> AnchorContributions:
        """Split a score into anchor contributions: anchor i, if both rows have it, adds r_i t_i."""
        return multiply_shared_entries(image, text)

    @cached_property
    def _centred_blocks(self) -> dict[Side, Sequence[NDArray[Any]]]:
        sides: tuple[Side, Side] = ("image", "text")
        return {side: _centre_blocks(self.anchors.blocks(side), self.anchors.mean(side)) for side in sides}


def compute_default_k(count: int) -> int:
    """Return the default k for `count` anchors.

    5 N^0.355: 20 of 50, 58 of 1,000, 800 of 1.6 million. Near the best k for 50 to 6,000 pairs (bench/RESULTS.md), and
    the published k for the published number.

    >>> [compute_default_k(count) for count in (1, 50, 1_000, 6_000, 1_600_000)]
    [1, 20, 58, 110, 797]
    """
    return min(count, round(5 * math.pow(count, 0.355)))


def find_topk_with_ties(queries: Float32, anchors: Sequence[NDArray[Any]], k: int, engine: KernelName) -> TopK:
    """Find the k most similar anchors of each query and all others exactly as similar as the k-th: [q, k or more].

    Entries less similar than the k-th, which are there only because other queries have ties, have score 0.

    >>> anchors = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    >>> find_topk_with_ties(np.eye(3, dtype=np.float32)[:2], [anchors], 1, "auto").scores.tolist()
    [[1.0, 1.0], [1.0, 0.0]]
    """
    count, taken = sum(map(len, anchors)), k
    while True:
        taken = min(count, taken + 1 if taken == k else 2 * taken)
        found = topk_similarity(queries, anchors, taken, engine=engine)
        last = found.scores[:, k - 1 : k]
        if taken == count or not ((found.scores[:, -1:] == last) & (last > 0)).any():
            break
    entries = max(k, int((found.scores >= last).sum(axis=1).max(initial=0, where=last[:, 0] > 0)))
    scores = np.where(found.scores >= last, found.scores, np.float32(0))
    return TopK(found.indices[:, :entries], scores[:, :entries])


def multiply_shared_entries(image: SparseRows, text: SparseRows) -> AnchorContributions:
    """Return the products of the entries that two rows share, those above zero.

    >>> r = SparseRows(np.array([[0, 1, 2]]), np.array([[0.5, 0.5, 0.75]], np.float32), 4)
    >>> t = SparseRows(np.array([[2, 3, 1]]), np.array([[0.5, 0.25, 0.0]], np.float32), 4)
    >>> multiply_shared_entries(r, t)
    AnchorContributions(anchors=array([2]), values=array([0.375]))
    """
    anchors, in_image, in_text = np.intersect1d(image.indices[0], text.indices[0], return_indices=True)
    products = image.values[0][in_image].astype(np.float64) * text.values[0][in_text]
    positive = products > 0
    return AnchorContributions(anchors[positive], products[positive])


def _compute_weights(similarities: Float32, power: float, unit: bool) -> NDArray[np.float64]:
    """Clamp similarities [q, k], best first, at 0, raise them to a power and, with `unit`, scale rows to unit length.

    >>> _compute_weights(np.array([[0.8, 0.6, -0.1]], np.float32), 1, unit=True).round(6).tolist()
    [[0.8, 0.6, 0.0]]
    """
    positive = np.maximum(similarities, 0.0).astype(np.float64)
    if not unit:
        return _raise_to_power(positive, power)
    largest = positive[:, :1].copy()  # dividing by it first prevents underflow under a high power
    powered = _raise_to_power(np.divide(positive, largest, out=positive, where=largest > 0), power)
    lengths = np.linalg.norm(powered, axis=1, keepdims=True)
    np.divide(powered, lengths, out=powered, where=lengths > 0)
    return powered


def _raise_to_power(values: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Raise values to a power; to whole ones by repeated squaring, which is ten times as fast.

    >>> _raise_to_power(np.array([0.5]), 5.0).tolist(), _raise_to_power(np.array([0.25]), 0.5).tolist()
    ([0.03125], [0.5])
    """
    if power != int(power) or power > 64:
        powered: NDArray[np.float64] = values**power
        return powered
    result, square, left = np.ones_like(values), values, int(power)
    while left:
        if left & 1:
            result = result * square
        left >>= 1
        square = square * square if left else square
    return result


def centre_rows(rows: NDArray[Any], mean: NDArray[np.float64]) -> Float32:
    """Subtract the mean and normalise to unit length; a row that equals the mean becomes zero."""
    shifted = rows.astype(np.float64) - mean
    length = np.linalg.norm(shifted, axis=1, keepdims=True)
    directions = np.divide(shifted, length, out=np.zeros_like(shifted), where=length > 1e-6)
    return np.asarray(directions, np.float32)


def _centre_blocks(blocks: Sequence[NDArray[Any]], mean: NDArray[np.float64]) -> Sequence[NDArray[Any]]:
    """Centre blocks where they are searched."""
    return blocks.centre(mean) if isinstance(blocks, RemoteBlocks) else CentredBlocks(blocks, mean)


@dataclass(frozen=True)
class CentredBlocks(Sequence[NDArray[Any]]):
    """Centre blocks when they are read, one at a time in memory; the first gigabyte is cached."""

    blocks: Sequence[NDArray[Any]]
    mean: NDArray[np.float64]
    cached_bytes: int = 2**30

    @cached_property
    def _cache(self) -> dict[int, Float32]:
        return {}

    @overload
    def __getitem__(self, at: int) -> Float32: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Float32]: ...
    def __getitem__(self, at: int | slice) -> Float32 | Sequence[Float32]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        at = range(len(self))[at]  # -1 is the last one
        if at not in self._cache:
            block = centre_rows(self.blocks[at], self.mean)
            if sum(cached.nbytes for cached in self._cache.values()) + block.nbytes > self.cached_bytes:
                return block
            self._cache[at] = freeze(block)
        return self._cache[at]

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Float32]:
        return (self[at] for at in range(len(self)))
