"""Near duplicates in a gallery: groups of items whose vectors are almost the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset import Gallery
from asif.errors import UsageError
from asif.kernels import KernelName, topk_similarity
from asif.pairs.item import ItemRecord
from asif.vectors import Int64, gather_rows

_MOST_COPIES = 64
_BATCH = 1024
_ROUNDING = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}
"""By how much the cosine of two equal vectors may be below 1, as they are stored."""


@dataclass(frozen=True)
class DuplicateGroup:
    """Hold the items of a group, in the order of ids, and the cosine of each to the first."""

    items: tuple[ItemRecord, ...]
    cosines: tuple[float, ...]


def find_duplicates(
    gallery: Gallery,
    near: float = 0.97,
    kernel: KernelName = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> list[DuplicateGroup]:
    """Find groups of items that have a cosine of at least `near` to another one of the group, largest groups first.

    Along a chain the cosine of two may be lower. Each item is compared with all; of those that are near, with the 64
    nearest. Raises UsageError unless `near` is above 0 and at most 1, IntegrityError for a damaged block.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not 0 < near <= 1:
        raise UsageError(f"near is {near:g}", "a cosine above 0 and at most 1", "pass for example 0.97")
    gallery.check_vectors()
    blocks, count = gallery.vectors, len(gallery)
    least = near - _ROUNDING[gallery.dtype]
    edges = find_near_rows(blocks, np.arange(count), least, _MOST_COPIES, kernel, progress)
    graph = coo_matrix((np.ones(len(edges[0]), np.int8), edges), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    order = np.argsort(component, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1) if count else []
    several = sorted((group for group in groups if len(group) > 1), key=lambda group: (-len(group), int(group[0])))
    return [_make_group(gallery, group) for group in several]


def find_near_rows(
    blocks: Sequence[NDArray[Any]],
    rows: Int64,
    near: float,
    most: int,
    kernel: KernelName = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[Int64, Int64]:
    """Find the rows of blocks that have a cosine of at least `near` to some of them [q]: pairs, as two lists of rows.

    Of the rows that are near one, the `most` nearest are found besides itself. Memory: one batch of queries, and the
    result.
    """
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        found = topk_similarity(gather_rows(blocks, batch).astype(np.float32), blocks, most + 1, engine=kernel)
        query, rank = np.nonzero(found.scores >= near)
        left.append(batch[query])
        right.append(found.indices[query, rank])
        progress(len(batch))
    return np.concatenate(left), np.concatenate(right)


def _make_group(gallery: Gallery, rows: Int64) -> DuplicateGroup:
    vectors = gather_rows(gallery.vectors, rows).astype(np.float64)
    cosines = vectors @ vectors[0]
    return DuplicateGroup(tuple(gallery.records(rows)), tuple(map(float, np.clip(cosines, -1, 1))))
