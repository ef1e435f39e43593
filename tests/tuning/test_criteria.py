"""What a held-out query is worth: candidates ahead, reciprocal ranks, the chance of being first."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from asif.tuning.criteria import compute_chance_of_first, compute_reciprocal_rank, count_candidates_ahead


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(2, 6))
def test_ahead_counts_wrong_candidates_and_half_the_ties(seed: int, candidates: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    table = (rng.integers(0, levels, (3, candidates)) / 4).astype(np.float32)
    right = rng.random((3, candidates)) < 0.4
    right[:, 0] = True
    expected = []
    for row, good in zip(table, right, strict=True):
        best = max(row[good])
        wrong = row[~good]
        expected.append(sum(wrong > best) + sum(wrong == best) / 2)
    np.testing.assert_array_equal(count_candidates_ahead(table, right), expected)


def test_a_reciprocal_rank_counts_from_one() -> None:
    np.testing.assert_allclose(compute_reciprocal_rank(np.array([0.0, 0.5, 4.0])), [1, 2 / 3, 0.2])


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(2, 12))
def test_the_chance_of_being_first_is_that_of_all_drawings(wrong: int, above: int, choices: int) -> None:
    above = min(above, wrong)
    others = min(choices - 1, wrong)
    drawings = list(itertools.combinations(range(wrong), others))
    won = sum(all(one >= above for one in drawn) for drawn in drawings) / len(drawings)
    found = compute_chance_of_first(np.array([float(above)]), np.array([wrong]), choices)
    assert found[0] == pytest.approx(won, abs=1e-9)


def test_a_tie_is_worth_something_between() -> None:
    lower, half, upper = compute_chance_of_first(np.array([3.0, 2.5, 2.0]), np.array([200] * 3))
    assert lower < half < upper == pytest.approx(comb(198, 99) / comb(200, 99))
