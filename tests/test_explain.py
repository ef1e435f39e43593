"""Contributions add up to the score they explain, and name only anchors that both sides keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from asif.aligners import make_aligner
from asif.aligners.relative import multiply_shared_entries
from asif.classify import Labels
from asif.compare import Candidates, find_best_row, rank_candidates, score_candidates
from asif.engine import Engine
from asif.explain import Contributions, compute_contributions
from asif.kernels import sparse_similarity
from asif.vectors import SparseRows

PHOTOS = [Path(skimage.__path__[0]) / "data" / name for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
WIDTH = 30


@st.composite
def sparse_rows(draw: Any, rows: int = 1) -> SparseRows:
    """Draw relative representations: unit rows over WIDTH anchors, some entries zero, many equal ones."""
    k = draw(st.integers(1, WIDTH))
    indices = np.array([draw(st.permutations(range(WIDTH)))[:k] for _ in range(rows)], np.int64)
    cells = st.sampled_from([0.0, 1e-4, 0.5, 0.5, 1.0]) | st.floats(0, 1)
    values = np.array([draw(st.lists(cells, min_size=k, max_size=k)) for _ in range(rows)])
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return SparseRows(indices, values.astype(np.float32), WIDTH)


def assert_adds_up(split: Contributions, score: float, top: int) -> None:
    """Check the promise P18, and what holds for every explanation."""
    assert abs(float(split.values.astype(np.float64).sum()) + split.remainder - score) <= 1e-6 * max(1.0, abs(score))
    assert abs(split.score - score) <= 1e-6 * max(1.0, abs(score))
    assert len(split.anchors) == len(split.values) <= top
    assert split.others == 0 or len(split.anchors) == top
    assert not split.remainder or split.others
    assert (np.diff(split.values) <= 0).all()


@settings(deadline=None)
@given(query=sparse_rows(), candidate=sparse_rows(), top=st.integers(1, WIDTH + 5))
def test_contributions_add_up_to_the_score(query: SparseRows, candidate: SparseRows, top: int) -> None:
    split = compute_contributions(multiply_shared_entries(query, candidate), top)
    assert_adds_up(split, float(sparse_similarity(query, candidate)[0, 0]), top)
    products = query.to_dense()[0].astype(np.float64) * candidate.to_dense()[0]
    speaking = np.flatnonzero(products > 0)
    expected = sorted(speaking.tolist(), key=lambda i: (-products[i], i))
    assert split.anchors.tolist() == expected[:top]
    np.testing.assert_array_equal(split.values, products[expected[:top]].astype(np.float32))
    assert split.others == max(0, len(speaking) - top)
    assert split.remainder == pytest.approx(products[expected[top:]].sum(), abs=1e-12)


def test_equal_contributions_are_ordered_by_anchor() -> None:
    row = SparseRows(np.array([[7, 3, 9, 1]]), np.full((1, 4), 0.5, np.float32), 10)
    split = compute_contributions(multiply_shared_entries(row, row), top=3)
    assert split.anchors.tolist() == [1, 3, 7]
    assert split.values.tolist() == [0.25, 0.25, 0.25]
    assert (split.remainder, split.others, split.score) == (0.25, 1, 1.0)


def test_rows_that_share_nothing() -> None:
    one = SparseRows(np.array([[0, 1]]), np.array([[0.6, 0.8]], np.float32), 4)
    other = SparseRows(np.array([[2, 3]]), np.array([[0.6, 0.8]], np.float32), 4)
    split = compute_contributions(multiply_shared_entries(one, other), top=3)
    assert (len(split.anchors), split.remainder, split.others, split.score) == (0, 0.0, 0, 0.0)


@settings(deadline=None, max_examples=examples(40))
@given(query=sparse_rows(), rows=sparse_rows(rows=6), per=st.sampled_from([1, 2, 3]))
def test_the_explained_row_is_the_one_that_scored(query: SparseRows, rows: SparseRows, per: int) -> None:
    candidates = Candidates(rows, per)
    every = score_candidates(query, candidates)[0]
    for candidate in range(len(candidates)):
        row = find_best_row(query, candidates, candidate)
        assert row // per == candidate
        assert sparse_similarity(query, rows[row : row + 1])[0, 0] == every[candidate]
    dense = query.to_dense().astype(np.float64) @ rows.to_dense().T.astype(np.float64)
    np.testing.assert_allclose(every, dense.reshape(-1, per).max(axis=1), rtol=0, atol=1e-7)
    assert rank_candidates(query, candidates, 1).indices[0, 0] == np.argmax(every)


@pytest.mark.parametrize("mode", ["mean", "max"])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("asif", {}),
        ("asif", {"power": 1.0}),
        ("asif-paper", {}),
        ("procrustes", {}),
        ("ridge", {}),
        ("ridge", {"towards": "text"}),
        ("cca", {}),
        ("cca", {"size": 100, "weight": 2.0}),
    ],
)
def test_explanations_of_real_photographs(
    name: str, mode: Any, parameters: dict[str, Any], head_home: Path, preloaded: None
) -> None:
    labels = Labels(("cat", "cup of coffee", "rocket", "stamp"), ("a photo of a {}.", "{}", "the {c}"), mode)
    engine = Engine(home=head_home, aligner=make_aligner(name, **parameters))
    explained = list(engine.classify(PHOTOS, labels, explain=5))
    for result, right in zip(explained, labels.labels[:3], strict=True):
        assert result.predictions[0].label == right
        assert result.evidence is not None
        split, records = result.evidence.contributions, result.evidence.records
        assert_adds_up(split, result.predictions[0].score, 5)
        assert list(records) == engine.anchors.records(split.anchors)
        assert all(len(record.captions) == 2 and ": " in record.captions[0] for record in records)
    plain = list(engine.classify(PHOTOS, labels))
    assert [result.predictions for result in plain] == [result.predictions for result in explained]
    assert all(result.evidence is None for result in plain)


def test_a_cat_is_explained_by_cats(head_home: Path, preloaded: None) -> None:
    result = next(Engine(home=head_home).classify(PHOTOS[:1], Labels(("cat", "dog")), explain=3))
    assert result.evidence is not None
    assert all("cat" in record.captions[0] for record in result.evidence.records)
