"""The alignment of two encoders on the same pairs: linear CKA and mutual k-NN, tested against shuffled pairings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asif.aligners.linear import MIN_VARIANCE
from asif.errors import InputRefused, UsageError
from asif.evaluate.encoder_pairs.permutation_test import TIE_TOLERANCE, PermutationTest
from asif.kernels import topk_similarity
from asif.kernels.blas import compute_gram_matrix
from asif.vectors import Float32, Float64, Int64

_MIN_PAIRS = 4  # pairs for which the debiased estimator exists


@dataclass(frozen=True)
class EncoderSpace:
    """Hold one encoder's embeddings of n pairs, prepared for comparison with many others.

    `rows` [n, d] about their mean, float64, `lengths` [n] their squared lengths, `own` [n] the parts of Σ(xᵢ·xⱼ)² that
    belong to each row (see `_split_by_row`), `neighbours` [n, k] the rows most similar to each, itself left out.
    """

    rows: Float64
    lengths: Float64
    own: Float64
    neighbours: Int64

    @classmethod
    def of(cls, values: Float32, k: int = 10) -> EncoderSpace:
        """Prepare unit rows [n, d]; memory is 16 bytes for each value and d x d.

        Raises InputRefused for fewer than 4 pairs, UsageError if k makes every pair a neighbour of every other.

        >>> EncoderSpace.of(np.eye(4, dtype=np.float32)[[0, 0, 1, 2]], k=1).neighbours.ravel().tolist()
        [1, 0, 0, 0]
        """
        count = len(values)
        if count < _MIN_PAIRS:
            raise InputRefused(f"{count} pair{'s' * (count != 1)} to compare encoders by", "at least 4", "bring more")
        if not 1 <= k <= count - 2:
            raise UsageError(
                f"k is {k} for {count} pairs",
                f"a whole number from 1 to {count - 2}: with more, every pair is every other's neighbour",
                "pass a smaller --k, or bring more pairs",
            )
        rows = values.astype(np.float64)
        rows -= rows.mean(axis=0)
        return cls(
            rows,
            _multiply_rows(rows, rows),
            _multiply_rows(rows @ compute_gram_matrix(rows), rows),
            _find_neighbours(values, k),
        )

    @property
    def is_constant(self) -> bool:
        """Return whether all rows are the same but for rounding, so that measures are undefined."""
        return bool(self.lengths.mean() < MIN_VARIANCE)


@dataclass(frozen=True)
class Alignment:
    """Hold the measures of two encoders; None if all embeddings of a side are the same, or equally far apart.

    `cka` is linear CKA, `cka_debiased` the same without its bias, `mutual_knn` the mean share of common neighbours.
    """

    cka: PermutationTest | None
    cka_debiased: PermutationTest | None
    mutual_knn: PermutationTest | None


def measure_alignment(
    image: EncoderSpace,
    text: EncoderSpace,
    permutations: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Alignment:
    """Compare the two sides of n pairs, and of `permutations` >= 2 shuffled pairings, the same for equal n and seed.

    Linear CKA is ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of rows about their means (Kornblith et al., ICML 2019). It is above zero also
    for unrelated sides, the more the more dimensions there are to a pair. The debiased one puts in place of each sum
    the estimator HSIC₁ (Song et al., JMLR 2012; Nguyen et al., ICLR 2021), whose mean over all shuffled pairings is
    zero. Mutual k-NN is that of Huh et al. (ICML 2024), with cosine similarity.

    >>> from asif.vectors import Embeddings
    >>> rows = Embeddings.from_raw(np.random.default_rng(0).standard_normal((50, 3))).values
    >>> same = measure_alignment(EncoderSpace.of(rows, k=5), EncoderSpace.of(rows[:, ::-1], k=5))
    >>> round(same.cka.value, 6), round(same.cka_debiased.value, 6), same.mutual_knn.value, round(same.cka.p, 3)
    (1.0, 1.0, 1.0, 0.005)
    """
    if image.is_constant or text.is_constant:
        return Alignment(None, None, None)
    random, null = np.random.default_rng(seed), np.empty((permutations, 3))
    for at in range(permutations):
        null[at] = measure_shuffled(image, text, random.permutation(len(text.rows)))
        progress(1)
    plain, common = _split_by_row(image, text), _share_neighbours(image.neighbours, text.neighbours)
    left, right = (debias_by_row(side.own, side.lengths, side.lengths) for side in (image, text))
    even = min(left.sum() / image.own.sum(), right.sum() / text.own.sum()) < TIE_TOLERANCE  # all rows equally far apart
    unbiased = debias_by_row(plain, image.lengths, text.lengths)
    return Alignment(
        _normalise(plain, image.own, text.own, null[:, 0]),
        None if even else _normalise(unbiased, left, right, null[:, 1]),
        PermutationTest.of(
            common.mean(), null[:, 2], np.sqrt(2) * (common - common.mean())
        ),  # it takes two to be neighbours
    )


def measure_shuffled(image: EncoderSpace, text: EncoderSpace, order: Int64) -> tuple[float, float, float]:
    """Return ‖XᵀY‖², its debiased form and mutual k-NN if text `order[i]` is paired with image i."""
    plain = float(np.square(image.rows.T @ text.rows[order]).sum())
    place = np.argsort(order)  # the new position of each text
    common = _share_neighbours(image.neighbours, place[text.neighbours[order]])
    return plain, plain + _correct_bias(image.lengths, text.lengths[order]).sum(), common.mean()


def _split_by_row(image: EncoderSpace, text: EncoderSpace) -> Float64:
    """Split ‖XᵀY‖² = Σᵢⱼ (xᵢ·xⱼ)(yᵢ·yⱼ) by i: [n]."""
    return _multiply_rows(image.rows @ (image.rows.T @ text.rows), text.rows)


def debias_by_row(plain: Float64, left: Float64, right: Float64) -> Float64:
    """Turn the parts of ‖XᵀY‖² into those of n(n - 3) HSIC₁; `left`, `right` are squared lengths [n]."""
    return plain + _correct_bias(left, right)


def _correct_bias(left: Float64, right: Float64) -> Float64:
    """Return what HSIC₁ adds to each part: without i = j, and with means that leave those out.

    For rows about their means, its sums over the kernels without their diagonals come down to the squared lengths.
    """
    n = len(left)
    means: Float64 = (left * right.sum() + right * left.sum()) / (2 * (n - 1) * (n - 2))
    return means - n / (n - 2) * left * right


def _normalise(between: Float64, left: Float64, right: Float64, null: Float64) -> PermutationTest:
    """Divide a sum by the sides' own, all given by row: CKA, with how much each row moves it."""
    n, scale = len(between), np.sqrt(left.sum() * right.sum())
    value = between.sum() / scale
    influence = n * (2 * between / scale - value * (left / left.sum() + right / right.sum()))
    return PermutationTest.of(value, null / scale, influence)


def _find_neighbours(values: Float32, k: int) -> Int64:
    """Find the k rows most similar to each row, itself left out, of equal ones the first: [n, k]."""
    found = topk_similarity(values, [values], k + 1).indices
    itself = found == np.arange(len(values))[:, None]
    itself[~itself.any(axis=1), -1] = True  # among many equal rows it may come later
    others: Int64 = found[~itself].reshape(-1, k)
    return others


def _share_neighbours(left: Int64, right: Int64) -> Float64:
    """Return the share of neighbours [n, k] that two lists have in common: [n].

    >>> _share_neighbours(np.array([[1, 2], [0, 2]]), np.array([[2, 3], [3, 4]])).tolist()
    [0.5, 0.0]
    """
    n, k = left.shape
    width = max(left.max(), right.max()) + 1
    offsets = width * np.arange(n)[:, None]
    both = np.intersect1d(left + offsets, right + offsets, assume_unique=True)
    shares: Float64 = np.bincount(both // width, minlength=n) / k
    return shares


def _multiply_rows(left: Float64, right: Float64) -> Float64:
    """Return the inner products of rows [n, d] with rows [n, d]: [n]."""
    products: Float64 = np.einsum("nd,nd->n", left, right)
    return products
