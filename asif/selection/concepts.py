"""Select anchors balanced over concepts: equally many for each concept if there are enough, rare concepts first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.kernels import topk_similarity
from asif.selection.nearest_centre import assign_to_nearest
from asif.vectors import Float32, Int64

_LIST_LENGTH = 25  # as many as the share of a concept: 50,000 for 2,000


def choose_by_concepts(blocks: Sequence[NDArray[Any]], prompts: Float32, size: int) -> Int64:
    """Choose `size` anchors evenly over the concepts that their texts, blocks [n, d], are nearest to.

    `prompts` [c, d] are the unit text embeddings of the concepts. Starting with the rarest, each concept takes an equal
    share of the remaining size, or all its texts if they are fewer, the most similar ones first. So what a rare concept
    cannot fill goes to the common ones, and no anchor is chosen twice. Freeze-align's data were balanced in the same
    order (arXiv 2409.19425: 2,754 classes, at most 2,000 each), with a fixed cap instead of a fixed size.

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


def choose_by_concept_lists(blocks: Sequence[NDArray[Any]], prompts: Float32, size: int) -> Int64:
    """Choose at most `size` anchors as freeze-align's data were chosen (arXiv 2409.19425, and its authors' code).

    Each of the c concepts `prompts` [c, d] has a list of the anchors whose texts, blocks [n, d], are most similar to
    it: 25 times as many as its share, size / c. An anchor serves every concept whose list holds it. Starting with the
    concept whose list ends at the lowest similarity, each takes the first of its list that are not taken yet, up to its
    share; what a concept cannot fill stays free. (Published: lists of 50,000 for shares of 2,000.) With fewer anchors
    than concepts the first concepts in this order take one each.

    >>> texts = np.array([[1, 0], [0.96, 0.28], [0.8, 0.6], [0, 1]], np.float32)
    >>> choose_by_concept_lists([texts], np.eye(2, dtype=np.float32), 2).tolist()
    [0, 3]
    """
    share = max(1, size // len(prompts))
    lists = topk_similarity(prompts, [np.asarray(block) for block in blocks], _LIST_LENGTH * share)
    taken: set[int] = set()
    for concept in np.argsort(lists.scores[:, -1], kind="stable"):
        if len(taken) + share > size:
            break
        free = [row for row in lists.indices[concept].tolist() if row not in taken]
        taken.update(free[:share])
    return np.array(sorted(taken), np.int64)


def divide_evenly(pools: Int64, size: int) -> Int64:
    """Divide `size`, at most the sum of `pools`, evenly among pools of these sizes, the smallest first.

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
    """Return the distinct rows [c, d], in order of first appearance; None if these are more than half of all rows.

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
