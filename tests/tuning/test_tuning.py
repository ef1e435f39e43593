"""The choice of a profile from held-out anchors."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from aligners.test_linear import Pairs, related, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from asif.aligners import Hubness, make_aligner
from asif.aligners.hubness import build_query_bank
from asif.aligners.relative import compute_default_k
from asif.compare import Candidates, score_candidates
from asif.errors import InputRefused, UsageError
from asif.tuning import TuningResult, tune
from asif.tuning import search as searching
from asif.tuning.criteria import compute_chance_of_first, compute_reciprocal_rank, count_candidates_ahead
from asif.tuning.grid import AlignerSetting, build_grid, default_setting
from asif.tuning.scoring import HeldOutScores, HubnessCorrector, compute_query_scores, fit_and_score
from asif.tuning.splits import (
    MAX_PAIRS,
    QUICK_CHECK_ROWS,
    HeldOutQueries,
    choose_runs,
    has_repeated_texts,
    number_equal_rows,
    split_folds,
)


def labelled(count: int, classes: int, seed: int = 0) -> Pairs:
    """Make pairs whose texts are those of a few classes."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, classes, count)
    centres, words = rng.standard_normal((classes, 16)), unit(rng.standard_normal((classes, 9)))
    return Pairs(unit(centres[of] + 0.8 * rng.standard_normal((count, 16))), words[of])


class TestCriteria:
    @settings(max_examples=examples(60), deadline=None)
    @given(st.integers(0, 10_000), st.integers(2, 7), st.integers(2, 6))
    def test_ahead_counts_wrong_candidates_and_half_the_ties(self, seed: int, candidates: int, levels: int) -> None:
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

    def test_a_reciprocal_rank_counts_from_one(self) -> None:
        np.testing.assert_allclose(compute_reciprocal_rank(np.array([0.0, 0.5, 4.0])), [1, 2 / 3, 0.2])

    @settings(max_examples=examples(60), deadline=None)
    @given(st.integers(1, 9), st.integers(0, 9), st.integers(2, 12))
    def test_the_chance_of_being_first_is_that_of_all_drawings(self, wrong: int, above: int, choices: int) -> None:
        above = min(above, wrong)
        others = min(choices - 1, wrong)
        drawings = list(itertools.combinations(range(wrong), others))
        won = sum(all(one >= above for one in drawn) for drawn in drawings) / len(drawings)
        found = compute_chance_of_first(np.array([float(above)]), np.array([wrong]), choices)
        assert found[0] == pytest.approx(won, abs=1e-9)

    def test_a_tie_is_worth_something_between(self) -> None:
        lower, half, upper = compute_chance_of_first(np.array([3.0, 2.5, 2.0]), np.array([200] * 3))
        assert lower < half < upper == pytest.approx(comb(198, 99) / comb(200, 99))


