"""Cells of similar items: an approximate search looks into a few of them, and its recall is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.engine.search.gallery_rows import GalleryRows
from asif.kernels import compute_similarity
from asif.vectors import DenseRows, FitArrays, Float32, Int64, TopK

LEAST_RECALL = 0.95
RECALL_K = 20
_BATCH = 16_384


@dataclass(frozen=True)
class Cells:
    """Hold centroids [c, d] of the rows of a gallery, the `rows` of each cell, one after the other, and their `starts`.

    A search looks into the `probes` cells whose centroids have the largest inner products with a query, and compares
    all rows in them exactly. `recall` is the share of the exact first 20 that it found for sample queries. (An inverted
    file: Sivic and Zisserman, ICCV 2003; Jégou, Douze and Schmid, TPAMI 2011.)
    """

    centroids: Float32
    rows: Int64
    starts: Int64
    probes: int
    recall: float

    @classmethod
    def of(cls, items: GalleryRows, samples: DenseRows) -> Cells:
        """Divide items into cells by k-means, and choose how many to look into: enough for a recall of 0.95.

        `samples` [s, d] are the queries on which the recall is measured. Rows of a gallery are dense, or this raises
        TypeError.
        """
        from asif.kernels.faiss_ import find_centroids

        values = np.concatenate([_take_values(block) for block in items.blocks])
        centroids = find_centroids(values, max(1, round(4 * math.sqrt(len(values)))))
        cells = np.concatenate(
            [_find_nearest_cells(values[start : start + _BATCH], centroids) for start in range(0, len(values), _BATCH)]
        )
        rows = np.argsort(cells, kind="stable")
        starts = np.searchsorted(cells[rows], np.arange(len(centroids) + 1))
        exact = items.find_best(samples, RECALL_K)
        probes, recall = 1, 0.0
        while True:
            found = cls(centroids, rows, starts, probes, recall)
            recall = _measure_recall(exact, found.find_best(items, samples, RECALL_K))
            if recall >= LEAST_RECALL or probes >= len(centroids):
                return cls(centroids, rows, starts, probes, recall)
            probes = min(len(centroids), math.ceil(probes * 1.5))

    def find_best(self, items: GalleryRows, queries: DenseRows, k: int, among: Int64 | None = None) -> TopK:
        """Find rows that are similar to each query: min(k, m) entries, each with its exact score.

        A query whose cells have fewer than k rows that may be found is searched for exactly.
        """
        order = np.argsort(-compute_similarity(queries, self.centroids), axis=1, kind="stable")[:, : self.probes]
        found = []
        for number, near in enumerate(order):
            rows = np.sort(np.concatenate([self.rows[self.starts[cell] : self.starts[cell + 1]] for cell in near]))
            rows = rows if among is None else np.intersect1d(rows, among, assume_unique=True)
            found.append(items.find_best(queries[number : number + 1], k, rows if len(rows) >= k else among))
        return TopK(np.concatenate([one.indices for one in found]), np.concatenate([one.scores for one in found]))

    def to_arrays(self) -> FitArrays:
        """Return named arrays of floats, which hold row numbers exactly."""
        numbers = np.array([self.probes, self.recall], np.float64)
        whole = {"rows": self.rows.astype(np.float64), "starts": self.starts.astype(np.float64)}
        return {"centroids": self.centroids, "numbers": numbers, **whole}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Cells:
        """Return the cells that `to_arrays` made named arrays of; raises KeyError for others."""
        probes, recall = arrays["numbers"].tolist()
        rows, starts = (arrays[name].astype(np.int64) for name in ("rows", "starts"))
        return cls(arrays["centroids"], rows, starts, int(probes), recall)


def _take_values(block: Any) -> Float32:
    if not isinstance(block, DenseRows):
        raise TypeError(f"cells of {type(block).__name__}")
    return np.asarray(block.values, np.float32)


def _find_nearest_cells(values: Float32, centroids: Float32) -> Int64:
    squares = np.einsum("cd,cd->c", centroids, centroids) / 2
    return np.asarray(np.argmax(values @ centroids.T - squares, axis=1), np.int64)


def _measure_recall(exact: TopK, found: TopK) -> float:
    """Return the share of the exact results that were found, by their scores, so that ties are no losses."""
    least = exact.scores[:, -1:]
    width = min(found.scores.shape[1], exact.scores.shape[1])
    return float((found.scores[:, :width] >= least).sum() / exact.scores.size)
