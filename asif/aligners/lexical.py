"""Canonical correlation of images with texts and their words, shrunk by rule: `cca(words)`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asif.aligners.joined_texts import IMAGE_POWER, JoinedTexts, find_joined_sums, read_rows
from asif.aligners.leave_one_out import choose_strength
from asif.aligners.linear import (
    MAX_EXPONENT,
    MIN_RELATIVE_CORRELATION,
    MIN_VARIANCE,
    LinearMaps,
    compute_column_scales,
    make_empty_maps,
    round_maps,
    scale_to_unit,
)
from asif.aligners.moments import Moments
from asif.aligners.protocol import Anchors, TemplateMode, read_captions
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.kernels.canonical import round_to_grid
from asif.vectors import (
    SIDES,
    AnchorContributions,
    DenseRows,
    Embeddings,
    FitArrays,
    Float64,
    Side,
)

_BATCH_ROWS = 4096
_MOST_PROJECTED = 1 << 24  # entries of anchors that explanations keep
_MAX_WORDS = 3.0  # of unit sentence vectors: products with the maps stay exact
_MANY_PAIRS = 1_000
_LEAST_STRENGTH = 1e-6  # from which on covariances are invertible beyond rounding


@dataclass(frozen=True)
class LexicalCca:
    """Canonical correlation between images and texts, where a text is its sentence vector joined with its words.

    An image x with entries from zero on becomes unit(x^power), a text y stays; both are centred by the anchors' mean
    and of unit length. A text is then [y, g ℓ], with ℓ the mean of the unit tf-idf rows of its words, see `Vocabulary`.
    Images and texts are mapped as `cca` does, with λ times the mean variance added to both covariances. Each caption
    of an anchor counts in the covariance of words with words; elsewhere their mean does, as of sentence vectors.

    Where a parameter is None the anchors decide: λ by leave-one-out if texts have two or more images each on average,
    see `choose_strength`, else λ = 300/√N of N distinct images, and 0.4 of it for texts if N is 1,000 and there are no
    words; g (`words`) = ½ for N below 300, else 1; `power` = 0.6 if no entry of an anchor is negative, else 1. So a set
    with each caption as an anchor of its own has the parameters of one with their means, but each caption counts in all
    covariances of texts: the better choice for search. With `words` = 0, without captions, or without words that recur
    in them, texts are their sentence vectors alone. Text embeddings without texts are represented by the regression of
    the anchors' representations on their sentence vectors.
    Raises UsageError for parameters out of range.

    >>> LexicalCca(words=0.5).parameters
    {'words': 0.5, 'size': 384, 'exponents': [0.5, 0.5]}
    """

    strength: float | None = None
    size: int = 384
    weight: float = 1.0
    words: float | None = None
    power: float | None = None
    name: str = "cca(words)"

    def __post_init__(self) -> None:
        _check_range("lambda", self.strength, _LEAST_STRENGTH, math.inf, 1)
        _check_range("size", self.size, 0, math.inf, 384)
        _check_range("words", self.words, 0, _MAX_WORDS, 1, inclusive=True)
        _check_range("power", self.power, 0, 1, IMAGE_POWER)
        if not 0 <= self.weight <= 2 * MAX_EXPONENT:
            raise UsageError(
                f"weight is {self.weight}", f"a number from 0 to {2 * MAX_EXPONENT:g}", "pass a weight such as 1"
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters; `words` is true where the anchors decide its weight."""
        given = {
            "words": True if self.words is None else self.words,
            "lambda": self.strength,
            "size": self.size,
            "power": self.power,
        }
        exponents = [self.weight / 2, self.weight / 2]
        return {**{name: value for name, value in given.items() if value is not None}, "exponents": exponents}

    @property
    def template_mode(self) -> TemplateMode:
        """Average the prompts."""
        return "mean"

    def fit(self, anchors: Anchors) -> FittedLexicalCca:
        """Bind to an anchor set; words are counted and the maps solved when first needed."""
        return FittedLexicalCca(self, anchors)

    def restore(self, anchors: Anchors, arrays: FitArrays) -> FittedLexicalCca:
        """Bind to an anchor set with the words and the maps of an earlier fit."""
        return FittedLexicalCca(self, anchors, _Solution.from_arrays(arrays))


def _check_range(
    name: str, value: float | None, least: float, most: float, example: float, *, inclusive: bool = False
) -> None:
    if value is None or (least < value <= most and value < math.inf) or (inclusive and value == least):
        return
    start, end = "from" if inclusive else "above", "" if most == math.inf else f" up to {most:g}"
    raise UsageError(f"{name} is {value}", f"a number {start} {least:g}{end}", f"pass a {name} such as {example:g}")


