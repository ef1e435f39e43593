"""Near duplicates: images whose embeddings have a high cosine, and how similar their captions are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asif.anchorset import AnchorSet
from asif.engine.search.duplicates import find_near_rows
from asif.evaluate.audit.findings import (
    MAX_MEMBERS,
    AuditFinding,
    FindingEntry,
    MemberCosines,
    build_group_finding,
    group_repeats,
)
from asif.kernels import KernelName
from asif.vectors import Float32, Int64, Side, gather_rows

MAX_COPIES = 32
"""The most copies of an anchor that are found: that many of its nearest anchors are examined."""

_HIGH_SHARE = 0.2  # share of the anchors, above which a threshold finds similar images rather than copies


@dataclass(frozen=True)
class NearPairs:
    """Hold pairs of rows (`left`, `right`) [e] whose images are near duplicates, in both orders, without equal ones.

    `count` is the number of anchors.
    """

    left: Int64
    right: Int64
    count: int

    @property
    def keys(self) -> Int64:
        """Return one number for each pair of rows, ascending: left · count + right."""
        return np.sort(self.left * self.count + self.right)


@dataclass(frozen=True)
class ExcludedCopies:
    """Hold which anchors are excluded from the neighbourhoods of the anchors at `rows` [q], ascending.

    These are the anchors with the same number in `equal` [n] (equal image embeddings, itself included), and those that
    `near_pairs` pairs with it.
    """

    rows: Int64
    equal: Int64
    near_pairs: NearPairs


def find_near_pairs(
    anchors: AnchorSet,
    rows: Int64,
    near: float,
    equal: Int64,
    kernel: KernelName = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> NearPairs:
    """Find, for the anchors at `rows` [q], which of their MAX_COPIES nearest images have a cosine of at least `near`.

    Equal image embeddings, those with one number in `equal` [n], are no near duplicates. Memory: one batch of queries
    with its neighbours, and the result.
    """
    found = find_near_rows(anchors.blocks("image"), rows, near, MAX_COPIES, kernel, progress)
    one, other = (pairs[equal[found[0]] != equal[found[1]]] for pairs in found)
    keys = np.unique(np.concatenate([one * anchors.count + other, other * anchors.count + one]))
    return NearPairs(keys // anchors.count, keys % anchors.count, anchors.count)


def find_near_duplicates(anchors: AnchorSet, near_pairs: NearPairs, equal: Int64, near: float) -> AuditFinding:
    """Join near duplicates to groups, the connected components of their graph.

    Groups of equal embeddings alone belong to the finding same_embedding. Entries have the cosines of each anchor to
    the first of its group; along a chain those of the images may be below `near`.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(equal)
    first_equal = np.unique(equal, return_index=True)[1][np.unique(equal, return_inverse=True)[1]]
    edges = (
        np.concatenate([near_pairs.left, np.arange(count)]),
        np.concatenate([near_pairs.right, first_equal]),
    )
    graph = coo_matrix((np.ones(len(edges[0]), np.int8), edges), shape=(count, count))
    components = connected_components(graph, directed=False)[1].astype(np.int64)
    groups = [rows for rows in group_repeats(components) if (equal[rows] != equal[rows[0]]).any()]
    share = sum(map(len, groups)) / count
    note = (
        f"{100 * share:.0f} % of the anchors are near duplicates at {near:g}: most likely it is too low, raise --near."
    )
    rule = f"Image embeddings with a cosine of at least {near:g}, joined to groups. Figures: cosines to the first."
    notes = (note,) if share > _HIGH_SHARE else ()
    return build_group_finding("near_image", rule, groups, lambda group: _build_entry(anchors, group), notes)


def _build_entry(anchors: AnchorSet, group: Int64) -> FindingEntry:
    images = _compute_cosines_to_first(anchors, "image", group[:MAX_MEMBERS])
    captions = _compute_cosines_to_first(anchors, "text", group[:MAX_MEMBERS])
    cosines = [MemberCosines(float(image), float(caption)) for image, caption in zip(images, captions, strict=True)]
    return FindingEntry(group.tolist(), cosines)


def _compute_cosines_to_first(anchors: AnchorSet, side: Side, rows: Int64) -> Float32:
    """Return the cosines of one side of some anchors to the first of them [m]."""
    vectors = gather_rows(anchors.blocks(side), rows).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines: Float32 = (vectors @ vectors[0]).astype(np.float32)
    return cosines
