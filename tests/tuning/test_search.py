"""The search for a profile: the best of all trials unless luck, on blurred images, in the time that there is."""

from __future__ import annotations

import numpy as np
import pytest
from support.anchor_pairs import Pairs, labelled, related, unit

from asif.aligners import make_aligner
from asif.errors import UsageError
from asif.tuning import TuningResult, tune
from asif.tuning import search as searching
from asif.tuning.grid import build_grid, default_setting
from asif.tuning.splits import has_repeated_texts, split_folds


def test_images_are_blurred_unless_texts_repeat() -> None:
    for pairs, blurred in (
        (labelled(100, classes=4), False),
        (labelled(50, classes=10), False),
        (related(100), True),
    ):
        plain = next(split_folds(pairs, seed=0))
        assert has_repeated_texts(pairs) is not blurred
        asked = searching.ProfileSearch(pairs, "classify", 0, None, None, True, 0.0, 1.0, lambda *_: None).folds[0]
        assert np.array_equal(asked.images.values, plain.images.values) is not blurred


@pytest.mark.parametrize("task", ["classify", "search"])
def test_the_best_of_all_trials_is_chosen_and_is_reproducible(task: searching.Task) -> None:
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


def test_a_map_beats_neighbours_where_the_relation_is_linear() -> None:
    tuned = tune(related(300, noise=1.2), "search")
    alone = {trial.aligner: trial.score for trial in tuned.trials if trial.hubness.method == "none"}
    best = {family: max(s for name, s in alone.items() if name.startswith(family)) for family in ("asif", "cca")}
    assert best["cca"] > best["asif"] + 0.05
    assert tuned.best.aligner.startswith(("cca", "ridge", "procrustes"))


def test_neighbours_beat_a_map_where_the_relation_is_not_linear() -> None:
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 400))
    image = np.stack([np.cos(angle), np.sin(angle)], 1)
    text = np.stack([np.cos(3 * angle), np.sin(3 * angle), np.cos(5 * angle), np.sin(5 * angle)], 1)
    tuned = tune(Pairs(unit(image), unit(text)), "search")
    assert tuned.best.aligner.startswith("asif")


@pytest.mark.parametrize("task", ["classify", "search"])
def test_what_is_not_proven_to_be_better_is_not_chosen(task: searching.Task) -> None:
    rng = np.random.default_rng(0)
    nothing = Pairs(unit(rng.standard_normal((40, 12))), unit(rng.standard_normal((40, 9))))
    tuned = tune(nothing, task)
    setting, hubness = default_setting(task, 40, texts_repeat=False)
    assert (tuned.best.aligner, tuned.best.hubness) == (setting.name(40), hubness)
    assert tuned.trials[0].score > tuned.best.score  # luck


@pytest.mark.parametrize(("task", "safe"), [("classify", "cca(words)"), ("search", "cca(words)")])
def test_where_texts_repeat_a_map_is_the_usual_choice_for_labels(task: searching.Task, safe: str) -> None:
    rng = np.random.default_rng(1)
    words = unit(rng.standard_normal((10, 9)))  # of which ten held-out pairs have more than five
    nothing = Pairs(unit(rng.standard_normal((50, 12))), words[np.arange(50) % 10])
    assert tune(nothing, task).best.aligner == safe


def test_time_that_runs_out_leaves_a_choice() -> None:
    tuned = tune(related(60), "classify", seconds=1e-9)
    assert not tuned.complete and tuned.profile()["complete"] is False
    assert {make_aligner(t.aligner).name for t in tuned.trials} >= {"asif", "procrustes", "ridge", "cca(words)"}


def test_labels_of_few_classes_are_learnt() -> None:
    tuned = tune(labelled(200, classes=5), "classify")
    assert tuned.best.score > 0.35  # a guess is right once in five, and the images have noise
    assert isinstance(tuned, TuningResult)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="the task is 'guess'"):
        tune(related(60), "guess")  # type: ignore[arg-type]
