"""The chance of a score: the share of other anchors, continued beyond the highest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asif.engine.search.chance import ChanceCurve, measure_decay, take_held_out


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_it_is_the_share_below_the_tail_and_falls_everywhere(count: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    curve = ChanceCurve(scores)
    asked = np.sort(np.concatenate([scores, np.linspace(-4, 8, 50, dtype=np.float32)]))
    chances = curve.estimate(asked)
    assert (np.diff(chances) <= 1e-12).all() and ((chances >= 0) & (chances <= 1)).all()
    tail = np.sort(scores)[-min(count, max(10, int(np.ceil(0.05 * count))))]
    for score, chance in zip(asked, chances, strict=True):
        if score <= tail:
            assert chance == pytest.approx((scores >= score).mean())


def test_the_tail_of_an_exponential_distribution_is_found() -> None:
    scores = np.random.default_rng(0).exponential(0.1, 20_000).astype(np.float32)
    for score in (0.5, 0.9, 1.5):
        assert ChanceCurve(scores).estimate(np.array([score], np.float32))[0] == pytest.approx(
            np.exp(-score / 0.1), rel=0.25
        )


def test_equal_scores_and_none() -> None:
    equal = ChanceCurve(np.full(50, 0.5, np.float32))
    assert equal.estimate(np.array([0.4, 0.5, 0.6], np.float32)).tolist() == [1.0, 1.0, 0.0]
    assert ChanceCurve(equal.scores, 0.2).estimate(np.array([0.4, 0.5, 0.6], np.float32)).tolist() == [1.0, 1.0, 0.0]
    assert ChanceCurve(np.empty(0, np.float32)).estimate(np.array([0.4], np.float32)).tolist() == [1.0]


# ---- by deciles, with the decay of many queries


@given(st.integers(1, 300), st.sampled_from([0.0, 1e-300, 0.2, 1.0]), st.integers(0, 2**32 - 1))
def test_beyond_the_upper_decile_it_falls_by_the_interdecile_range(count: int, decay: float, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=count).astype(np.float32)
    ascending = np.sort(scores).astype(float)
    size = int(np.ceil(0.1 * count))
    low, high = ascending[size - 1], ascending[-size]
    asked = np.sort(np.concatenate([scores, np.linspace(-4, 8, 50, dtype=np.float32)]))
    chances = ChanceCurve(scores, decay).estimate(asked)
    assert (np.diff(chances) <= 1e-12).all() and ((chances >= 0) & (chances <= 1)).all()
    below = asked <= high
    assert chances[below] == pytest.approx((scores >= asked[below, None]).mean(axis=1))
    excess = max(decay * (high - low), 1e-12)  # or the share falls to nothing
    assert chances[~below] == pytest.approx(size / count * np.exp(-(asked[~below] - high) / excess), abs=1e-12)


def test_decays_of_known_distributions() -> None:
    random = np.random.default_rng(0)
    exponential = [random.exponential(scale, 20_000).astype(np.float32) for scale in (0.1, 1, 3)]
    assert measure_decay(exponential) == pytest.approx(1 / np.log(9), rel=0.03)
    normal = [random.normal(size=20_000).astype(np.float32)]
    assert measure_decay(normal) == pytest.approx((1.755 - 1.2816) / (2 * 1.2816), rel=0.03)
    assert measure_decay([np.full(50, 0.5, np.float32)]) == 0.0


def test_chances_are_shares_far_below_one_in_the_number_of_anchors() -> None:
    random = np.random.default_rng(1)
    decay = measure_decay([random.exponential(size=1000).astype(np.float32) for _ in range(100)])
    others = random.exponential(size=1_000_000).astype(np.float32)
    chances = np.mean(
        [ChanceCurve(random.exponential(size=1000).astype(np.float32), decay).estimate(others) for _ in range(10)],
        axis=0,
    )
    for limit in (1e-2, 1e-3, 1e-4):
        assert (chances < limit).mean() == pytest.approx(limit, rel=0.35)


def test_a_few_anchors_about_the_query_hardly_matter() -> None:
    random = np.random.default_rng(2)
    scores = random.normal(size=2000).astype(np.float32)
    about = np.concatenate([scores[40:], np.float32(4) + random.normal(size=40).astype(np.float32)])
    asked, decay = np.array([4.0], np.float32), measure_decay([scores])
    ratio = ChanceCurve(about, decay).estimate(asked)[0] / ChanceCurve(scores, decay).estimate(asked)[0]
    plain = ChanceCurve(about).estimate(asked)[0] / ChanceCurve(scores).estimate(asked)[0]
    assert 1 < ratio < 2 and plain > 20


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_held_out_scores_are_raised_to_the_median_likeness(count: int, slope: float) -> None:
    random = np.random.default_rng(count)
    likeness = random.uniform(-0.2, 1, count).astype(np.float32)
    scores = (slope * likeness + 0.01 * random.normal(size=count)).astype(np.float32)
    order = np.argsort(likeness)[: (count + 1) // 2]
    found = take_held_out(scores, likeness)
    fitted = np.polyfit(likeness[order], scores[order], 1)[0] if len(order) > 1 else 0.0
    expected = scores[order] + max(fitted, 0.0) * (np.median(likeness) - likeness[order])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if count == 500 and slope > 0:
        assert found.mean() == pytest.approx(slope * np.median(likeness), abs=0.005) and found.std() < 0.012


def test_held_out_scores_of_equal_likeness() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    assert take_held_out(scores, np.full(4, 0.5, np.float32)).tolist() == scores[:2].tolist()
