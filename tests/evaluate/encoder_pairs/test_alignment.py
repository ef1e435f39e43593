"""Alignment of two encoders: against Gram matrices, quadruples, sorted lists and every permutation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.examples import examples

from asif.errors import InputRefused, UsageError
from asif.evaluate.encoder_pairs.alignment import (
    Alignment,
    EncoderSpace,
    debias_by_row,
    measure_alignment,
    measure_shuffled,
)
from asif.evaluate.encoder_pairs.permutation_test import PermutationTest
from asif.vectors import Embeddings, Float32

Rows = NDArray[np.float64]


def related(n: int, left: int = 7, right: int = 5, seed: int = 0, noise: float = 0.5) -> tuple[Float32, Float32]:
    """Draw unit rows of two sides that share some directions."""
    random = np.random.default_rng(seed)
    latent = random.standard_normal((n, 3))
    sides = [
        latent @ random.standard_normal((3, dim)) + noise * random.standard_normal((n, dim)) for dim in (left, right)
    ]
    return Embeddings.from_raw(sides[0]).values, Embeddings.from_raw(sides[1]).values


def compare(x: Float32, y: Float32, k: int = 3, permutations: int = 20, seed: int = 0) -> Alignment:
    return measure_alignment(EncoderSpace.of(x, k), EncoderSpace.of(y, k), permutations, seed)


def values(alignment: Alignment) -> list[float]:
    assert alignment.cka and alignment.cka_debiased and alignment.mutual_knn
    return [alignment.cka.value, alignment.cka_debiased.value, alignment.mutual_knn.value]


def gram(x: Float32) -> Rows:
    wide = x.astype(np.float64)
    return wide @ wide.T


def gram_cka(x: Float32, y: Float32) -> float:
    """Kornblith et al.: HSIC of doubly centred Gram matrices, normalised."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, l = (centre @ gram(side) @ centre for side in (x, y))  # noqa: E741
    return float(np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l)))


def hsic_1(k: Rows, l: Rows) -> float:  # noqa: E741
    """Song et al., equation 5: matrices without their diagonals, not centred."""
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    middle = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ l @ one
    return float((np.trace(k @ l) + middle) / (n * (n - 3)))


def gram_cka_debiased(x: Float32, y: Float32) -> float:
    k, l = gram(x), gram(y)  # noqa: E741
    return hsic_1(k, l) / np.sqrt(hsic_1(k, k) * hsic_1(l, l))


def sorted_neighbours(x: Float32, k: int) -> list[set[int]]:
    similar = gram(x).astype(np.float32)
    orders = [sorted(range(len(x)), key=lambda j, i=i: (-similar[i, j], j)) for i in range(len(x))]
    return [set([j for j in order if j != i][:k]) for i, order in enumerate(orders)]


def slow_mutual_knn(x: Float32, y: Float32, k: int) -> float:
    both = zip(sorted_neighbours(x, k), sorted_neighbours(y, k), strict=True)
    return float(np.mean([len(left & right) / k for left, right in both]))


# ---- the definitions


@pytest.mark.parametrize(("n", "left", "right"), [(4, 3, 2), (13, 7, 5), (67, 300, 5), (67, 1, 90), (300, 20, 30)])
def test_feature_space_is_the_gram_form(n: int, left: int, right: int) -> None:
    x, y = related(n, left, right)
    if left == 1:
        x = Embeddings.from_raw(np.column_stack([x, np.ones(n)])).values
    expected = [gram_cka(x, y), gram_cka_debiased(x, y), slow_mutual_knn(x, y, 2)]
    assert values(compare(x, y, k=2)) == pytest.approx(expected, abs=1e-10)


def test_the_debiased_sum_is_the_mean_over_all_quadruples() -> None:
    x, y = related(7, 4, 3)
    k, l = gram(x), gram(y)  # noqa: E741
    every = [k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in permutations(range(7), 4)]
    a, b = EncoderSpace.of(x, 2), EncoderSpace.of(y, 2)
    plain = ((a.rows @ a.rows.T) * (b.rows @ b.rows.T)).sum(axis=1)
    assert debias_by_row(plain, a.lengths, b.lengths).sum() / (7 * 4) == pytest.approx(np.mean(every), rel=1e-9)


