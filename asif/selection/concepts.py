"""Anchors balanced over concepts: as many of each as there are, the rare ones first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.selection.nearest_centre import assign_to_nearest
from asif.vectors import Float32, Int64


def choose_by_concepts(blocks: Sequence[NDArray[Any]], prompts: Float32, size: int) -> Int64:
    """Choose `size` anchors evenly over the concepts that their texts, blocks [n, d], are nearest to.

    `prompts` [c, d] are the unit text embeddings of the concepts. The rarest concept comes first, each takes its share
    of what is left, or all it has, the texts most similar to it first; so no anchor is taken twice, and what a rare
    concept cannot fill goes to the common ones. The order is that of freeze-align's data (arXiv 2409.19425: 2,754
    classes, at most 2,000 each), where the cap is fixed and not the size.

    >>> texts = np.array([[1, 0], [0.96, 0.28], [0.8, 0.6], [0, 1]], np.float32)
    >>> choose_by_concepts([texts], np.eye(2, dtype=np.float32), 3).tolist()
    [0, 1, 3]
    """
    near, similarity = assign_to_nearest(blocks, prompts)
    order = np.lexsort((-similarity, near))  # concept by concept, most similar first, then smaller row
    pools = np.bincount(near, minlength=len(prompts))
    starts = np.cumsum(pools) - pools
    taken = divide_evenly(pools, size)
    return np.sort(np.concatenate([order[start : start + some] for start, some in zip(starts, taken, strict=True)]))


def divide_evenly(pools: Int64, size: int) -> Int64:
    """Divide `size` evenly among pools of so many, at most their sum, the smallest first.

    >>> divide_evenly(np.array([9, 1, 0, 5]), 9).tolist()
    [4, 1, 0, 4]
    """
    taken, left = np.zeros_like(pools), size
    order = np.argsort(pools, kind="stable")
    for at, pool in enumerate(order):
        taken[pool] = min(int(pools[pool]), left // (len(order) - at))
        left -= int(taken[pool])
    return taken


def find_repeated_rows(blocks: Sequence[NDArray[Any]]) -> Float32 | None:
    """Return the distinct rows [c, d], in order of first appearance; None where most rows come once.

    Texts that repeat are labels: they are the concepts themselves.

    >>> find_repeated_rows([np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float16)]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    most = sum(map(len, blocks)) // 2
    distinct: dict[bytes, NDArray[Any]] = {}
    for block in blocks:
        for row in block:
            distinct.setdefault(row.tobytes(), row)
            if len(distinct) > most:
                return None
    return np.stack(list(distinct.values())).astype(np.float32)
