"""Hubness correction: one bias per candidate from a bank of anchors, the same on sparse and dense rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchor_pairs import Pairs, related, unit
from support.examples import examples

from asif.aligners import Hubness, Relative, make_aligner
from asif.aligners.hubness import MAX_BANK_ROWS, QueryBank, build_query_bank
from asif.aligners.sampling import compute_spread
from asif.classify import Labels
from asif.compare import Candidates, rank_candidates, score_candidates
from asif.engine import Engine
from asif.errors import UsageError
from asif.kernels import sparse_similarity
from asif.vectors import DenseRows, Embeddings, Rows, SparseRows

CHELSEA = Path(skimage.__path__[0]) / "data" / "chelsea.png"


def dense_rows(count: int, seed: int) -> DenseRows:
    return DenseRows(unit(np.random.default_rng(seed).standard_normal((count, 6))))


def sparse_rows(count: int, seed: int) -> SparseRows:
    rng = np.random.default_rng(seed)
    indices = rng.permuted(np.tile(np.arange(20), (count, 1)), axis=1)[:, :5].copy()
    return SparseRows(indices, unit(rng.random((count, 5)) + 0.01), 20)


def matrix(a: Rows, b: Rows) -> Any:
    """Multiply as the definition does, in float64."""
    left, right = (rows.to_dense() if isinstance(rows, SparseRows) else rows.values for rows in (a, b))
    return left.astype(np.float64) @ right.T.astype(np.float64)


@settings(deadline=None, max_examples=examples(40))
@given(
    make=st.sampled_from([dense_rows, sparse_rows]),
    k=st.integers(1, 40),
    alpha=st.floats(0, 0.9),
    per=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_scores_less_a_share_of_the_nearest_of_the_bank(make: Any, k: int, alpha: float, per: int, seed: int) -> None:
    asked, rows, known = make(4, seed), make(10, seed + 1), make(30, seed + 2)
    biases = Hubness("nnn", k, alpha).compute_biases(rows, QueryBank(known))
    expected = alpha * np.sort(matrix(rows, known), axis=1)[:, ::-1][:, :k].mean(axis=1)
    np.testing.assert_allclose(biases, expected, rtol=0, atol=1e-6)
    candidates = Candidates(rows, per, biases)
    found = score_candidates(asked, candidates)
    corrected = (matrix(asked, rows) - expected).reshape(4, -1, per).max(axis=2)
    np.testing.assert_allclose(found, corrected, rtol=0, atol=1e-6)
    best = rank_candidates(asked, candidates, 3)
    np.testing.assert_array_equal(best.scores, np.sort(found, axis=1)[:, ::-1][:, :3])
    np.testing.assert_array_equal(np.take_along_axis(found, best.indices, axis=1), best.scores)


def test_csls_ranks_as_its_definition() -> None:
    """2s - r_x - r_y, r the mean of the ten nearest: for one query r_x is a constant."""
    asked, rows, known = dense_rows(3, 1), dense_rows(12, 2), dense_rows(40, 3)
    nearest = np.sort(matrix(rows, known), axis=1)[:, -10:].mean(axis=1)
    expected = np.argsort(-(2 * matrix(asked, rows) - nearest), axis=1)
    candidates = Candidates(rows, biases=Hubness("csls").compute_biases(rows, QueryBank(known)))
    np.testing.assert_array_equal(rank_candidates(asked, candidates, 12).indices, expected)


@pytest.mark.parametrize("make", [dense_rows, sparse_rows])
def test_lse_subtracts_the_soft_maximum(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, known = make(10, 1), make(30, 2)
    found = Hubness("lse").compute_biases(rows, QueryBank(known, lambda: 0.2))
    scores = matrix(rows, known) / (0.4 * 0.2)
    expected = 0.75 * 0.4 * 0.2 * np.log(np.exp(scores).mean(axis=1))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    monkeypatch.setattr("asif.aligners.hubness._ROWS_PER_BLOCK", 3)
    np.testing.assert_array_equal(Hubness("lse").compute_biases(rows, QueryBank(known, lambda: 0.2)), found)
    monkeypatch.setattr("asif.aligners.hubness._MAX_SOFT_ROWS", 16)
    every_second = Hubness("lse").compute_biases(rows, QueryBank(known[::2], lambda: 0.2))
    np.testing.assert_array_equal(Hubness("lse").compute_biases(rows, QueryBank(known, lambda: 0.2)), every_second)


def test_lse_lies_between_maximum_and_mean() -> None:
    rows, known = dense_rows(10, 1), dense_rows(30, 2)
    hard, soft = (Hubness("lse", temperature=each).compute_biases(rows, QueryBank(known)) for each in (1e-3, 1e3))
    scores = 0.75 * matrix(rows, known)
    np.testing.assert_allclose(hard, scores.max(axis=1), rtol=0, atol=0.005)
    np.testing.assert_allclose(soft, scores.mean(axis=1), rtol=0, atol=0.005)


def test_the_temperature_is_relative_to_the_spread_of_scores_between_anchors() -> None:
    pairs = related(40)
    fitted = make_aligner("cca").fit(pairs)
    bank = build_query_bank(fitted, pairs, "image")
    assert bank.spread == compute_spread(fitted, pairs) > 0
    rows = fitted.represent("text", Embeddings(pairs.sides["text"][:5]))
    found = Hubness("lse").compute_biases(rows, bank)
    np.testing.assert_array_equal(found, Hubness("lse").compute_biases(rows, QueryBank(bank.rows, lambda: bank.spread)))
    assert not np.array_equal(found, Hubness("lse").compute_biases(rows, QueryBank(bank.rows)))


def test_a_hub_steps_back() -> None:
    """A candidate that lies amidst all queries of the bank loses its places to the right ones."""
    rng = np.random.default_rng(3)
    right = unit(rng.standard_normal((30, 12)))
    asked, known = (DenseRows(unit(right + 0.45 * rng.standard_normal((30, 12)) + 0.5)) for _ in range(2))
    hub = unit([known.values.mean(axis=0)])
    rows = DenseRows(np.concatenate([right, hub]))
    plain = rank_candidates(asked, Candidates(rows), 1).indices[:, 0]
    biases = Hubness(alpha=0.75).compute_biases(rows, QueryBank(known))
    corrected = rank_candidates(asked, Candidates(rows, biases=biases), 1).indices[:, 0]
    assert (plain == 30).mean() > 0.3
    assert (corrected == 30).mean() < 0.1
    assert (corrected == np.arange(30)).mean() > (plain == np.arange(30)).mean()


def test_rows_that_are_not_of_unit_length_are_refused() -> None:
    pairs = related(20)
    fitted = make_aligner("asif-paper", k=5).fit(pairs)
    assert len(build_query_bank(fitted, pairs, "text").rows) == 20
    with pytest.raises(UsageError, match="image rows that are not of one length"):
        build_query_bank(fitted, pairs, "image")


@pytest.mark.parametrize("aligner", [Relative(k=5), make_aligner("cca")], ids=["asif", "cca"])
def test_the_bank_is_the_anchors(aligner: Any) -> None:
    pairs = related(20)
    fitted = aligner.fit(pairs)
    found = build_query_bank(fitted, pairs, "image").rows
    assert len(found) == 20
    whole = fitted.represent("image", Embeddings(pairs.sides["image"]))
    if isinstance(whole, SparseRows):  # an anchor does not know itself
        own = whole.to_dense().astype(np.float64)
        np.fill_diagonal(own, 0)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        assert isinstance(found, SparseRows)
        np.testing.assert_allclose(found.to_dense(), own, atol=1e-7)
    else:
        np.testing.assert_array_equal(matrix(found, whole), matrix(whole, whole))


def test_a_large_bank_is_spread_evenly() -> None:
    met: list[float] = []

    class Fitted:
        def represent(self, side: Any, embeddings: Any, engine: Any = "auto") -> DenseRows:
            met.extend(embeddings.values[:, 0].tolist())
            return DenseRows(np.ones((len(embeddings), 1), np.float32))

        def parts(self, image: Any, text: Any) -> Any: ...

    count = 3 * MAX_BANK_ROWS + 5
    numbers = np.arange(count, dtype=np.float32)[:, None]
    bank = build_query_bank(Fitted(), Pairs(numbers, numbers, cut=8192), "text")
    assert len(bank.rows) == MAX_BANK_ROWS == len(met)
    assert (met[0], met[-1]) == (0, count - 1)
    assert set(np.diff(met).tolist()) <= {3.0, 4.0}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "all"}, "the hubness correction is 'all'"),
        ({"k": 0}, "hubness k is 0"),
        ({"alpha": 1.5}, "hubness alpha is 1.5"),
        ({"alpha": float("nan")}, "hubness alpha is nan"),
        ({"method": "lse", "temperature": 0.0}, "hubness temperature is 0.0"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Hubness(**parameters)
    assert caught.value.came == message


@pytest.mark.parametrize("name", ["asif", "procrustes", "ridge", "cca"])
def test_a_photograph_with_correction(name: str, head_home: Path, preloaded: None) -> None:
    """The explanation and what was taken off add up to the score shown."""
    labels = Labels(("cat", "cup of coffee", "rocket"), ("a photo of a {}.", "{}"), "max")
    engine = Engine(home=head_home, aligner=make_aligner(name), hubness=Hubness("nnn"))
    result, again = (next(engine.classify([CHELSEA], labels, explain=3)) for _ in range(2))
    assert result.predictions[0].label == "cat"
    assert result.evidence is not None and result.evidence.hubness > 0
    split = result.evidence.contributions
    total = split.values.astype(np.float64).sum() + split.remainder - result.evidence.hubness
    assert total == pytest.approx(result.predictions[0].score, abs=2e-6)
    assert again.predictions == result.predictions
    plain = next(Engine(home=head_home, aligner=make_aligner(name)).classify([CHELSEA], labels))
    assert plain.predictions[0].score > result.predictions[0].score


def test_no_correction_changes_nothing() -> None:
    rows, known = sparse_rows(5, 1), sparse_rows(9, 2)
    assert not Hubness("none").compute_biases(rows, QueryBank(known)).any()
    assert sparse_similarity(rows, known).shape == (5, 9)