class TestHeldOut:
    def test_every_pair_is_asked_about_and_none_is_fitted_at_the_same_time(self) -> None:
        pairs = related(60)
        asked: list[bytes] = []
        for questions in split_folds(pairs, seed=3):
            fitted = {row.tobytes() for block in questions.anchors.blocks("image") for row in block}
            held = {row.tobytes() for row in questions.images.values}
            assert not fitted & held
            assert len(fitted) + len(held) == 60
            assert questions.matches.shape == (len(questions.images), len(questions.texts))
            np.testing.assert_array_equal(questions.matches.sum(axis=1), 1)
            asked += held
        assert sorted(asked) == sorted(row.tobytes() for row in pairs.sides["image"])

    def test_what_is_right_is_what_was_paired(self) -> None:
        pairs = related(60)
        where = {row.tobytes(): at for at, row in enumerate(pairs.sides["image"])}
        for questions in split_folds(pairs, seed=0):
            for image, right in zip(questions.images.values, questions.matches, strict=True):
                own = pairs.sides["text"][where[image.tobytes()]]
                np.testing.assert_array_equal(questions.texts.values[right], own[None])

    def test_captions_of_an_image_are_held_out_together(self) -> None:
        single = related(40)
        rng = np.random.default_rng(1)
        five = np.repeat(single.sides["text"], 5, axis=0)
        pairs = Pairs(np.repeat(single.sides["image"], 5, axis=0), unit(five + 0.1 * rng.standard_normal(five.shape)))
        for questions in split_folds(pairs, seed=0):
            fitted = {row.tobytes() for block in questions.anchors.blocks("image") for row in block}
            assert not fitted & {row.tobytes() for row in questions.images.values}
            np.testing.assert_array_equal(questions.matches.sum(axis=1), 5)
            np.testing.assert_array_equal(questions.matches.sum(axis=0), 1)

    def test_a_text_that_several_images_share_is_one_candidate(self) -> None:
        for questions in split_folds(labelled(100, classes=4), seed=0):
            assert len(questions.texts) <= 4
            np.testing.assert_array_equal(questions.matches.sum(axis=1), 1)
            assert questions.matches.sum() == len(questions.images)

    @pytest.mark.parametrize(("classes", "repeat"), [(4, True), (100, True), (900, False)])
    def test_a_glance_tells_whether_texts_repeat(self, classes: int, repeat: bool) -> None:
        pairs = labelled(2000, classes)
        assert has_repeated_texts(pairs, QUICK_CHECK_ROWS) is repeat
        assert has_repeated_texts(pairs)  # two images or more for each of 900, too

    def test_an_image_with_several_captions_does_not_make_texts_repeat(self) -> None:
        single = related(100)
        five = Pairs(np.repeat(single.sides["image"], 5, axis=0), related(500, seed=1).sides["text"])
        assert not has_repeated_texts(five) and not has_repeated_texts(single) and not has_repeated_texts(related(1))

    def test_images_are_blurred_unless_texts_repeat(self) -> None:
        for pairs, blurred in (
            (labelled(100, classes=4), False),
            (labelled(50, classes=10), False),
            (related(100), True),
        ):
            plain = next(split_folds(pairs, seed=0))
            assert has_repeated_texts(pairs) is not blurred
            asked = searching.ProfileSearch(pairs, "classify", 0, None, None, 0.0, 1.0, lambda *_: None).folds[0]
            assert np.array_equal(asked.images.values, plain.images.values) is not blurred

    def test_the_same_seed_divides_alike(self) -> None:
        one, two, other = (list(split_folds(related(60), seed=seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one[0].images.values, two[0].images.values)
        assert not np.array_equal(one[0].images.values, other[0].images.values)

    def test_blurred_images_keep_the_cosine(self) -> None:
        rng = np.random.default_rng(0)
        pairs = Pairs(unit(rng.standard_normal((50, 1000))), unit(rng.standard_normal((50, 9))))
        questions = next(split_folds(pairs, seed=0))
        blurred = questions.add_noise(1).images.values
        cosines = (blurred * questions.images.values).sum(axis=1)
        assert cosines.mean() == pytest.approx(0.3, abs=0.03)
        np.testing.assert_array_equal(blurred, questions.add_noise(1).images.values)

    @pytest.mark.parametrize("pairs", [related(9), labelled(50, classes=1)], ids=["few", "one text"])
    def test_too_little_is_refused(self, pairs: Pairs) -> None:
        with pytest.raises(InputRefused, match=r"distinct images and .* distinct texts"):
            list(split_folds(pairs, seed=0))

    def test_large_sets_are_looked_at_in_runs(self) -> None:
        rows = choose_runs(1_600_000)
        assert len(rows) == MAX_PAIRS and rows[0] == 0 and rows[-1] == 1_599_999
        assert (np.diff(rows) == 1).sum() == MAX_PAIRS * 49 // 50

    def test_groups_are_numbered_as_they_come(self) -> None:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((5, 3)).astype(np.float16)[[3, 1, 3, 0, 1, 1]]
        assert number_equal_rows(rows).tolist() == [0, 1, 0, 2, 1, 1]


class TestSettings:
    def test_all_are_aligners_and_take_turns(self) -> None:
        every = build_grid(100)
        assert len(set(every)) == len(every)
        assert {setting.family for setting in every[:4]} == {"asif", "procrustes", "ridge", "cca"}
        for setting in every:
            assert make_aligner(setting.name(1000)).name == setting.family
        assert not any("size=128" in setting.parameters for setting in every)

    def test_k_follows_the_number_of_anchors(self) -> None:
        setting = AlignerSetting("asif", (), 2.0)
        assert make_aligner(setting.name(6000)).parameters["k"] == 2 * compute_default_k(6000)


def table_of(name: str, hubness: Hubness, questions: HeldOutQueries) -> np.ndarray:
    """Return images x texts as the verbs would score them."""
    fitted = make_aligner(name).fit(questions.anchors)
    rows = fitted.represent("text", questions.texts)
    biases = None
    if hubness.method != "none":
        biases = hubness.compute_biases(rows, build_query_bank(fitted, questions.anchors, "image"))
    return score_candidates(fitted.represent("image", questions.images), Candidates(rows, biases=biases))


class TestSearch:
    @pytest.mark.parametrize("hubness", [Hubness("none"), Hubness("nnn", 8, 0.5)], ids=["", "nnn"])
    def test_fusions_are_judged_as_the_fused_aligner_scores(self, hubness: Hubness) -> None:
        pairs = related(80)
        questions = next(split_folds(pairs, seed=0))
        one, two = (fit_and_score(name, questions, "classify", True) for name in ("cca(lambda=3)", "asif(k=9)"))
        worth = compute_query_scores(
            HubnessCorrector(one.add_weighted(two, 0.6)), hubness, questions.matches, "classify"
        )
        table = table_of("cca(lambda=3)+0.6*asif(k=9)", hubness, questions)
        wrong = (~questions.matches).sum(axis=1)
        np.testing.assert_allclose(
            worth, compute_chance_of_first(count_candidates_ahead(table, questions.matches), wrong), atol=1e-6
        )

    def test_search_is_judged_both_ways(self) -> None:
        questions = next(split_folds(related(80), seed=0))
        found = fit_and_score("procrustes", questions, "search", True)
        worth = compute_query_scores(HubnessCorrector(found), Hubness("none"), questions.matches, "search")
        table = table_of("procrustes", Hubness("none"), questions)
        ranks = [count_candidates_ahead(table, questions.matches), count_candidates_ahead(table.T, questions.matches.T)]
        np.testing.assert_allclose(worth, 1 / (1 + np.concatenate(ranks)), atol=1e-6)

    @pytest.mark.parametrize("task", ["classify", "search"])
    def test_the_best_of_all_trials_is_chosen_and_is_reproducible(self, task: searching.Task) -> None:
        seen: list[tuple[int, int]] = []
        tuned = tune(related(120, noise=1.0), task, progress=lambda done, every: seen.append((done, every)))
        assert tuned.complete and seen[-1][0] == seen[-1][1] == len(build_grid(9))
        assert tuned.best in tuned.trials
        assert tuned.best.score >= tuned.trials[0].score - 3 * tuned.trials[0].error
        assert [trial.score for trial in tuned.trials] == sorted((t.score for t in tuned.trials), reverse=True)
        assert tuned.questions == (120 if task == "classify" else 240)
        assert make_aligner(tuned.best.aligner).fit(related(120)).parameters
        again = tune(related(120, noise=1.0), task)
        assert [t.as_json() for t in again.trials] == [t.as_json() for t in tuned.trials]

    def test_a_map_beats_neighbours_where_the_relation_is_linear(self) -> None:
        tuned = tune(related(300, noise=1.2), "search")
        alone = {trial.aligner: trial.score for trial in tuned.trials if trial.hubness.method == "none"}
        best = {family: max(s for name, s in alone.items() if name.startswith(family)) for family in ("asif", "cca")}
        assert best["cca"] > best["asif"] + 0.05
        assert tuned.best.aligner.startswith(("cca", "ridge", "procrustes"))

    def test_neighbours_beat_a_map_where_the_relation_is_not_linear(self) -> None:
        rng = np.random.default_rng(0)
        angle = np.sort(rng.uniform(0, 2 * np.pi, 400))
        image = np.stack([np.cos(angle), np.sin(angle)], 1)
        text = np.stack([np.cos(3 * angle), np.sin(3 * angle), np.cos(5 * angle), np.sin(5 * angle)], 1)
        tuned = tune(Pairs(unit(image), unit(text)), "search")
        assert tuned.best.aligner.startswith("asif")

    @pytest.mark.parametrize("task", ["classify", "search"])
    def test_what_is_not_proven_to_be_better_is_not_chosen(self, task: searching.Task) -> None:
        rng = np.random.default_rng(0)
        nothing = Pairs(unit(rng.standard_normal((40, 12))), unit(rng.standard_normal((40, 9))))
        tuned = tune(nothing, task)
        setting, hubness = default_setting(task, texts_repeat=False)
        assert (tuned.best.aligner, tuned.best.hubness) == (setting.name(40), hubness)
        assert tuned.trials[0].score > tuned.best.score  # luck

    @pytest.mark.parametrize(("task", "safe"), [("classify", "cca(lambda=1)"), ("search", "procrustes")])
    def test_where_texts_repeat_a_map_is_the_usual_choice_for_labels(self, task: searching.Task, safe: str) -> None:
        rng = np.random.default_rng(1)
        words = unit(rng.standard_normal((10, 9)))  # of which ten held-out pairs have more than five
        nothing = Pairs(unit(rng.standard_normal((50, 12))), words[np.arange(50) % 10])
        assert tune(nothing, task).best.aligner == safe

    def test_time_that_runs_out_leaves_a_choice(self) -> None:
        tuned = tune(related(60), "classify", seconds=1e-9)
        assert not tuned.complete and tuned.profile()["complete"] is False
        assert {make_aligner(t.aligner).name for t in tuned.trials} >= {"asif", "procrustes", "ridge", "cca"}

    def test_labels_of_few_classes_are_learnt(self) -> None:
        tuned = tune(labelled(200, classes=5), "classify")
        assert tuned.best.score > 0.35  # a guess is right once in five, and the images have noise
        assert isinstance(tuned, TuningResult)

    def test_an_unknown_task_is_refused(self) -> None:
        with pytest.raises(UsageError, match="the task is 'guess'"):
            tune(related(60), "guess")  # type: ignore[arg-type]

    def test_sums_of_scores_keep_their_parts(self) -> None:
        one = HeldOutScores(np.ones((2, 2), np.float32), (np.zeros((3, 2), np.float32),))
        both = one.add_weighted(HeldOutScores(np.full((2, 2), 2, np.float32), (np.ones((3, 2), np.float32),)), 0.5)
        assert both.table.tolist() == [[2, 2], [2, 2]] and both.banks[0].tolist() == [[0.5, 0.5]] * 3