@dataclass(frozen=True)
class _Solution:
    """Hold what makes rows of embeddings: λ of images, the steps before the maps, and the maps [d, s].

    The maps of texts are over [sentence vector, words]. `sentences` [dt, s] maps sentence vectors of texts whose words
    are unknown; its columns are divided by `sentence_scales` [s], as those of `LinearMaps` are.
    """

    strength: float
    joined: JoinedTexts
    maps: LinearMaps
    sentences: Float64
    sentence_scales: Float64

    def as_arrays(self) -> FitArrays:
        """Return the solution as named arrays of floats, for a file."""
        sentences = {"map_sentence": self.sentences, "scale_sentence": self.sentence_scales}
        return {"strength": np.array(self.strength), **self.maps.as_arrays(), **self.joined.as_arrays(), **sentences}

    @classmethod
    def from_arrays(cls, arrays: FitArrays) -> _Solution:
        """Read what `as_arrays` wrote; raises KeyError if something is missing."""
        sentences = np.array(arrays["map_sentence"], order="C"), np.array(arrays["scale_sentence"])
        joined, maps = JoinedTexts.from_arrays(arrays), LinearMaps.from_arrays(arrays)
        return cls(float(arrays["strength"]), joined, maps, *sentences)

    def apply(self, embeddings: Embeddings, side: Side) -> Float64:
        """Map embeddings into the common space [n, s], without normalisation; exact in float64, so in any batch."""
        dense = self.joined.centre(embeddings.values, side)
        if side == "text" and embeddings.texts is None and self.uses_texts:
            return (dense @ self.sentences - self._sentence_offset) * self.sentence_scales
        mapped = dense @ self.maps.maps[side][: dense.shape[1]]
        if side == "text" and embeddings.texts is not None and self.uses_texts:
            mapped += self.joined.represent_words(embeddings.texts) @ self.maps.maps[side][dense.shape[1] :]
        centred: Float64 = mapped - self._offsets[side]
        return centred * self.maps.scales[side]

    @property
    def uses_texts(self) -> bool:
        return len(self.joined.vocabulary) > 0

    @cached_property
    def _offsets(self) -> dict[Side, Float64]:
        """The mapped means of both sides [s]."""
        return {side: self.maps.means[side] @ self.maps.maps[side] for side in SIDES}

    @cached_property
    def _sentence_offset(self) -> Float64:
        """The mapped mean of the sentence vectors [s]."""
        offset: Float64 = self.maps.means["text"][: len(self.sentences)] @ self.sentences
        return offset


def _solve(aligner: LexicalCca, anchors: Anchors) -> _Solution:
    """Choose the shrinkage, and solve for the maps from the sums over the anchors."""
    joined, moments = find_joined_sums(anchors, aligner.words, aligner.power)
    strength = aligner.strength or choose_strength(anchors, joined, moments)
    if strength is None:
        strengths = _choose_usual_strengths(joined.images, len(joined.vocabulary) > 0)
    else:
        strengths = strength, strength
    maps = _solve_maps(aligner, strengths, moments)
    sentences = _regress_on_sentences(maps, moments, strengths[1], len(joined.centres["text"]))
    return _Solution(strengths[0], joined, maps, *sentences)


def _choose_usual_strengths(pairs: int, has_words: bool) -> tuple[float, float]:
    """Return λ of images and of texts.

    >>> _choose_usual_strengths(900, True), _choose_usual_strengths(10_000, False)
    ((10.0, 10.0), (3.0, 1.2000000000000002))
    """
    strength = 300 / math.sqrt(pairs)
    return strength, strength * (0.4 if pairs >= _MANY_PAIRS and not has_words else 1)


def _solve_maps(aligner: LexicalCca, strengths: tuple[float, float], moments: Moments) -> LinearMaps:
    """Solve for the canonical directions from the regression of the side with fewer dimensions on the other.

    With images on texts that is (S_yy + λ)^-1 S_yx.
    """
    from scipy import linalg

    xx, yy, xy = moments.covariances()
    means: dict[Side, Float64] = {"image": moments.image / moments.count, "text": moments.text / moments.count}
    if min(np.trace(xx), np.trace(yy)) < MIN_VARIANCE:
        return make_empty_maps(means)
    for square, strength in ((xx, strengths[0]), (yy, strengths[1])):
        square[np.diag_indices(len(square))] += strength * np.trace(square) / len(square)
    small, large, cross = (xx, yy, xy) if len(xx) <= len(yy) else (yy, xx, xy.T)
    weights = linalg.cho_solve(linalg.cho_factor(large, lower=True), cross.T)  # [large, small]
    root = linalg.cholesky(small, lower=True)
    half = linalg.solve_triangular(root, cross @ weights, lower=True)
    middle = linalg.solve_triangular(root, half.T, lower=True)  # R² is its spectrum
    size = min(aligner.size, len(middle))
    values, axes = linalg.eigh((middle + middle.T) / 2, subset_by_index=[len(middle) - size, len(middle) - 1])
    correlations = np.sqrt(np.maximum(values[::-1], 0))
    clear = max(1, int((correlations > MIN_RELATIVE_CORRELATION * correlations[0]).sum()))
    used = np.maximum(correlations[:clear], np.finfo(np.float64).tiny)
    near = linalg.solve_triangular(root, axes[:, ::-1][:, :clear], lower=True, trans="T")
    far = weights @ near / used
    image, text = (near, far) if small is xx else (far, near)
    exponent = aligner.weight / 2
    return round_maps(means, image * used**exponent, text * used**exponent, used, xy)


