"""The items of a gallery as rows of an aligner, in the blocks of the gallery, and the exact search over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from asif.kernels import KernelName, PreparedRows, find_nearest, prepare_rows, topk_similarity
from asif.vectors import DenseRows, Float32, FusedRows, Int64, Rows, SparseRows, TopK

_LEAST_WIDE, _MOST_WIDE = 16, 2048
"""Results of all items, in which those that match a filter are looked for."""
_PREPARED_BYTES = 2 << 30
"""Indexes of sparse rows up to this size stay in memory for the next query."""


@dataclass
class GalleryRows:
    """Hold the rows of all items, block after block, and find the best ones for queries.

    A result does not depend on blocks, on the number of results or on a filter: scores are canonical, and equal ones
    are in the order of rows, which is that of ids.
    """

    blocks: Sequence[Rows]
    kernel: KernelName = "auto"
    _prepared: dict[int, PreparedRows] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def take_row(self, row: int) -> Rows:
        """Return a single row."""
        for block in self.blocks:
            if row < len(block):
                return block[row : row + 1]
            row -= len(block)
        raise IndexError(f"no row {row} behind the last one")

    def find_best(self, queries: Rows, k: int, among: Int64 | None = None) -> TopK:
        """Find the k rows most similar to each query, of all or `among` some [m], ascending: min(k, m) entries."""
        if among is not None and (found := self._find_in_all(queries, k, among)) is not None:
            return found
        if isinstance(queries, DenseRows):
            return self._find_in_dense(queries, k, among)
        return self._find_in_blocks(queries, k, among)

    def _find_in_all(self, queries: Rows, k: int, among: Int64) -> TopK | None:
        """Find the best of `among` in the best of all; None if fewer than k of these are among them, or too few may be.

        Rows are copied for a filter otherwise, and sparse ones indexed.
        """
        count, most = len(self), min(k, len(among))
        wide = 4 * k * count // max(1, len(among)) + _LEAST_WIDE
        if wide > min(_MOST_WIDE, count) or not len(queries):
            return None
        found, matches = self.find_best(queries, wide), np.zeros(count, bool)
        matches[among] = True
        kept = matches[found.indices]
        if (kept.sum(axis=1) < most).any():
            return None
        first = np.argsort(~kept, axis=1, kind="stable")[:, :most]
        return TopK(np.take_along_axis(found.indices, first, 1), np.take_along_axis(found.scores, first, 1))

    def _find_in_dense(self, queries: DenseRows, k: int, among: Int64 | None) -> TopK:
        values = [block.values for block in self.blocks if isinstance(block, DenseRows)]
        if among is None:
            return topk_similarity(queries.values, values, k, engine=self.kernel)
        if not len(among):
            return _find_nothing(len(queries))
        found = topk_similarity(queries.values, [_gather_rows(values, among)], k, engine=self.kernel)
        return TopK(among[found.indices], found.scores)

    def _find_in_blocks(self, queries: Rows, k: int, among: Int64 | None) -> TopK:
        found, first = [_find_nothing(len(queries))], 0
        for number, block in enumerate(self.blocks):
            if among is None:
                best = find_nearest(queries, self._prepare(number), k, engine=self.kernel)
                found.append(TopK(best.indices + first, best.scores))
            else:
                here = among[(among >= first) & (among < first + len(block))]
                if len(here):
                    best = find_nearest(queries, take_rows(block, here - first), k, engine=self.kernel)
                    found.append(TopK(here[best.indices], best.scores))
            first += len(block)
        return merge_best(found, k)

    def _prepare(self, number: int) -> PreparedRows:
        prepared = self._prepared.get(number)
        if prepared is None:
            prepared = prepare_rows(self.blocks[number])
            if sum(map(_count_bytes, self.blocks)) <= _PREPARED_BYTES:
                self._prepared[number] = prepared
        return prepared


def merge_best(found: Sequence[TopK], k: int) -> TopK:
    """Merge what was found in several places: the k best of each query, equal scores in the order of rows.

    >>> one = TopK(np.array([[3]]), np.array([[0.5]], np.float32))
    >>> two = TopK(np.array([[1, 2]]), np.array([[0.75, 0.5]], np.float32))
    >>> merge_best([one, two], 2).indices.tolist()
    [[1, 2]]
    """
    indices = np.concatenate([each.indices for each in found], axis=1)
    scores = np.concatenate([each.scores for each in found], axis=1)
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    return TopK(np.take_along_axis(indices, order, 1), np.take_along_axis(scores, order, 1))


def take_rows(rows: Rows, chosen: Int64) -> Rows:
    """Copy some rows.

    >>> take_rows(DenseRows(np.eye(3, dtype=np.float32)), np.array([2])).values.tolist()
    [[0.0, 0.0, 1.0]]
    """
    if isinstance(rows, FusedRows):
        return FusedRows(tuple(_take_plain_rows(part, chosen) for part in rows.parts))
    return _take_plain_rows(rows, chosen)


def _take_plain_rows(rows: SparseRows | DenseRows, chosen: Int64) -> SparseRows | DenseRows:
    if isinstance(rows, SparseRows):
        return SparseRows(rows.indices[chosen], rows.values[chosen], rows.width)
    return DenseRows(rows.values[chosen])


def add_rows(rows: Sequence[Rows], weights: Sequence[float]) -> tuple[Rows, list[float]]:
    """Add single rows, each scaled to unit length and multiplied by its weight, and scale the sum to unit length.

    Returns the sum, and the factor by which each row counts in it; None of these are changed if there is one row alone.
    A sum of zero stays zero.

    >>> add_rows([DenseRows(np.array([[0.0, 2.0]], np.float32)), DenseRows(np.array([[1.0, 0.0]], np.float32))], [3, 4])
    (DenseRows(values=array([[0.8, 0.6]], dtype=float32)), [0.3, 0.8])
    """
    if len(rows) == 1 and weights[0] > 0:
        return rows[0], [1.0]
    lengths = [
        float(np.sqrt(sum(np.square(part, dtype=np.float64).sum() for part in _list_values(row)))) for row in rows
    ]
    factors = [weight / length if length else 0.0 for weight, length in zip(weights, lengths, strict=True)]
    total = _add_scaled(rows, factors)
    length = float(np.sqrt(sum(np.square(part, dtype=np.float64).sum() for part in _list_values(total))))
    if not length:
        return total, [0.0] * len(rows)
    factors = [factor / length for factor in factors]
    return _add_scaled(rows, factors), factors


def _list_values(rows: Rows) -> list[Float32]:
    return [part.values for part in rows.parts] if isinstance(rows, FusedRows) else [rows.values]


def _add_scaled(rows: Sequence[Rows], factors: Sequence[float]) -> Rows:
    """Add single rows, multiplied by factors, in float64."""
    if isinstance(rows[0], FusedRows):
        columns = zip(*(row.parts for row in rows if isinstance(row, FusedRows)), strict=True)
        return FusedRows(tuple(_add_plain_rows(column, factors) for column in columns))
    return _add_plain_rows([row for row in rows if not isinstance(row, FusedRows)], factors)


def _add_plain_rows(rows: Sequence[SparseRows | DenseRows], factors: Sequence[float]) -> SparseRows | DenseRows:
    scaled = [row.values[0].astype(np.float64) * factor for row, factor in zip(rows, factors, strict=True)]
    sparse = [row for row in rows if isinstance(row, SparseRows)]
    if not sparse:
        return DenseRows(np.sum(scaled, axis=0)[None].astype(np.float32))
    indices, places = np.unique(np.concatenate([row.indices[0] for row in sparse]), return_inverse=True)
    total = np.zeros(len(indices))
    np.add.at(total, places, np.concatenate(scaled))
    return SparseRows(indices[None], total[None].astype(np.float32), sparse[0].width)


def _gather_rows(blocks: Sequence[Float32], rows: Int64) -> Float32:
    """Copy rows [m, d], ascending, from blocks, of which there may be thousands."""
    bounds = np.searchsorted(rows, np.cumsum([0, *map(len, blocks)]))
    parts = zip(blocks, np.split(rows, bounds[1:-1]), np.cumsum([0, *map(len, blocks)]).tolist(), strict=False)
    return np.concatenate([block[some - first] for block, some, first in parts if len(some)])


def _find_nothing(queries: int) -> TopK:
    return TopK(np.empty((queries, 0), np.int64), np.empty((queries, 0), np.float32))


def _count_bytes(rows: Rows) -> int:
    parts = rows.parts if isinstance(rows, FusedRows) else (rows,)
    return sum(part.values.nbytes + (part.indices.nbytes if isinstance(part, SparseRows) else 0) for part in parts)
