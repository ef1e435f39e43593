"""Near duplicates: images whose embeddings are all but the same, and how alike their captions are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from asif.anchorset import AnchorSet
from asif.evaluate.audit.findings import MEMBERS, Entry, Finding, classes, grouped
from asif.kernels import Engine, topk_similarity
from asif.vectors import Float32, Int64, gathered

LOOKED_AT = 32  # nearest images of each, itself aside
BATCH = 1024
MANY = 0.2  # of the anchors, above which a threshold finds likeness, not copies


@dataclass(frozen=True)
class Alike:
    """Hold pairs of rows (`left`, `right`) [e] whose images are near duplicates, each way round, without twins."""

    left: Int64
    right: Int64
    count: int

    @property
    def keys(self) -> Int64:
        """Return one ascending number for each pair of rows."""
        return np.sort(self.left * self.count + self.right)


def find_alike(
    anchors: AnchorSet,
    queries: Int64,
    near: float,
    twins: Int64,
    kernel: Engine = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Alike:
    """Find, for the anchors at `queries` [q], which of their LOOKED_AT nearest images have a cosine of `near` or more.

    Equal ones, by `twins` [n], are left out. Memory: one batch of queries and its neighbours, and what is found.
    """
    blocks = anchors.blocks("image")
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(queries), BATCH):
        rows = queries[start : start + BATCH]
        found = topk_similarity(gathered(blocks, rows).astype(np.float32), blocks, LOOKED_AT + 1, engine=kernel)
        at, place = np.nonzero((found.scores >= near) & (twins[found.indices] != twins[rows][:, None]))
        left.append(rows[at])
        right.append(found.indices[at, place])
        progress(len(rows))
    one, other = np.concatenate(left), np.concatenate(right)
    edges = np.unique(np.concatenate([one * anchors.count + other, other * anchors.count + one]))
    return Alike(edges // anchors.count, edges % anchors.count, anchors.count)


def near_image(anchors: AnchorSet, alike: Alike, twins: Int64, near: float) -> Finding:
    """Join near duplicates to groups: whoever is near one of them belongs to them.

    Groups of equal embeddings alone are left to `same_embedding`. Figures of each anchor are its cosines to the first
    of its group: of the images, which may be below `near` along a chain, and of the captions.
    """
    first = np.unique(twins, return_index=True)[1][np.unique(twins, return_inverse=True)[1]]
    own = np.arange(len(twins))
    ends = np.concatenate([alike.left, own]), np.concatenate([alike.right, first])
    graph = coo_matrix((np.ones(len(ends[0]), np.int8), ends), shape=(len(twins), len(twins)))
    numbers = connected_components(graph, directed=False)[1].astype(np.int64)
    found = [rows for rows in classes(numbers) if (twins[rows] != twins[rows[0]]).any()]
    share = sum(map(len, found)) / len(twins)
    note = (
        f"{100 * share:.0f} % of the anchors are near duplicates at {near:g}: most likely it is too low, raise --near."
    )
    notes = (note,) if share > MANY else ()
    rule = f"Image embeddings with a cosine of at least {near:g}, joined to groups. Figures: cosines to the first."
    return grouped("near_image", rule, found, lambda group: entry(anchors, group), notes)


def entry(anchors: AnchorSet, group: Int64) -> Entry:
    """Tell how near the members of a group are to its first."""
    images, texts = (to_first(anchors, side, group[:MEMBERS]) for side in ("image", "text"))
    each = [{"image_cosine": float(x), "caption_cosine": float(y)} for x, y in zip(images, texts, strict=True)]
    return Entry(group.tolist(), {}, each)


def to_first(anchors: AnchorSet, side: str, rows: Int64) -> Float32:
    """Return the cosines of some anchors to the first of them [m], of one side."""
    vectors = gathered(anchors.blocks("image" if side == "image" else "text"), rows).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines: Float32 = (vectors @ vectors[0]).astype(np.float32)
    return cosines
