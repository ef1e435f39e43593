"""How alike two encoders see the same pairs: linear CKA and mutual nearest neighbours, beside shuffled pairings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asif.aligners.linear import MIN_VARIANCE
from asif.errors import InputRefused, UsageError
from asif.evaluate.encoder_pairs.permutation_test import TIE, Measured
from asif.kernels import topk_similarity
from asif.kernels.blas import compute_gram_matrix
from asif.vectors import Float32, Int64

Float64 = NDArray[np.float64]

FEWEST = 4  # pairs for which the debiased estimator exists


@dataclass(frozen=True)
class Space:
    """Hold what is needed of one encoder's embeddings of n pairs; made once, compared with many others.

    `rows` [n, d] about their mean, float64, `lengths` [n] their squared lengths, `own` [n] the parts of Σ(xᵢ·xⱼ)² that
    belong to each row (see `parts`), `neighbours` [n, k] the rows most similar to each, itself left out.
    """

    rows: Float64
    lengths: Float64
    own: Float64
    neighbours: Int64

    @classmethod
    def of(cls, values: Float32, k: int = 10) -> Space:
        """Look at unit rows [n, d]; memory is 16 bytes for each value and d x d.

        Raises InputRefused for fewer than 4 pairs, UsageError where k leaves nobody who is not a neighbour.

        >>> Space.of(np.eye(4, dtype=np.float32)[[0, 0, 1, 2]], k=1).neighbours.ravel().tolist()
        [1, 0, 0, 0]
        """
        count = len(values)
        if count < FEWEST:
            raise InputRefused(f"{count} pair{'s' * (count != 1)} to compare encoders by", "at least 4", "bring more")
        if not 1 <= k <= count - 2:
            raise UsageError(
                f"k is {k} for {count} pairs",
                f"a whole number from 1 to {count - 2}: with more, every pair is every other's neighbour",
                "pass a smaller --k, or bring more pairs",
            )
        rows = values.astype(np.float64)
        rows -= rows.mean(axis=0)
        return cls(rows, by_row(rows, rows), by_row(rows @ compute_gram_matrix(rows), rows), neighbours_of(values, k))

    @property
    def flat(self) -> bool:
        """Tell whether all rows are the same but for rounding, so that nothing can be said of them."""
        return bool(self.lengths.mean() < MIN_VARIANCE)


@dataclass(frozen=True)
class Alignment:
    """Hold what two encoders have in common; None where all embeddings of a side are the same, or equally far apart.

    `cka` is linear CKA, `cka_debiased` the same without its bias, `mutual_knn` the mean share of common neighbours.
    """

    cka: Measured | None
    cka_debiased: Measured | None
    mutual_knn: Measured | None


def align(
    image: Space,
    text: Space,
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
    >>> same = align(Space.of(rows, k=5), Space.of(rows[:, ::-1], k=5))
    >>> round(same.cka.value, 6), round(same.cka_debiased.value, 6), same.mutual_knn.value, round(same.cka.p, 3)
    (1.0, 1.0, 1.0, 0.005)
    """
    if image.flat or text.flat:
        return Alignment(None, None, None)
    random, null = np.random.default_rng(seed), np.empty((permutations, 3))
    for at in range(permutations):
        null[at] = shuffled(image, text, random.permutation(len(text.rows)))
        progress(1)
    plain, common = parts(image, text), shared(image.neighbours, text.neighbours)
    left, right = (debiased(side.own, side.lengths, side.lengths) for side in (image, text))
    even = min(left.sum() / image.own.sum(), right.sum() / text.own.sum()) < TIE  # all rows equally far apart
    unbiased = debiased(plain, image.lengths, text.lengths)
    return Alignment(
        normalised(plain, image.own, text.own, null[:, 0]),
        None if even else normalised(unbiased, left, right, null[:, 1]),
        Measured.of(common.mean(), null[:, 2], np.sqrt(2) * (common - common.mean())),  # it takes two to be neighbours
    )


def shuffled(image: Space, text: Space, order: Int64) -> tuple[float, float, float]:
    """Return ‖XᵀY‖², its debiased form and mutual k-NN where text `order[i]` is paired with image i."""
    plain = float(np.square(image.rows.T @ text.rows[order]).sum())
    place = np.argsort(order)  # where each text is now
    common = shared(image.neighbours, place[text.neighbours[order]])
    return plain, plain + correction(image.lengths, text.lengths[order]).sum(), common.mean()


def parts(image: Space, text: Space) -> Float64:
    """Split ‖XᵀY‖² = Σᵢⱼ (xᵢ·xⱼ)(yᵢ·yⱼ) by i: [n]."""
    return by_row(image.rows @ (image.rows.T @ text.rows), text.rows)


def debiased(plain: Float64, left: Float64, right: Float64) -> Float64:
    """Turn the parts of ‖XᵀY‖² into those of n(n - 3) HSIC₁; `left`, `right` are squared lengths [n]."""
    return plain + correction(left, right)


def correction(left: Float64, right: Float64) -> Float64:
    """Return what HSIC₁ adds to each part: without i = j, and with means that leave those out.

    For rows about their means, its sums over the kernels without their diagonals come down to the squared lengths.
    """
    n = len(left)
    means: Float64 = (left * right.sum() + right * left.sum()) / (2 * (n - 1) * (n - 2))
    return means - n / (n - 2) * left * right


def normalised(between: Float64, left: Float64, right: Float64, null: Float64) -> Measured:
    """Divide a sum by the sides' own, all given by row: CKA, with how much each row moves it."""
    n, scale = len(between), np.sqrt(left.sum() * right.sum())
    value = between.sum() / scale
    influence = n * (2 * between / scale - value * (left / left.sum() + right / right.sum()))
    return Measured.of(value, null / scale, influence)


def neighbours_of(values: Float32, k: int) -> Int64:
    """Find the k rows most similar to each row, itself left out, of equal ones the first: [n, k]."""
    found = topk_similarity(values, [values], k + 1).indices
    itself = found == np.arange(len(values))[:, None]
    itself[~itself.any(axis=1), -1] = True  # among many equal rows it may come later
    others: Int64 = found[~itself].reshape(-1, k)
    return others


def shared(left: Int64, right: Int64) -> Float64:
    """Return the share of neighbours [n, k] that two lists have in common: [n].

    >>> shared(np.array([[1, 2], [0, 2]]), np.array([[2, 3], [3, 4]])).tolist()
    [0.5, 0.0]
    """
    n, k = left.shape
    width = max(left.max(), right.max()) + 1
    offsets = width * np.arange(n)[:, None]
    both = np.intersect1d(left + offsets, right + offsets, assume_unique=True)
    shares: Float64 = np.bincount(both // width, minlength=n) / k
    return shares


def by_row(left: Float64, right: Float64) -> Float64:
    """Return the inner products of rows [n, d] with rows [n, d]: [n]."""
    products: Float64 = np.einsum("nd,nd->n", left, right)
    return products
