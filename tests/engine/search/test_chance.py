"""The chance of a score: the share of other anchors, continued beyond the highest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asif.engine.search.chance import ChanceCurve


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
    assert ChanceCurve(np.empty(0, np.float32)).estimate(np.array([0.4], np.float32)).tolist() == [1.0]
