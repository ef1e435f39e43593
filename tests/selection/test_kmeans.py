"""Selection by k-means: against its plain definition, its seeds, clusters that coincide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.unit_rows import unit

from asif import selection
from asif.selection.kmeans import draw_seeds
from asif.vectors import Embeddings, Float32, normalise_rows


def plain_kmeans(rows: Float32, centres: Float32) -> list[int]:
    """Follow the definition from given centres, in float64, and take the row nearest to each."""
    wide, near = rows.astype(np.float64), None
    while True:
        before, near = near, (wide @ centres.T.astype(np.float64)).argmax(axis=1)
        if before is not None and (near == before).all():
            return sorted({int(row) for row in (wide @ centres.T.astype(np.float64)).argmax(axis=0)})
        for at in range(len(centres)):
            if (near == at).any():
                total = wide[near == at].sum(axis=0)
                centres[at] = total / np.linalg.norm(total)


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_is_the_plain_one(seed: int) -> None:
    rows = unit(120, 5, seed)
    start = normalise_rows(draw_seeds([rows], 6, np.random.default_rng(seed)))
    expected = plain_kmeans(rows, start)
    found = selection.choose_by_kmeans([rows], 6, seed).tolist()
    assert len(found) == 6 and set(expected) <= set(found)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_kmeans_takes_one_of_each_narrow_cluster(clusters: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    whose = np.concatenate([np.arange(clusters), random.integers(0, clusters, 40)])
    rows = np.eye(8)[whose] + 1e-5 * random.standard_normal((len(whose), 8))  # wide ones may get two seeds, or none
    chosen = selection.choose_by_kmeans([Embeddings.from_raw(rows).values], clusters, seed)
    assert sorted(whose[chosen].tolist()) == list(range(clusters))


def test_kmeans_seeds_do_not_repeat_rows_while_there_are_others() -> None:
    rows = np.eye(4, dtype=np.float32)[[0] * 50 + [1] * 50 + [2, 3]]
    for seed in range(20):
        assert len(np.unique(draw_seeds([rows], 4, np.random.default_rng(seed)), axis=0)) == 4


def test_kmeans_fills_up_where_clusters_coincide() -> None:
    rows = unit(30, 4, seed=0, distinct=3)
    for size in (3, 5, 30):
        chosen = selection.choose_by_kmeans([rows], size)
        assert len(set(chosen.tolist())) == size and chosen.tolist() == sorted(chosen)
        assert len(np.unique(rows[chosen], axis=0)) == 3


def test_kmeans_hangs_on_the_seed_alone(threads: Callable[[int], None]) -> None:
    rows = unit(300, 6, seed=0)
    threads(1)
    first = selection.choose_by_kmeans([rows], 20, seed=3).tolist()
    threads(3)
    assert selection.choose_by_kmeans([rows], 20, seed=3).tolist() == first
    assert selection.choose_by_kmeans([rows], 20, seed=4).tolist() != first
