"""Training of a compared method: its deadline, the criterion of each task, one network for both, all pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asif.aligners import make_aligner
from asif.engine import Engine
from asif.evaluate.comparison.methods import Sample, fit_contender
from asif.evaluate.comparison.training import MethodTraining, _Watcher
from asif.rivals import Projector
from asif.rivals.trainer import TrainingView
from asif.tuning import AnchorSubset, HeldOutQueries, split_folds
from asif.vectors import Embeddings, Float32, Side

TWO = ("ape(steps=3,hidden=16)", "ape(steps=4,hidden=8)")


@pytest.fixture
def sample(toys: Path) -> Sample:
    return Sample.of(AnchorSubset.of(Engine("toy").anchors, np.arange(60)), None, 0)


def test_a_training_ends_at_its_deadline_and_says_so(sample: Sample) -> None:
    started = time.perf_counter()
    found = fit_contender("ape", sample, "search", 0, 0.5, fixed="ape(steps=10000000,hidden=8)")
    assert time.perf_counter() - started < 30  # ten million steps take hours
    assert found.tuning is not None and found.training is not None
    assert not found.tuning.complete
    assert found.tuning.trials == 1 and found.tuning.questions in range(24, 121, 24)  # of each fold
    assert found.tuning.over_seconds == pytest.approx(max(0.0, found.tuning.seconds - 0.5), abs=0.02)
    assert found.training.whole_schedule == 10_000_000
    assert 1 <= found.training.taken <= found.training.schedule < 1_000_000


def test_what_is_short_of_time_is_not_begun(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    training = MethodTraining(("ape(steps=500,hidden=8)", *TWO), sample, ("search",), 0, 0.01, begun.append)
    assert begun == ["ape(steps=500,hidden=8)"]
    assert training.choose("search").setting == "ape(steps=500,hidden=8)"
    assert training.choose("search").tuning.over_seconds > 0


def test_one_training_serves_both_tasks(sample: Sample) -> None:
    begun: list[str] = []
    found = [
        fit_contender("ape", sample, task, 0, 1000.0, fixed=TWO[0], on_setting=begun.append)
        for task in ("search", "classify")
    ]
    assert begun == [TWO[0]] * 5  # once on each fold
    assert found[0].tuning is not None and found[1].tuning is not None
    assert found[0].tuning.seconds == found[1].tuning.seconds
    training = sample.trainings[(TWO[0],)]
    choices = [training.choose(task) for task in ("search", "classify")]
    assert (found[0].fitted is found[1].fitted) == (choices[0].share == choices[1].share)
    assert training.fit(choices[0]) is training.fit(choices[0])


def test_the_final_network_has_seen_all_pairs(sample: Sample) -> None:
    training = MethodTraining(TWO[:1], sample, ("search",), 3, 1000.0)
    choice = training.choose("search")
    found = training.fit(choice)
    projector = make_aligner(TWO[0])
    assert isinstance(projector, Projector)
    projector = replace(projector, seed=3)
    schedule = projector.resolve(60).build_schedule(60)
    whole = projector.train_steps(sample.prepare_pairs()[0], schedule, round(choice.share * 3))
    few = projector.train_steps(sample.prepare_pairs(np.arange(54))[0], schedule, round(choice.share * 3))
    assert found.steps.taken == round(choice.share * 3)
    for name, value in found.fitted.arrays().items():
        assert np.array_equal(value, whole.weights[name])
    assert any(not np.array_equal(value, few.weights[name]) for name, value in found.fitted.arrays().items())


def test_the_usual_setting_stays_unless_another_is_proven_better(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = MethodTraining(TWO, sample, ("search",), 0, 1000.0)
    gains: list[np.ndarray] = []
    monkeypatch.setattr(
        "asif.evaluate.comparison.training.is_proven", lambda each: bool(gains.append(each)) or len(gains) > 1
    )
    usual, best = training.choose("search"), training.choose("search")
    assert (usual.setting, str(usual.hubness)) == (TWO[0], "nnn k=32 alpha=0.5")
    assert len(gains[0]) == 120
    means = {
        (setting, hubness): np.mean([found[setting].scores["search", hubness].mean() for found in training.rounds])
        for setting in TWO
        for task, hubness in training.rounds[0][setting].scores
    }
    assert means[best.setting, best.hubness] == max(means.values())


def test_each_task_keeps_the_weights_that_its_own_criterion_prefers() -> None:
    """Search counts captions that find their images too; labels count images only."""
    axes = np.eye(3, dtype=np.float32)
    queries = HeldOutQueries(AnchorSubset({}), Embeddings(axes), Embeddings(axes), np.eye(3, dtype=bool))
    tables = {  # [images, texts]
        1: [[1, 0, 0], [0, 1, 0], [0.9, 0, 0.5]],  # two images are right, and all texts: mean reciprocal rank 0.917
        2: [[10, 9, 9], [1, 2, 1], [1, 1, 2]],  # three images are right, and one text: 0.833
    }
    watcher = _Watcher({"search": queries, "classify": queries})
    for step, table in tables.items():
        watcher(TrainingView(step, 2, project(table), lambda step=step: {"w": np.array(step)}))  # type: ignore[misc]
    assert watcher.best["search"] == (pytest.approx(5.5 / 6), 1, 1)
    assert watcher.best["classify"] == (pytest.approx(1.0), 2, 2)
    assert {task: int(weights["w"]) for task, weights in watcher.weights.items()} == {"search": 1, "classify": 2}


def project(table: list[list[float]]) -> Callable[[Side, Float32], Float32]:
    """Return representations whose products are this table."""
    return lambda side, rows: np.array(table, np.float32) if side == "image" else np.eye(3, dtype=np.float32)


def test_pairs_of_a_fold_are_those_that_aligners_are_fitted_to(sample: Sample) -> None:
    for queries in split_folds(sample.anchors, 0):
        assert queries.anchors.rows is not None
        pairs, _ = sample.prepare_pairs(queries.anchors.rows)
        assert np.array_equal(pairs.images, queries.anchors.sides["image"].astype(np.float32))
        assert np.array_equal(pairs.texts, queries.anchors.sides["text"].astype(np.float32))
