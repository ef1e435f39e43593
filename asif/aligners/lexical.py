"""Canonical correlation of images with texts and their words, shrunk by rule: `cca(words)`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from asif.aligners.linear import (
    MAX_EXPONENT,
    MIN_RELATIVE_CORRELATION,
    MIN_VARIANCE,
    LinearMaps,
    make_empty_maps,
    round_maps,
    scale_to_unit,
)
from asif.aligners.moments import Moments
from asif.aligners.protocol import Anchors, TemplateMode, read_captions
from asif.aligners.words import Vocabulary
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.kernels.blas import compute_gram_matrix
from asif.kernels.canonical import round_to_grid
from asif.vectors import (
    SIDES,
    AnchorContributions,
    DenseRows,
    Embeddings,
    FitArrays,
    Float64,
    Side,
    Texts,
    gather_rows,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BATCH_ROWS = 4096
_BLOCK_ROWS = 8192  # of the sums: they do not depend on how anchors lie in blocks
_MOST_PROJECTED = 1 << 24  # entries of anchors that explanations keep
_MAX_WORDS = 3.0  # of unit sentence vectors: products with the maps stay exact
_FEW_PAIRS, _MANY_PAIRS = 300, 1_000
_IMAGE_POWER = 0.6
_LEAST_STRENGTH = 1e-6  # from which on covariances are invertible beyond rounding


@dataclass(frozen=True)
class LexicalCca:
    """Canonical correlation between images and texts, where a text is its sentence vector joined with its words.

    An image x with entries from zero on becomes unit(x^power), a text y stays; both are centred by the anchors' mean
    and of unit length. A text is then [y, g ℓ], with ℓ the mean of the unit tf-idf rows of its words, see `Vocabulary`.
    Images and texts are mapped as `cca` does, with λ times the mean variance added to both covariances. Each caption
    of an anchor counts in the covariance of words with words; elsewhere their mean does, as of sentence vectors.

    Where a parameter is None the anchors decide: λ = 300/√N, and 0.4 of it for texts if there are 1,000 anchors and no
    words; g (`words`) = ½ below 300 anchors, else 1; `power` = 0.6 if no entry of an anchor is negative, else 1.
    Without captions, or words that recur in them, texts are their sentence vectors alone.
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
        _check_range("words", self.words, 0, _MAX_WORDS, 1)
        _check_range("power", self.power, 0, 1, _IMAGE_POWER)
        if not 0 <= self.weight <= 2 * MAX_EXPONENT:
            raise UsageError(
                f"weight is {self.weight}", f"a number from 0 to {2 * MAX_EXPONENT:g}", "pass a weight such as 1"
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters; `words` is true where the anchors decide its weight."""
        given = {"words": self.words or True, "lambda": self.strength, "size": self.size, "power": self.power}
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

    def choose_strengths(self, pairs: int, has_words: bool) -> tuple[float, float]:
        """Return λ of images and of texts.

        >>> LexicalCca().choose_strengths(900, True), LexicalCca().choose_strengths(10_000, False)
        ((10.0, 10.0), (3.0, 1.2000000000000002))
        """
        if self.strength is not None:
            return self.strength, self.strength
        strength = 300 / math.sqrt(pairs)
        return strength, strength * (0.4 if pairs >= _MANY_PAIRS and not has_words else 1)


def _check_range(name: str, value: float | None, above: float, most: float, example: float) -> None:
    if value is not None and not (above < value <= most and value < math.inf):
        end = "" if most == math.inf else f" up to {most:g}"
        raise UsageError(f"{name} is {value}", f"a number above {above:g}{end}", f"pass a {name} such as {example:g}")


@dataclass(frozen=True)
class _Solution:
    """Hold what makes rows of embeddings: the steps before the maps, and the maps [d, s].

    `centres` [d] are the means of both sides; the maps of texts are over [sentence vector, words].
    """

    power: float
    centres: dict[Side, Float64]
    words: float
    vocabulary: Vocabulary
    maps: LinearMaps

    def as_arrays(self) -> FitArrays:
        """Return the solution as named arrays of floats, for a file."""
        centres = {f"centre_{side}": self.centres[side] for side in SIDES}
        numbers = {"power": np.array(self.power), "words_weight": np.array(self.words)}
        return {**self.maps.as_arrays(), **centres, **numbers, **self.vocabulary.as_arrays()}

    @classmethod
    def from_arrays(cls, arrays: FitArrays) -> _Solution:
        """Read what `as_arrays` wrote; raises KeyError if something is missing."""
        centres: dict[Side, Float64] = {side: np.array(arrays[f"centre_{side}"]) for side in SIDES}
        maps = LinearMaps.from_arrays(arrays)
        vocabulary = Vocabulary.from_arrays(arrays)
        return cls(float(arrays["power"]), centres, float(arrays["words_weight"]), vocabulary, maps)

    def apply(self, embeddings: Embeddings, side: Side) -> Float64:
        """Map embeddings into the common space [n, s], without normalisation; exact in float64, so in any batch."""
        dense, maps = self.centre(embeddings.values, side), self.maps.maps[side]
        mapped = dense @ maps[: dense.shape[1]]
        if side == "text" and len(self.vocabulary):
            assert embeddings.texts is not None
            mapped += self.represent_words(embeddings.texts) @ maps[dense.shape[1] :]
        centred: Float64 = mapped - self._offsets[side]
        return centred * self.maps.scales[side]

    def centre(self, values: Any, side: Side) -> Float64:
        """Centre rows [n, d] and bring them to unit length, on the grid; the powers of images come first."""
        return round_to_grid(scale_to_unit(_raise(values, self.power if side == "image" else 1) - self.centres[side]))

    def represent_words(self, texts: Texts) -> csr_array:
        """Return the weighted words of texts [n, v], on the grid."""
        rows = self.vocabulary.represent(texts)
        rows.data = round_to_grid(self.words * rows.data)
        return rows

    @cached_property
    def _offsets(self) -> dict[Side, Float64]:
        """The mapped means of both sides [s]."""
        return {side: self.maps.means[side] @ self.maps.maps[side] for side in SIDES}


def _raise(values: Any, power: float) -> Float64:
    """Raise the entries of rows [n, d] to a power and bring the rows to unit length; 1 leaves them as they are."""
    wide = np.ascontiguousarray(values, np.float64)
    return wide if power == 1 else scale_to_unit(np.maximum(wide, 0) ** power)


def _solve(aligner: LexicalCca, anchors: Anchors) -> _Solution:
    """Count the words and solve for the maps: reads the anchors three times, a block at a time."""
    captions = read_captions(anchors) or []
    vocabulary = Vocabulary.count(captions)
    words = aligner.words or (0.5 if anchors.count < _FEW_PAIRS else 1.0)
    power = aligner.power or (1.0 if any((rows < 0).any() for rows in anchors.blocks("image")) else _IMAGE_POWER)
    powers: dict[Side, float] = {"image": power, "text": 1.0}
    centres: dict[Side, Float64] = {
        side: np.add.reduce([_raise(rows, powers[side]).sum(axis=0) for rows in _read_rows(anchors, side)])
        / anchors.count
        for side in SIDES
    }
    unsolved = _Solution(power, centres, words, vocabulary, make_empty_maps(centres))
    moments = _sum_joined(unsolved, anchors, captions)
    strengths = aligner.choose_strengths(anchors.count, len(vocabulary) > 0)
    return _Solution(power, centres, words, vocabulary, _solve_maps(aligner, strengths, moments))


def _read_rows(anchors: Anchors, side: Side) -> Iterator[Any]:
    """Yield one side in blocks of 8,192 rows, copied."""
    blocks = anchors.blocks(side)
    for start in range(0, anchors.count, _BLOCK_ROWS):
        yield gather_rows(blocks, np.arange(start, min(start + _BLOCK_ROWS, anchors.count)))


def _sum_joined(unsolved: _Solution, anchors: Anchors, captions: list[tuple[str, ...]]) -> Moments:
    """Sum over the anchors with joined texts [sentence vector, words]."""
    total: Moments | None = None
    for at, images, texts in zip(count(), _read_rows(anchors, "image"), _read_rows(anchors, "text"), strict=False):
        x, y = unsolved.centre(images, "image"), unsolved.centre(texts, "text")
        some = captions[at * _BLOCK_ROWS : at * _BLOCK_ROWS + len(x)] or [()] * len(x)
        part = _sum_block(x, y, unsolved.vocabulary, unsolved.words, some)
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


def _solve_maps(aligner: LexicalCca, strengths: tuple[float, float], moments: Moments) -> LinearMaps:
    """Solve for the canonical directions from the regression of images on texts: (S_yy + λ)^-1 S_yx."""
    from scipy import linalg

    xx, yy, xy = moments.covariances()
    means: dict[Side, Float64] = {"image": moments.image / moments.count, "text": moments.text / moments.count}
    if min(np.trace(xx), np.trace(yy)) < MIN_VARIANCE:
        return make_empty_maps(means)
    for square, strength in ((xx, strengths[0]), (yy, strengths[1])):
        square[np.diag_indices(len(square))] += strength * np.trace(square) / len(square)
    weights = linalg.cho_solve(linalg.cho_factor(yy, lower=True), xy.T)  # [dt + v, di]
    root = linalg.cholesky(xx, lower=True)
    half = linalg.solve_triangular(root, xy @ weights, lower=True)
    middle = linalg.solve_triangular(root, half.T, lower=True)  # R² is its spectrum
    size = min(aligner.size, len(middle))
    values, axes = linalg.eigh((middle + middle.T) / 2, subset_by_index=[len(middle) - size, len(middle) - 1])
    correlations = np.sqrt(np.maximum(values[::-1], 0))
    clear = max(1, int((correlations > MIN_RELATIVE_CORRELATION * correlations[0]).sum()))
    used = np.maximum(correlations[:clear], np.finfo(np.float64).tiny)
    image = linalg.solve_triangular(root, axes[:, ::-1][:, :clear], lower=True, trans="T")
    text = weights @ image / used
    exponent = aligner.weight / 2
    return round_maps(means, image * used**exponent, text * used**exponent, used, xy)


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
        strengths = self.aligner.choose_strengths(self.anchors.count, self.uses_texts)
        return {
            **self.aligner.parameters,
            "words": solved.words,
            "lambda": strengths[0],
            "power": solved.power,
            "vocabulary": len(solved.vocabulary),
        }

    @property
    def uses_texts(self) -> bool:
        """Tell whether text embeddings need their texts."""
        return len(self._solution.vocabulary) > 0

    @cached_property
    def _solution(self) -> _Solution:
        return self.restored or _solve(self.aligner, self.anchors)

    def arrays(self) -> FitArrays:
        """Return the solution as named arrays."""
        return self._solution.as_arrays()

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> DenseRows:
        """Map embeddings [n, d] into the common space [n, s], to unit length.

        Raises UsageError for text embeddings without their texts, unless the anchors have no words.
        """
        self._check(side, embeddings)
        out = np.zeros((len(embeddings), len(self._solution.maps.correlations)), np.float32)
        for start in range(0, len(embeddings), _BATCH_ROWS):
            some = slice(start, start + _BATCH_ROWS)
            out[some] = scale_to_unit(self._solution.apply(embeddings.select_rows(some), side))
        return DenseRows(out)

    def _check(self, side: Side, embeddings: Embeddings) -> None:
        dim = len(self._solution.centres[side])
        if embeddings.dim != dim:
            raise UsageError(
                f"{side} embeddings have {embeddings.dim} dimensions, anchors {dim}",
                "equal dimensions",
                "encode with the encoder of the anchor set",
            )
        if side == "text" and embeddings.texts is None and self.uses_texts:
            raise UsageError(
                f"{len(embeddings)} text vectors without their texts",
                "the texts too, whose words the aligner cca(words) compares",
                "give texts in place of vectors, Embeddings(values, texts), or --aligner cca",
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
        for rows in _read_rows(self.anchors, side):
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
