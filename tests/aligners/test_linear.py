"""Closed-form linear maps: what they solve, how they represent, and how a score is taken apart again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.anchor_pairs import Pairs, every_aligner, queries, related, unit
from support.examples import examples

from asif.aligners import Linear, Moments, make_aligner
from asif.aligners.linear import cca, procrustes, ridge
from asif.compare import Candidates, rank_candidates, score_candidates
from asif.errors import UsageError
from asif.kernels import reference
from asif.vectors import SIDES, DenseRows, Embeddings, Float32


def centred(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = (pairs.sides[side].astype(np.float64) for side in SIDES)
    return x - x.mean(axis=0), y - y.mean(axis=0)


def cosines(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    left = left / np.linalg.norm(left, axis=1, keepdims=True)
    return left @ (right / np.linalg.norm(right, axis=1, keepdims=True)).T


def raw(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return queries of both sides about the anchors' means."""
    found = [queries(side).values.astype(np.float64) - pairs.mean(side) for side in SIDES]
    return found[0], found[1]


def similarities(aligner: Linear, pairs: Pairs) -> Float32:
    fitted = aligner.fit(pairs)
    image, text = (fitted.represent(side, queries(side)) for side in SIDES)
    return score_candidates(image, Candidates(text))


def test_moments_are_the_sums_of_their_definition() -> None:
    pairs = related(40)
    found = Moments.of(pairs)
    x, y = (pairs.sides[side].astype(np.float64) for side in SIDES)
    for got, expected in (
        (found.image, x.sum(axis=0)),
        (found.text, y.sum(axis=0)),
        (found.image_image, x.T @ x),
        (found.text_text, y.T @ y),
        (found.image_text, x.T @ y),
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    for got, expected in zip(found.covariances(), (np.cov(x.T, ddof=0), np.cov(y.T, ddof=0), None), strict=True):
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
    a, b = centred(pairs)
    np.testing.assert_allclose(found.covariances()[2], a.T @ b / 40, rtol=0, atol=1e-14)


@settings(deadline=None, max_examples=examples(30))
@given(cut=st.integers(1, 41), split=st.integers(1, 39), seed=st.integers(0, 1000))
def test_moments_add_up_and_are_taken_away(cut: int, split: int, seed: int) -> None:
    pairs = related(40, seed)
    first, second = (
        Moments.of(Pairs(*(pairs.sides[side][part] for side in SIDES), cut))
        for part in (slice(0, split), slice(split, 40))
    )
    whole = Moments.of(pairs)
    for got, expected in ((first + second, whole), (whole - second, first)):
        assert got.count == expected.count
        for one, other in zip(got.covariances(), expected.covariances(), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_procrustes_is_the_best_rotation() -> None:
    """scipy's solution for equal dimensions, where the rotation is unique."""
    from scipy.linalg import orthogonal_procrustes

    pairs = related(60, dims=(9, 9))
    x, y = centred(pairs)
    rotation, _ = orthogonal_procrustes(x, y)
    image, text = (Embeddings(related(6, 9, dims=(9, 9)).sides[side]) for side in SIDES)
    fitted = procrustes().fit(pairs)
    found = score_candidates(fitted.represent("image", image), Candidates(fitted.represent("text", text)))
    a, b = image.values - pairs.mean("image"), text.values - pairs.mean("text")
    np.testing.assert_allclose(found, cosines(a @ rotation, b), rtol=0, atol=1e-6)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 3.0])
def test_ridge_is_least_squares_with_a_penalty(strength: float) -> None:
    """Towards text, images are predicted as texts: W minimises ||XW - Y||² + N λ̄ ||W||²."""
    pairs = related(60, noise=1.0)
    x, y = centred(pairs)
    a, b = raw(pairs)
    for towards, (left, right) in (("text", (x, y)), ("image", (y, x))):
        square = left.T @ left / 60
        penalty = strength * np.trace(square) / len(square) * np.eye(len(square))
        weights = np.linalg.solve(square + penalty, left.T @ right / 60)
        if towards == "text":
            predicted, span = a @ weights, np.linalg.svd(weights)[2][: min(weights.shape)]
            expected = cosines(predicted, b @ span.T @ span)
        else:
            predicted, span = b @ weights, np.linalg.svd(weights)[2][: min(weights.shape)]
            expected = cosines(a @ span.T @ span, predicted)
        found = similarities(ridge(strength, towards=towards), pairs)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_cca_finds_the_canonical_correlations() -> None:
    """Without much shrinking, its axes are uncorrelated within a side, and between sides correlated as R says."""
    pairs = related(400, noise=0.5)
    fitted = cca(1e-9, weight=0.0).fit(pairs)
    x, y = centred(pairs)
    zx, zy = (fitted.solution.apply(side, rows) for side, rows in (("image", x), ("text", y)))  # type: ignore[arg-type]
    size = len(fitted.solution.correlations)
    np.testing.assert_allclose(zx.T @ zx / 400, np.eye(size), rtol=0, atol=1e-5)
    np.testing.assert_allclose(zy.T @ zy / 400, np.eye(size), rtol=0, atol=1e-5)
    np.testing.assert_allclose(zx.T @ zy / 400, np.diag(fitted.solution.correlations), rtol=0, atol=1e-5)
    assert (np.diff(fitted.solution.correlations) <= 0).all() and fitted.solution.correlations[0] < 1 + 1e-6


