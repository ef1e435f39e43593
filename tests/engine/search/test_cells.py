"""Approximate search: exact scores, a recall that is measured, and the exact result where all cells are looked into."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asif.engine.search.cells import LEAST_RECALL, RECALL_K, Cells
from asif.engine.search.gallery_rows import GalleryRows
from asif.vectors import DenseRows, Float32, SparseRows, normalise_rows

COUNT, DIM = 4000, 8


def draw(count: int, seed: int) -> Float32:
    """Draw unit rows around forty centres."""
    centres = np.random.default_rng(0).standard_normal((40, DIM))
    random = np.random.default_rng(seed)
    return normalise_rows(centres[random.integers(0, 40, count)] + 0.3 * random.standard_normal((count, DIM)))


@pytest.fixture(scope="module")
def items() -> GalleryRows:
    return GalleryRows([DenseRows(draw(1500, 1)), DenseRows(draw(COUNT - 1500, 2))])


@pytest.fixture(scope="module")
def cells(items: GalleryRows) -> Cells:
    return Cells.of(items, DenseRows(draw(100, 3)))


def test_every_row_is_in_one_cell_and_few_are_looked_into(items: GalleryRows, cells: Cells) -> None:
    assert sorted(cells.rows.tolist()) == list(range(COUNT)) and cells.starts[-1] == COUNT
    assert len(cells.centroids) == round(4 * COUNT**0.5) and cells.probes < len(cells.centroids) / 3
    assert LEAST_RECALL <= cells.recall <= 1


def test_the_recall_holds_for_other_queries_and_scores_are_exact(items: GalleryRows, cells: Cells) -> None:
    queries = DenseRows(draw(200, 4))
    exact, found = items.find_best(queries, RECALL_K), cells.find_best(items, queries, RECALL_K)
    same = [
        len(set(one) & set(other)) for one, other in zip(exact.indices.tolist(), found.indices.tolist(), strict=True)
    ]
    assert np.mean(same) / RECALL_K == pytest.approx(cells.recall, abs=0.04)
    whole = items.find_best(queries, COUNT)
    for number in range(0, 200, 20):
        scores = dict(zip(whole.indices[number].tolist(), whole.scores[number].tolist(), strict=True))
        assert [scores[row] for row in found.indices[number].tolist()] == found.scores[number].tolist()


def test_looking_into_all_cells_is_exact_also_with_a_filter(items: GalleryRows, cells: Cells) -> None:
    queries, every = DenseRows(draw(5, 5)), replace(cells, probes=len(cells.centroids))
    for among in (None, np.arange(0, COUNT, 3), np.arange(7)):
        exact, found = items.find_best(queries, 10, among), every.find_best(items, queries, 10, among)
        assert exact.indices.tolist() == found.indices.tolist() and exact.scores.tobytes() == found.scores.tobytes()


def test_a_filter_that_few_match_never_gives_fewer(items: GalleryRows, cells: Cells) -> None:
    among = np.array([3, 1999, 3998])
    exact = items.find_best(DenseRows(draw(5, 6)), 10, among)
    assert cells.find_best(items, DenseRows(draw(5, 6)), 10, among).indices.tolist() == exact.indices.tolist()


def test_cells_are_kept_as_arrays(cells: Cells) -> None:
    again = Cells.from_arrays(cells.to_arrays())
    assert (again.probes, again.recall) == (cells.probes, cells.recall)
    for name in ("centroids", "rows", "starts"):
        assert np.array_equal(getattr(again, name), getattr(cells, name))


def test_rows_that_are_not_dense_have_no_cells() -> None:
    sparse = SparseRows(np.array([[0]]), np.ones((1, 1), np.float32), 3)
    with pytest.raises(TypeError, match="cells of SparseRows"):
        Cells.of(GalleryRows([sparse]), DenseRows(np.eye(3, dtype=np.float32)))
