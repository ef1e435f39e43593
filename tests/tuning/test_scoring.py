"""Held-out scores are those that the aligners and the fused aligner give."""

from __future__ import annotations

import numpy as np
import pytest
from support.anchor_pairs import related

from asif.aligners import Hubness, make_aligner
from asif.aligners.hubness import build_query_bank
from asif.compare import Candidates, score_candidates
from asif.tuning.criteria import compute_chance_of_first, count_candidates_ahead
from asif.tuning.scoring import HeldOutScores, HubnessCorrector, compute_query_scores, fit_and_score
from asif.tuning.splits import HeldOutQueries, split_folds


def table_of(name: str, hubness: Hubness, questions: HeldOutQueries) -> np.ndarray:
    """Return images x texts as the verbs would score them."""
    fitted = make_aligner(name).fit(questions.anchors)
    rows = fitted.represent("text", questions.texts)
    biases = None
    if hubness.method != "none":
        biases = hubness.compute_biases(rows, build_query_bank(fitted, questions.anchors, "image"))
    return score_candidates(fitted.represent("image", questions.images), Candidates(rows, biases=biases))


@pytest.mark.parametrize("hubness", [Hubness("none"), Hubness("nnn", 8, 0.5), Hubness("lse")], ids=["", "nnn", "lse"])
def test_fusions_are_judged_as_the_fused_aligner_scores(hubness: Hubness) -> None:
    pairs = related(80)
    questions = next(split_folds(pairs, seed=0))
    one, two = (fit_and_score(name, questions, "classify", True) for name in ("cca(lambda=3)", "asif(k=9)"))
    worth = compute_query_scores(HubnessCorrector(one.add_weighted(two, 0.6)), hubness, questions.matches, "classify")
    table = table_of("cca(lambda=3)+0.6*asif(k=9)", hubness, questions)
    wrong = (~questions.matches).sum(axis=1)
    np.testing.assert_allclose(
        worth, compute_chance_of_first(count_candidates_ahead(table, questions.matches), wrong), atol=1e-6
    )


def test_search_is_judged_both_ways() -> None:
    questions = next(split_folds(related(80), seed=0))
    found = fit_and_score("procrustes", questions, "search", True)
    worth = compute_query_scores(HubnessCorrector(found), Hubness("none"), questions.matches, "search")
    table = table_of("procrustes", Hubness("none"), questions)
    ranks = [count_candidates_ahead(table, questions.matches), count_candidates_ahead(table.T, questions.matches.T)]
    np.testing.assert_allclose(worth, 1 / (1 + np.concatenate(ranks)), atol=1e-6)


def test_sums_of_scores_keep_their_parts() -> None:
    one = HeldOutScores(np.ones((2, 2), np.float32), (np.zeros((3, 2), np.float32),))
    both = one.add_weighted(HeldOutScores(np.full((2, 2), 2, np.float32), (np.ones((3, 2), np.float32),)), 0.5)
    assert both.table.tolist() == [[2, 2], [2, 2]] and both.banks[0].tolist() == [[0.5, 0.5]] * 3
