"""Select representative anchors: the ones nearest to the centres of spherical k-means.

Seeds by k-means++ (Arthur and Vassilvitskii, SODA 2007), centres of unit length (Dhillon and Modha, Machine Learning
42, 2001). The nearest centre is found by the exact top-k of `kernels`, and sums are exact because values are rounded to
the canonical grid: the result depends on the seed alone, not on blocks or threads, unlike that of common libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.kernels import topk_similarity
from asif.kernels.canonical import round_to_grid
from asif.selection.nearest_centre import assign_to_nearest
from asif.vectors import Float32, Int64, normalise_rows

_MAX_ROUNDS = 25
_SEED_ROWS_PER_CENTRE = 8  # rows for each centre that seeds are drawn from
_MIN_SEED_ROWS = 8_192


def choose_by_kmeans(blocks: Sequence[NDArray[Any]], size: int, seed: int = 0) -> Int64:
    """Choose the rows of unit embeddings, blocks [n, d], that are nearest to `size` centres.

    If one row is nearest to several centres, the rows farthest from their own centre are added. Memory: one block, and
    8 rows for each centre, 8,192 at least, in float64. Time: up to 27 times N·n similarities, and for the seeds n for
    each of those rows.

    >>> corners = np.array([[1, 0], [0.8, 0.6], [0.96, 0.28], [0, -1]], np.float32)
    >>> choose_by_kmeans([corners], 2).tolist()
    [2, 3]
    """
    centres = normalise_rows(draw_seeds(blocks, size, np.random.default_rng(seed)))
    near, similarity = assign_to_nearest(blocks, centres)
    for _ in range(_MAX_ROUNDS):
        centres = _update_centres(blocks, near, centres)
        before = near
        near, similarity = assign_to_nearest(blocks, centres)
        if np.array_equal(near, before):
            break
    chosen = np.unique(topk_similarity(centres, blocks, 1).indices)
    similarity[chosen] = np.inf
    farthest = np.argsort(similarity, kind="stable")[: size - len(chosen)]
    return np.sort(np.concatenate([chosen, farthest]))


def draw_seeds(blocks: Sequence[NDArray[Any]], size: int, drawn: np.random.Generator) -> NDArray[np.float64]:
    """Draw `size` rows [size, d], each with a probability proportional to 1 - its best similarity to earlier ones.

    That is half the squared distance of unit rows. Rows are drawn from a random sample of 8 rows per seed, 8,192 at
    least.
    """
    ends = np.cumsum([len(block) for block in blocks])
    seen = np.zeros(ends[-1], bool)
    seen[drawn.permutation(len(seen))[: max(_MIN_SEED_ROWS, _SEED_ROWS_PER_CENTRE * size)]] = True
    parts = zip(blocks, np.split(seen, ends[:-1]), strict=True)
    rows = round_to_grid(np.concatenate([block[some] for block, some in parts]))
    found = [int(drawn.integers(len(rows)))]
    distance = np.full(len(rows), np.inf)
    while len(found) < size:
        distance = np.minimum(distance, np.maximum(1 - rows @ rows[found[-1]], 0))
        distance[found] = 0
        total = np.cumsum(distance)
        if total[-1] > 0:
            found.append(int(np.searchsorted(total, drawn.random() * total[-1], side="right")))
        else:  # all rows that are left repeat chosen ones
            found.append(int(np.setdiff1d(np.arange(len(rows)), found)[0]))
    return rows[found]


def _update_centres(blocks: Sequence[NDArray[Any]], near: Int64, centres: Float32) -> Float32:
    """Move each centre [n, d] to the direction of the sum of its rows; a centre without rows stays."""
    from scipy.sparse import csr_array

    sums, first = np.zeros(centres.shape), 0
    for block in blocks:
        mine = near[first : first + len(block)]
        members = csr_array((np.ones(len(mine)), (mine, np.arange(len(mine)))), (len(centres), len(mine)))
        sums += members @ round_to_grid(block)  # multiples of 2^-26 below 2^27: exact in any order
        first += len(block)
    empty = ~sums.any(axis=1)
    sums[empty] = centres[empty]
    return normalise_rows(sums)
