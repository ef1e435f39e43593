"""Exact search over blocks: equal to scoring everything, for any blocks, filter and number of results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search_rows import make_rows

from asif.engine.search.gallery_rows import GalleryRows, add_rows, merge_best
from asif.kernels import compute_similarity, select_topk
from asif.vectors import TopK, join_rows


@given(st.sampled_from(["dense", "sparse", "fused"]), st.integers(0, 2**32 - 1), st.data())
def test_it_is_the_best_of_all_scores(form: str, seed: int, data: Any) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    blocks = [make_rows(form, size, seed + number) for number, size in enumerate(sizes)]
    queries, count = make_rows(form, 3, seed + 99), sum(sizes)
    among = None
    if data.draw(st.booleans()):
        among = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    k = data.draw(st.integers(1, count + 2))
    found = GalleryRows(blocks).find_best(queries, k, among)
    rows = np.arange(count) if among is None else among
    scores = compute_similarity(queries, join_rows(blocks))[:, rows]
    if not len(rows):
        assert found.indices.shape == (3, 0)
        return
    expected = select_topk(scores, k)
    assert found.indices.tolist() == rows[expected.indices].tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()
    fewer = GalleryRows([join_rows(blocks)]).find_best(queries, 1, among)
    assert fewer.indices.tolist() == found.indices[:, :1].tolist()


@pytest.mark.parametrize("form", ["dense", "sparse", "fused"])
def test_rows_are_added_as_vectors(form: str) -> None:
    rows, items = [make_rows(form, 1, seed) for seed in (1, 2, 3)], make_rows(form, 7, 4)
    total, factors = add_rows(rows, [2.0, 1.0, -0.5])
    parts = np.stack([compute_similarity(row, items)[0] for row in rows]).astype(np.float64)
    np.testing.assert_allclose(compute_similarity(total, items)[0], np.array(factors) @ parts, atol=1e-6)
    own = compute_similarity(total, total)[0, 0]
    assert own == pytest.approx(1.0, abs=1e-6)
    lengths = [float(compute_similarity(row, row)[0, 0]) ** 0.5 for row in rows]
    assert np.array(factors) * lengths / factors[0] / lengths[0] == pytest.approx([1, 0.5, -0.25], abs=1e-6)


def test_one_row_stays_as_it_is_and_opposites_leave_nothing() -> None:
    row = make_rows("dense", 1, 1)
    assert add_rows([row], [3.0]) == (row, [1.0])
    assert add_rows([row, row], [1.0, -1.0])[1] == [0.0, 0.0]


def test_equal_scores_of_several_places_are_in_the_order_of_rows() -> None:
    one, two = (TopK(np.array([[at]]), np.array([[0.5]], np.float32)) for at in (9, 4))
    assert merge_best([one, two], 5).indices.tolist() == [[4, 9]]


@pytest.mark.parametrize("form", ["dense", "sparse", "fused"])
def test_filters_of_any_share_are_exact(form: str) -> None:
    items, queries = GalleryRows([make_rows(form, 150, 1), make_rows(form, 250, 2)]), make_rows(form, 20, 3)
    scores = compute_similarity(queries, join_rows(items.blocks))
    for step in (1, 2, 3, 10, 100):
        among = np.arange(0, 400, step)
        expected = select_topk(scores[:, among], 5)
        found = items.find_best(queries, 5, among)
        assert found.indices.tolist() == among[expected.indices].tolist()
        assert found.scores.tobytes() == expected.scores.tobytes()
    best = np.unique(items.find_best(queries, 40).indices)  # all that match are far down
    rest = np.setdiff1d(np.arange(400), best)
    expected = select_topk(scores[:, rest], 5)
    assert items.find_best(queries, 5, rest).indices.tolist() == rest[expected.indices].tolist()