def test_neighbours_of_equal_rows_are_the_first_others() -> None:
    same = np.tile(np.array([[0.6, 0.8]], np.float32), (6, 1))
    rows = np.concatenate([same, [[1.0, 0.0]]]).astype(np.float32)
    expected = [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1]]
    assert EncoderSpace.of(rows, 2).neighbours.tolist() == expected
    assert EncoderSpace.of(rows, 2).neighbours.tolist() == [sorted(each) for each in sorted_neighbours(rows, 2)]


# ---- the shuffled pairings


def test_over_all_permutations_the_means_are_known() -> None:
    x, y = related(6, 4, 3)
    a, b = EncoderSpace.of(x, 2), EncoderSpace.of(y, 2)
    every = np.array([measure_shuffled(a, b, np.array(order)) for order in permutations(range(6))])
    plain, unbiased, mutual = every.mean(axis=0)
    assert plain == pytest.approx(a.lengths.sum() * b.lengths.sum() / 5, rel=1e-9)  # tr K tr L / (n - 1)
    assert unbiased == pytest.approx(0, abs=1e-12)
    assert mutual == pytest.approx(2 / 5, rel=1e-9)  # k / (n - 1)


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 40))
def test_a_shuffled_pairing_is_that_of_shuffled_rows(seed: int, n: int) -> None:
    x, y = related(n, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    a, b = EncoderSpace.of(x, 2), EncoderSpace.of(y, 2)
    plain, unbiased, mutual = measure_shuffled(a, b, order)
    again = compare(x, y[order], k=2)
    assert again.cka and again.cka_debiased
    own = [debias_by_row(side.own, side.lengths, side.lengths).sum() for side in (a, b)]
    assert plain / np.sqrt(a.own.sum() * b.own.sum()) == pytest.approx(again.cka.value, abs=1e-9)
    assert unbiased / np.sqrt(own[0] * own[1]) == pytest.approx(again.cka_debiased.value, abs=1e-9)
    assert mutual == pytest.approx(slow_mutual_knn(x, y[order], 2))  # no ties: lists move with their rows


def test_real_pairs_stand_out_and_unrelated_ones_do_not() -> None:
    x, y = related(100, 200, 150)
    found = compare(x, y, k=5, permutations=99)
    apart = compare(x, related(100, 200, 150, seed=1)[1], k=5, permutations=99)
    for real, chance in (
        (found.cka, apart.cka),
        (found.cka_debiased, apart.cka_debiased),
        (found.mutual_knn, apart.mutual_knn),
    ):
        assert real and chance
        assert real.p == 0.01 and real.z is not None and real.z > 10
        assert chance.p > 0.03 and chance.z is not None and abs(chance.z) < 3


def test_plain_cka_is_inflated_by_dimensions_and_the_debiased_one_is_not() -> None:
    random = np.random.default_rng(0)
    x, y = (Embeddings.from_raw(random.standard_normal((50, 800))).values for _ in range(2))
    found = compare(x, y)
    assert found.cka and found.cka_debiased
    assert found.cka.value > 0.9
    assert abs(found.cka_debiased.value) < 0.05
    assert found.cka.p == pytest.approx(found.cka_debiased.p, abs=0.1)


def test_p_counts_equal_ones_and_z_needs_a_spread() -> None:
    measured = PermutationTest.of(0.5, np.array([0.1, 0.5, 0.7, 0.2]), np.zeros(3))
    assert measured.p == 3 / 5
    assert measured.z == pytest.approx((0.5 - 0.375) / np.std([0.1, 0.5, 0.7, 0.2], ddof=1))
    assert PermutationTest.of(0.5, np.array([0.5, 0.5]), np.zeros(3)).z is None


def test_seeded() -> None:
    x, y = related(30)
    one, same, other = (compare(x, y, seed=seed).cka for seed in (3, 3, 4))
    assert one and same and other
    assert (one.null_mean, one.null_sd, one.p) == (same.null_mean, same.null_sd, same.p)
    assert one.null_mean != other.null_mean and one.value == other.value


# ---- what a measure must not depend on


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(0, 2**32), st.integers(6, 40), st.floats(0.01, 100))
def test_invariances(seed: int, n: int, scale: float) -> None:
    x, y = related(n, seed=seed)
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(random.standard_normal((7, 7)))[0]
    order = random.permutation(n)
    expected = values(compare(x, y))
    turned = Embeddings.from_raw(scale * x.astype(np.float64) @ rotation).values
    assert values(compare(turned, y))[:2] == pytest.approx(expected[:2], abs=1e-5)
    assert values(compare(turned, y))[2] == pytest.approx(expected[2], abs=2 / n)  # a near tie may turn over
    assert values(compare(x[order], y[order])) == pytest.approx(expected, abs=1e-9)
    assert values(compare(y, x)) == pytest.approx(expected, abs=1e-9)
    assert values(compare(x, turned)) == pytest.approx([1, 1, 1], abs=2 / n)


