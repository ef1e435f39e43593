"""The shrinkage of a canonical correlation, chosen by leave-one-out where several images share each text."""

from __future__ import annotations

import numpy as np

from asif.aligners.joined_texts import JoinedTexts
from asif.aligners.moments import Moments
from asif.aligners.protocol import Anchors, read_captions
from asif.aligners.sampling import choose_evenly_spaced, number_equal_rows
from asif.kernels.blas import limit_decomposition_threads
from asif.vectors import Float64, Int64, gather_rows

STRENGTHS = (0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0)
_MOST_IMAGES = 2_048  # that are left out, each by itself
_INVERSE_TEMPERATURES = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12)  # of scores with a standard deviation of 1
_LEAST_VARIANCE = 1e-12  # of the largest: below it, an axis is one of rounding
_LEAST_OUTSIDE = 1e-9  # of 1 - h, where an image alone decides its prediction


def choose_strength(anchors: Anchors, joined: JoinedTexts, moments: Moments) -> float | None:
    """Choose λ such that images find their texts best if they are left out; None unless texts have two images each.

    An image is left out of the regression of texts on images, from which canonical scores follow, by the known formula
    y - (y - ŷ)/(1 - h) with its leverage h; centres, text covariance and vocabulary stay. The criterion is the mean log
    probability of its own among all distinct texts, by a softmax of the best temperature: of a few dozen images it is
    less noisy than their accuracy. At most 2,048 evenly spaced images are left out.
    """
    texts = gather_rows(anchors.blocks("text"), np.arange(anchors.count))
    numbers = number_equal_rows(texts)
    distinct = int(numbers.max()) + 1
    if distinct < 2 or 2 * distinct > anchors.count:
        return None
    firsts = np.unique(numbers, return_index=True)[1]
    rows = choose_evenly_spaced(anchors.count, _MOST_IMAGES)
    images = joined.centre(gather_rows(anchors.blocks("image"), rows), "image") - moments.image / moments.count
    targets = _join_texts(anchors, joined, texts[firsts], firsts) - moments.text / moments.count
    losses = _compute_losses(images, targets, numbers[rows], moments)
    return STRENGTHS[int(np.argmin(losses))]


def _join_texts(anchors: Anchors, joined: JoinedTexts, texts: Float64, rows: Int64) -> Float64:
    """Return texts joined with their words [c, dt + v]; `rows` are their anchors."""
    dense = joined.centre(texts, "text")
    if not len(joined.vocabulary):
        return dense
    captions = read_captions(anchors) or []
    return np.hstack([dense, joined.represent_words(tuple(captions[row] for row in rows.tolist())).toarray()])


def _compute_losses(images: Float64, targets: Float64, own: Int64, moments: Moments) -> list[float]:
    """Compute the mean negative log probability of images' own texts, left out, for each of STRENGTHS.

    `images` [n, di] and the distinct texts `targets` [c, dt + v] are centred; `own` [n] is each image's text.
    """
    from scipy import linalg

    xx, yy, xy = moments.covariances()
    values, axes = _find_axes(images, xx, moments.count)
    turned, crossed = images @ axes, axes.T @ xy
    losses = []
    for strength in STRENGTHS:
        inverse = 1 / (np.maximum(values, 0) + strength * np.trace(xx) / len(xx))
        shrunk = yy + strength * np.trace(yy) / len(yy) * np.eye(len(yy))
        facing = linalg.solve(shrunk, targets.T, assume_a="pos")  # [dt + v, c]
        mapped = crossed @ facing
        outside = 1 - (1 + (np.square(turned) * inverse).sum(axis=1)) / moments.count  # 1 - leverage
        known = (targets @ facing)[own]
        predicted = turned @ (inverse[:, None] * mapped)
        scores = known - (known - predicted) / np.maximum(outside, _LEAST_OUTSIDE)[:, None]
        lengths = np.sqrt((np.square(mapped) * inverse[:, None]).sum(axis=0))
        losses.append(_compute_loss(scores / np.maximum(lengths, np.finfo(np.float64).tiny), own))
    return losses


def _find_axes(images: Float64, xx: Float64, count: int) -> tuple[Float64, Float64]:
    """Return eigenvalues [r] and eigenvectors [di, r] of S_xx, without those of zero if all images are given."""
    from scipy import linalg

    if len(images) < count or count >= len(xx):
        with limit_decomposition_threads(len(xx)):
            found: tuple[Float64, Float64] = linalg.eigh(xx)
        return found
    with limit_decomposition_threads(count):
        values, rows = linalg.eigh(images @ images.T / count)
    clear = values > _LEAST_VARIANCE * values[-1]
    return values[clear], images.T @ (rows[:, clear] / np.sqrt(count * values[clear]))


def _compute_loss(scores: Float64, own: Int64) -> float:
    """Return the mean negative log probability of the own candidate, at the temperature where it is smallest.

    >>> scores = np.array([[2.0, 0.0], [0.0, 2.0]])
    >>> _compute_loss(scores, np.array([0, 1])) < 0.001 < np.log(2) < _compute_loss(scores, np.array([1, 0]))
    True
    """
    spread = scores.std()
    if not spread:
        return float(np.log(scores.shape[1]))
    below = (scores - scores.max(axis=1, keepdims=True)) / spread
    gaps = -below[np.arange(len(own)), own]
    return min(float((np.log(np.exp(beta * below).sum(axis=1)) + beta * gaps).mean()) for beta in _INVERSE_TEMPERATURES)
