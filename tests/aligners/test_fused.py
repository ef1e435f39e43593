"""Fusion of aligners, and how aligners are called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchor_pairs import Pairs, related, unit
from support.examples import examples

from asif.aligners import Fused, FusedMember, Hubness, make_aligner
from asif.aligners.fused import compute_spread
from asif.aligners.hubness import build_query_bank
from asif.aligners.sampling import represent_leave_one_out
from asif.compare import Candidates, find_best_row, rank_candidates, score_candidates
from asif.errors import UsageError
from asif.kernels import compute_similarity
from asif.vectors import SIDES, DenseRows, Embeddings, FusedRows, Rows, SparseRows, join_rows

NAME = "cca(lambda=3)+0.5*asif(k=4,power=2)+2*procrustes(size=3)"


def asked(pairs: Pairs, count: int = 6, seed: int = 5) -> tuple[Embeddings, Embeddings]:
    rng = np.random.default_rng(seed)
    return tuple(  # type: ignore[return-value]
        Embeddings(unit(pairs.sides[side][:count] + 0.3 * rng.standard_normal((count, pairs.sides[side].shape[1]))))
        for side in ("image", "text")
    )


def strange(rows: Rows) -> np.ndarray:
    """Return rows of all anchors in float64, none of which knows itself."""
    if isinstance(rows, DenseRows):
        return rows.values.astype(np.float64)
    assert isinstance(rows, SparseRows)
    dense = rows.to_dense().astype(np.float64)
    np.fill_diagonal(dense, 0)
    return dense / np.linalg.norm(dense, axis=1, keepdims=True)


def test_scores_are_the_weighed_sum_of_standardised_scores() -> None:
    pairs = related(40)
    images, texts = asked(pairs)
    fitted = make_aligner(NAME).fit(pairs)
    found = score_candidates(fitted.represent("image", images), Candidates(fitted.represent("text", texts)))
    counts, expected = 0.0, np.zeros(found.shape)
    for name, weight in (("cca(lambda=3)", 1.0), ("asif(k=4,power=2)", 0.5), ("procrustes(size=3)", 2.0)):
        alone = make_aligner(name).fit(pairs)
        sides = [strange(alone.represent(side, Embeddings(pairs.sides[side]))) for side in SIDES]
        spread_here = (sides[0] @ sides[1].T)[~np.eye(40, dtype=bool)].std()
        assert compute_spread(alone, pairs) == pytest.approx(spread_here, rel=1e-6)
        own = score_candidates(alone.represent("image", images), Candidates(alone.represent("text", texts)))
        expected += weight / spread_here * own
        counts += weight / spread_here
    np.testing.assert_allclose(found, expected / counts, atol=2e-7)
    assert np.abs(found).max() <= 1 + 1e-6


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(1, 7), st.integers(0, 100))
def test_batches_do_not_matter(cut: int, seed: int) -> None:
    pairs = related(30, seed=seed)
    images, texts = asked(pairs, count=8, seed=seed)
    fitted = make_aligner(NAME).fit(pairs)
    whole = fitted.represent("image", images)
    parts = [fitted.represent("image", Embeddings(images.values[at : at + cut])) for at in range(0, 8, cut)]
    rows = fitted.represent("text", texts)
    np.testing.assert_array_equal(compute_similarity(join_rows(parts), rows), compute_similarity(whole, rows))
    found = rank_candidates(whole, Candidates(rows), 3)
    every = compute_similarity(whole, rows)
    order = np.argsort(-every, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(every, order, axis=1))


def test_contributions_sum_to_the_score() -> None:
    pairs = related(50)
    images, texts = asked(pairs)
    fitted = make_aligner(NAME).fit(pairs)
    image, text = fitted.represent("image", images), fitted.represent("text", texts)
    every = compute_similarity(image, text)
    for at in range(len(images)):
        parts = fitted.split_score(image[at : at + 1], text[at : at + 1])
        assert parts.values.sum() == pytest.approx(float(every[at, at]), abs=1e-6)
        assert (np.diff(parts.anchors) > 0).all()


def test_hubness_is_taken_off_the_fused_score() -> None:
    pairs = related(40)
    images, texts = asked(pairs)
    fitted, hubness = make_aligner(NAME).fit(pairs), Hubness("nnn", k=5, alpha=0.5)
    image, text = fitted.represent("image", images), fitted.represent("text", texts)
    biases = hubness.compute_biases(text, build_query_bank(fitted, pairs, "image"))
    behind = compute_similarity(text, represent_leave_one_out(fitted, pairs, "image", 1000))
    np.testing.assert_allclose(biases, 0.5 * -np.sort(-behind, axis=1)[:, :5].mean(axis=1), atol=1e-6)
    corrected = Candidates(text, biases=biases)
    np.testing.assert_allclose(score_candidates(image, corrected), compute_similarity(image, text) - biases, atol=2e-7)
    assert find_best_row(image[:1], corrected, 2) == 2
    found = rank_candidates(image, corrected, 6)
    np.testing.assert_array_equal(np.sort(found.indices, axis=1), np.tile(np.arange(6), (6, 1)))


def test_two_of_the_same_are_one() -> None:
    pairs = related(30)
    images, texts = asked(pairs)
    single, double = make_aligner("cca").fit(pairs), make_aligner("cca+3*cca").fit(pairs)
    np.testing.assert_allclose(
        compute_similarity(double.represent("image", images), double.represent("text", texts)),
        compute_similarity(single.represent("image", images), single.represent("text", texts)),
        atol=3e-7,
    )


def test_a_member_that_says_nothing_counts_for_nothing() -> None:
    pairs = related(30)
    rng = np.random.default_rng(0)
    same = Pairs(pairs.sides["image"], np.tile(unit(rng.standard_normal((1, 9))), (30, 1)))
    fitted = make_aligner("asif(k=30,power=1)+procrustes").fit(same)  # every text is the same: no direction is left
    assert fitted.shares == [1.0, 0.0]
    fused = fitted.represent("image", Embeddings(same.sides["image"][:3]))
    assert isinstance(fused, FusedRows)
    alone = make_aligner("asif(k=30,power=1)").fit(same).represent("image", Embeddings(same.sides["image"][:3]))
    first = fused.parts[0]
    assert isinstance(first, SparseRows)
    np.testing.assert_array_equal(first.values, alone.values)


def test_parameters_say_it_all() -> None:
    fused = make_aligner(" cca ( lambda = 3 ) + 0.5 * asif(k=4, centre) ")
    assert fused.name == "fused"
    assert [member["aligner"] for member in fused.parameters["members"]] == ["cca", "asif"]
    assert [member["weight"] for member in fused.parameters["members"]] == [1.0, 0.5]
    assert fused.parameters["members"][1]["parameters"]["centre"] is True
    assert fused.parameters["members"][0]["parameters"]["lambda"] == 3.0
    fitted = make_aligner("cca+asif").fit(related(100))
    assert fitted.parameters["members"][1]["parameters"]["k"] == 26  # not left open


def test_a_name_may_bring_its_parameters() -> None:
    assert make_aligner("ridge(towards=text,lambda=2)") == make_aligner("ridge", towards="text", strength=2.0)
    assert make_aligner("asif(k=7)").parameters["k"] == 7


@pytest.mark.parametrize(
    "name",
    [
        "",
        "magic",
        "cca+",
        "cca+magic",
        "cca(",
        "cca(lambda)",
        "cca(k=3)",
        "asif(k=x)",
        "asif(k=2.5)",
        "asif(centre=yes)",
        "x*cca+asif",
        "1.2.3*cca+asif",
        "0*cca+asif",
        "-1*cca+asif",
        "cca+asif-paper",
        "ridge(towards=up)",
        "cca(lambda=nan)",
        "0.5*cca",
    ],
)
def test_what_is_no_aligner_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        make_aligner(name)


def test_parameters_beside_a_sum_are_refused() -> None:
    with pytest.raises(UsageError, match="was given k beside it"):
        make_aligner("cca+asif", k=3)
    with pytest.raises(UsageError, match="fusion of 1"):
        Fused((FusedMember(make_aligner("cca"), 1.0),))
    with pytest.raises(UsageError, match="within a fusion"):
        Fused((FusedMember(make_aligner("cca+asif"), 1.0), FusedMember(make_aligner("cca"), 1.0)))