def test_full_cca_is_asif_with_another_inner_product() -> None:
    """p = 1, k = N, similarities <x, S⁻¹ x_i> on both sides (ALGORITHMS: one family)."""
    pairs = related(50)
    x, y = centred(pairs)
    a, b = raw(pairs)
    inverse = []
    for rows in (x, y):
        square = rows.T @ rows / 50
        inverse.append(np.linalg.inv(square + 0.3 * np.trace(square) / len(square) * np.eye(len(square))))
    joint = (a @ inverse[0] @ x.T) @ (b @ inverse[1] @ y.T).T / 50
    fitted = cca(0.3).fit(pairs)
    za, zb = (fitted.solution.apply(side, rows) for side, rows in (("image", a), ("text", b)))  # type: ignore[arg-type]
    np.testing.assert_allclose(za @ zb.T, joint, rtol=1e-5, atol=1e-6)


@every_aligner
def test_pairs_find_each_other(aligner: Linear) -> None:
    """Held-out pairs that share a latent are far likelier first than by chance (1 in 40)."""
    fitted = aligner.fit(related(400, noise=0.2))
    held = related(40, seed=77, noise=0.2)
    image, text = (fitted.represent(side, Embeddings(held.sides[side])) for side in SIDES)
    for one, other in ((image, text), (text, image)):
        assert np.mean(rank_candidates(one, Candidates(other), 1).indices[:, 0] == np.arange(40)) > 0.4


@every_aligner
def test_rows_are_of_unit_length_and_do_not_depend_on_the_batch(aligner: Linear) -> None:
    fitted = aligner.fit(related(60))
    for side in SIDES:
        some = queries(side, 23)
        found = fitted.represent(side, some)
        np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, rtol=0, atol=1e-6)
        for cut in (1, 2, 5, 22):
            alone = fitted.represent(side, Embeddings(some.values[cut - 1 : cut + 3]))
            np.testing.assert_array_equal(alone.values, found.values[cut - 1 : cut + 3])


@every_aligner
@pytest.mark.parametrize("count", [2, 3, 8, 60])
def test_parts_add_up_to_the_score(aligner: Linear, count: int) -> None:
    pairs = related(count)
    fitted = aligner.fit(pairs)
    image, text = (fitted.represent(side, queries(side)) for side in SIDES)
    every = score_candidates(image, Candidates(text))
    for at in range(3):
        for to in range(3):
            parts = fitted.split_score(image[at : at + 1], text[to : to + 1])
            assert parts.anchors.tolist() == list(range(count))
            assert abs(parts.values.sum() - every[at, to]) <= 1e-6


@every_aligner
@pytest.mark.parametrize("dims", [(7, 5), (64, 48)])
def test_the_first_parts_are_those_of_a_fit_that_was_read_back(aligner: Linear, dims: tuple[int, int]) -> None:
    pairs, held = related(150, dims=dims), related(6, 9, dims=dims)
    fitted = aligner.fit(pairs)
    stored = {name: np.frombuffer(values.tobytes()).reshape(values.shape) for name, values in fitted.arrays().items()}
    restored = aligner.restore(pairs, stored)
    image, text = (fitted.represent(side, Embeddings(held.sides[side])) for side in SIDES)
    for side, rows in zip(SIDES, (image, text), strict=True):
        np.testing.assert_array_equal(restored.represent(side, Embeddings(held.sides[side])).values, rows.values)
    for at, to in ((0, 0), (1, 3), (4, 2)):
        parts = [each.split_score(image[at : at + 1], text[to : to + 1]).values for each in (fitted, restored)]
        np.testing.assert_array_equal(*parts)


@every_aligner
def test_parts_do_not_depend_on_blocks(aligner: Linear) -> None:
    pairs = related(150, dims=(64, 48))
    fitted = aligner.fit(pairs)
    image, text = (fitted.represent(side, Embeddings(pairs.sides[side][:1])) for side in SIDES)
    expected = fitted.split_score(image, text).values
    for cut in (1, 2, 7):
        cut_pairs = Pairs(*(pairs.sides[side] for side in SIDES), cut=cut)
        np.testing.assert_array_equal(
            aligner.restore(cut_pairs, fitted.arrays()).split_score(image, text).values, expected
        )


