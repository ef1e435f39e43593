"""The figures behind a score: as they are shown, they add up."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from support.search_answers import make_evidence, make_result

from asif.engine.search.query import Query
from asif.report.search.reasons import Reasons, build_reasons, round_to_sum


def read_figure(text: str) -> Decimal:
    return Decimal(text or "0")


def draw_reasons(seed: int, scale: float) -> tuple[Reasons, float]:
    """Prepare the reasons of a random score of float32, as a search returns it."""
    random = np.random.default_rng(seed)
    values = np.sort(random.normal(0.5, 1, 5) * scale)[::-1].astype(np.float32).astype(float).tolist()
    remainder, hubness = float(random.normal() * 20 * scale), float(random.normal() * 10 * scale)
    total = sum(values) + remainder
    shares = random.normal(0, 1, 2) * total
    parts = (*shares.tolist(), total - float(shares.sum()))
    evidence = make_evidence(values, remainder, 100, parts=parts, hubness=hubness)
    score = float(np.float32(total - hubness))
    query = Query.of(texts=["a", "b"], minus=["c"])
    return build_reasons(query, make_result(0, score, 0.1, evidence), evidence, {}), score


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scale", [1e-2, 1e-4, 3e-6])
def test_figures_add_up(seed: int, scale: float) -> None:
    reasons, score = draw_reasons(seed, scale)
    pairs = sum(read_figure(pair.amount.figure) for pair in reasons.pairs)
    total = read_figure(reasons.total)
    assert pairs + read_figure(reasons.remainder) == total
    assert sum(read_figure(part.figure) for part in reasons.parts) == total
    assert total + read_figure(reasons.hubness) == read_figure(reasons.score)
    digits = -int(read_figure(reasons.score).as_tuple().exponent)
    assert read_figure(reasons.score) == round(Decimal(score), digits)


def test_small_contributions_have_digits_that_tell_them_apart() -> None:
    evidence = make_evidence([0.000012, 0.000011], 0.1, 5)
    reasons = build_reasons(Query.of(texts=["a"]), make_result(0, 0.100023, 0.1, evidence), evidence, {})
    assert [pair.amount.figure for pair in reasons.pairs] == ["0.000012", "0.000011"] and reasons.score == "0.100023"


@pytest.mark.parametrize("score", [0.7, 0.4003])
def test_figures_that_do_not_add_up_are_not_made_to(score: float) -> None:
    evidence = make_evidence([0.2, 0.1], 0.1, 5)
    reasons = build_reasons(Query.of(texts=["a"]), make_result(0, score, 0.1, evidence), evidence, {})
    assert (reasons.total, reasons.remainder) == ("0.4000", "0.1000")


def test_rounding_moves_no_value_by_a_unit() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        values = random.normal(0, 0.01, 8).tolist()
        units = round_to_sum(values, sum(values), 4)
        assert sum(units) == round(sum(values) * 1e4)
        assert all(abs(unit - 1e4 * value) < 1 for unit, value in zip(units, values, strict=True))