def _regress_on_sentences(maps: LinearMaps, moments: Moments, strength: float, dim: int) -> tuple[Float64, Float64]:
    """Regress the representations of texts [s] on their sentence vectors [dim]: the map on the grid, and its scales."""
    from scipy import linalg

    _, yy, _ = moments.covariances()
    within = yy[:dim, :dim].copy()
    if np.trace(within) < MIN_VARIANCE:
        return np.zeros((dim, len(maps.correlations))), np.ones(len(maps.correlations))
    within[np.diag_indices(dim)] += strength * np.trace(within) / dim
    covariance = yy[:dim] @ (maps.maps["text"] * maps.scales["text"])
    solved = linalg.cho_solve(linalg.cho_factor(within, lower=True), covariance)
    scales = compute_column_scales(solved)
    return np.ascontiguousarray(round_to_grid(solved / scales)), scales


@dataclass(frozen=True)
class FittedLexicalCca:
    """A canonical correlation with words fitted to one anchor set; `restored` is the solution of an earlier fit."""

    aligner: LexicalCca
    anchors: Anchors
    restored: _Solution | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the anchors decided, and the number of words in use: 0 without captions."""
        solved = self._solution
        return {
            **self.aligner.parameters,
            "words": solved.joined.words,
            "lambda": solved.strength,
            "power": solved.joined.power,
            "vocabulary": len(solved.joined.vocabulary),
        }

    @property
    def uses_texts(self) -> bool:
        """Tell whether the words of texts count."""
        return self._solution.uses_texts

    @cached_property
    def _solution(self) -> _Solution:
        return self.restored or _solve(self.aligner, self.anchors)

    def arrays(self) -> FitArrays:
        """Return the solution as named arrays."""
        return self._solution.as_arrays()

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> DenseRows:
        """Map embeddings [n, d] into the common space [n, s], to unit length; of texts their words count if known."""
        self._check(side, embeddings)
        out = np.zeros((len(embeddings), len(self._solution.maps.correlations)), np.float32)
        for start in range(0, len(embeddings), _BATCH_ROWS):
            some = slice(start, start + _BATCH_ROWS)
            out[some] = scale_to_unit(self._solution.apply(embeddings.select_rows(some), side))
        return DenseRows(out)

    def _check(self, side: Side, embeddings: Embeddings) -> None:
        dim = len(self._solution.joined.centres[side])
        if embeddings.dim != dim:
            raise UsageError(
                f"{side} embeddings have {embeddings.dim} dimensions, anchors {dim}",
                "equal dimensions",
                "encode with the encoder of the anchor set",
            )

    def split_score(self, image: DenseRows, text: DenseRows) -> AnchorContributions:
        """Split a score into anchor contributions, as closed-form maps do, see `FittedLinear.split_score`."""
        from scipy import linalg

        maps, pairs = self._solution.maps, self.anchors.count
        if not maps.shared.any():  # no covariance
            return AnchorContributions(np.arange(pairs), np.zeros(pairs))
        weights = maps.correlations**self.aligner.weight
        facing = {
            "image": linalg.lu_solve(self._factored_shared, image.values[0] * weights),
            "text": text.values[0] / weights,
        }
        products = np.ones(pairs)
        for side in SIDES:
            parts = [np.einsum("ns,s->n", rows, facing[side]) for rows in self._iter_projected(side)]
            products *= np.concatenate(parts)
        return AnchorContributions(np.arange(pairs), products / pairs)

    def _iter_projected(self, side: Side) -> Iterator[Float64]:
        """Yield the anchors' representations before normalisation [n, s]; those of small sets are kept."""
        if side in self._projected:
            yield from self._projected[side]
            return
        captions = read_captions(self.anchors) if side == "text" and self.uses_texts else None
        made, start = [], 0
        keep = self.anchors.count * len(self._solution.maps.correlations) <= _MOST_PROJECTED
        for rows in read_rows(self.anchors, side):
            texts = None if captions is None else tuple(captions[start : start + len(rows)])
            start += len(rows)
            projected = self._solution.apply(Embeddings(rows.astype(np.float32), texts), side)
            made += [projected] if keep else []
            yield projected
        if keep:
            self._projected[side] = made

    @cached_property
    def _factored_shared(self) -> tuple[Float64, Any]:
        from scipy import linalg

        factored: tuple[Float64, Any] = linalg.lu_factor(self._solution.maps.shared.T)
        return factored

    @cached_property
    def _projected(self) -> dict[Side, list[Float64]]:
        return {}