@every_aligner
def test_parts_add_up_where_some_directions_are_faint(aligner: Linear) -> None:
    """P18 with correlations over four orders of magnitude, where the rounding of the maps would show."""
    rng = np.random.default_rng(4)
    latent = rng.standard_normal((500, 40)) * np.logspace(0, -2.2, 40)
    sides = [latent @ np.linalg.qr(rng.standard_normal((40, 40)))[0] for _ in range(2)]
    pairs = Pairs(*(unit(rows + 1e-3 * rng.standard_normal(rows.shape)) for rows in sides), cut=128)
    fitted = aligner.fit(pairs)
    assert aligner.size or fitted.solution.correlations[-1] < 1e-2 * fitted.solution.correlations[0]
    image, text = (fitted.represent(side, Embeddings(pairs.sides[side][:5])) for side in SIDES)
    every = image.values.astype(np.float64) @ text.values.T.astype(np.float64)
    for at, to in ((0, 0), (1, 3), (4, 2)):
        parts = fitted.split_score(image[at : at + 1], text[to : to + 1])
        assert abs(parts.values.sum() - every[at, to]) <= 1e-9


def test_a_part_is_what_the_pair_has_to_say() -> None:
    """By the definition, for full CCA of equal dimensions: [qᵀ S⁻¹ x_i][y_iᵀ S⁻¹ t] / N over the lengths."""
    pairs, held = related(30, dims=(9, 9)), related(2, 9, dims=(9, 9))
    fitted = cca(1.0).fit(pairs)
    voices, lengths = [], []
    for side, rows in zip(SIDES, centred(pairs), strict=True):
        square = rows.T @ rows / 30
        inverse = np.linalg.inv(square + np.trace(square) / len(square) * np.eye(len(square)))
        query = held.sides[side].astype(np.float64) - pairs.mean(side)
        voices.append(query[0] @ inverse @ rows.T)
        lengths.append(np.linalg.norm(fitted.solution.apply(side, query)[0]))
    image, text = (fitted.represent(side, Embeddings(held.sides[side])) for side in SIDES)
    expected = voices[0] * voices[1] / 30 / (lengths[0] * lengths[1])
    np.testing.assert_allclose(fitted.split_score(image[:1], text[:1]).values, expected, rtol=1e-3, atol=1e-5)


@every_aligner
def test_where_nothing_can_be_learnt_scores_are_zero(aligner: Linear) -> None:
    one = related(1)
    same = Pairs(*(np.repeat(one.sides[side], 20, axis=0) for side in SIDES))
    for pairs in (one, same):
        fitted = aligner.fit(pairs)
        image, text = (fitted.represent(side, queries(side)) for side in SIDES)
        assert not score_candidates(image, Candidates(text)).any()
        assert not fitted.split_score(image[:1], text[:1]).values.any()


@every_aligner
def test_the_mean_has_no_direction(aligner: Linear) -> None:
    rows = np.array([[0.6, 0.8], [0.8, 0.6], [0.6, -0.8], [0.8, -0.6]], np.float32)
    fitted = aligner.fit(Pairs(rows, rows))
    mean = unit([[1.0, 0.0]]) * np.float32(0.7)
    assert np.isfinite(fitted.represent("image", Embeddings(mean)).values).all()


def test_a_size_keeps_the_strongest_directions() -> None:
    pairs = related(60)
    whole, some = (cca(size=size).fit(pairs) for size in (None, 3))
    image = [fitted.represent("image", queries("image")).values for fitted in (whole, some)]
    cut = image[0][:, :3] / np.linalg.norm(image[0][:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(image[1]), np.abs(cut), rtol=0, atol=1e-5)


def test_dense_rows_are_ranked_as_the_definition_ranks_them() -> None:
    rng = np.random.default_rng(1)
    some, others = unit(rng.standard_normal((5, 8))), unit(rng.standard_normal((24, 8)))
    exact = reference.score_pairs(some, others)
    np.testing.assert_array_equal(score_candidates(DenseRows(some), Candidates(DenseRows(others))), exact)
    found = rank_candidates(DenseRows(some), Candidates(DenseRows(others)), 24)
    expected = reference.select_topk(exact, 24)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)
    best = exact.reshape(5, 8, 3).max(axis=2)
    np.testing.assert_array_equal(score_candidates(DenseRows(some), Candidates(DenseRows(others), 3)), best)
    np.testing.assert_array_equal(
        rank_candidates(DenseRows(some), Candidates(DenseRows(others), 3), 2).indices[:, 0], best.argmax(1)
    )


def test_wrong_dimensions_are_refused() -> None:
    with pytest.raises(UsageError, match="image embeddings have 9 dimensions, anchors 12"):
        make_aligner("cca").fit(related(20)).represent("image", queries("text"))