# ---- how sure it is


def jackknife(statistic: list[float]) -> float:
    n = len(statistic)
    return float(np.sqrt((n - 1) / n * np.square(np.array(statistic) - np.mean(statistic)).sum()))


def test_the_standard_error_is_that_of_leaving_pairs_out() -> None:
    x, y = related(200)
    found = compare(x, y)
    assert found.cka and found.cka_debiased and found.mutual_knn
    rows = range(200)
    left_out = [gram_cka_debiased(np.delete(x, i, 0), np.delete(y, i, 0)) for i in rows]
    assert found.cka_debiased.standard_error == pytest.approx(jackknife(left_out), rel=0.1)
    plain = [gram_cka(np.delete(x, i, 0), np.delete(y, i, 0)) for i in rows]
    assert found.cka.standard_error == pytest.approx(jackknife(plain), rel=0.1)
    for measured in (found.cka, found.cka_debiased, found.mutual_knn):
        assert measured.influence.mean() == pytest.approx(0, abs=1e-9)


def noisy(x: Float32, amount: float, seed: int) -> Float32:
    return Embeddings.from_raw(x + amount * np.random.default_rng(seed).standard_normal(x.shape)).values


def test_the_standard_error_of_mutual_knn_is_that_of_fresh_pairs() -> None:
    x, y = related(200 * 60, noise=0.5)
    found = [compare(x[at : at + 200], y[at : at + 200], k=5, permutations=2) for at in range(0, len(x), 200)]
    every = [one.mutual_knn for one in found if one.mutual_knn]
    spread = np.std([one.value for one in every])
    assert 0.8 < np.mean([one.standard_error for one in every]) / spread < 1.5


def test_clearly_above_finds_what_is_worse() -> None:
    x, y = related(200, noise=0.3)
    best, worse = compare(x, y), compare(noisy(x, 0.5, 5), y)
    for first, second in ((best.cka_debiased, worse.cka_debiased), (best.mutual_knn, worse.mutual_knn)):
        assert first and second
        assert first.clearly_above(second) and not second.clearly_above(first) and not first.clearly_above(first)


def test_clearly_above_is_seldom_wrong() -> None:
    wrong = {"cka": 0, "cka_debiased": 0, "mutual_knn": 0}
    for seed in range(100):
        x, y = related(150, seed=seed, noise=0.3)
        one, other = (compare(noisy(x, 0.2, 1000 + 2 * seed + at), y, permutations=2) for at in (0, 1))  # equally good
        for name in wrong:
            first, second = getattr(one, name), getattr(other, name)
            wrong[name] += first.clearly_above(second) or second.clearly_above(first)
    assert max(wrong.values()) <= 8, wrong  # one in twenty, by the rule
    assert sum(wrong.values()) >= 2, wrong  # nor is it too careful to say anything


# ---- odd input


def test_nothing_is_said_of_equal_rows_and_nothing_is_nan() -> None:
    x, y = related(20)
    same = np.repeat(x[:1], 20, axis=0)
    for left, right in ((same, y), (y, same), (same, same)):
        assert compare(left, right) == Alignment(None, None, None)


def test_all_rows_equally_far_apart_leave_the_debiased_one_undefined() -> None:
    _, y = related(8)
    found = compare(np.eye(8, dtype=np.float32), y)
    assert found.cka_debiased is None
    assert found.cka and np.isfinite(found.cka.value) and found.cka.p == 1 and found.cka.z is None


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_pairs(n: int) -> None:
    with pytest.raises(InputRefused, match=f"{n} pair"):
        EncoderSpace.of(related(10)[0][:n], 1)


@pytest.mark.parametrize("k", [-1, 0, 9, 10, 1000])
def test_k_that_leaves_nobody_out(k: int) -> None:
    with pytest.raises(UsageError, match=f"k is {k} for 10 pairs"):
        EncoderSpace.of(related(10)[0], k)
    EncoderSpace.of(related(10)[0], 8)
