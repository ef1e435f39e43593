"""Methods of a comparison: settings, the choice among them, the cost of a deletion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asif.aligners import RIVALS, make_aligner
from asif.engine import Engine
from asif.evaluate.comparison.methods import COMPARED_METHODS, OPTIONAL_METHODS, TRAINED_SETTINGS, Sample, fit_contender
from asif.tuning import AnchorSubset, Task, tune
from asif.tuning.grid import build_grid
from asif.vectors import SIDES


@pytest.mark.parametrize("method", list(COMPARED_METHODS))
def test_leaving_one_pair_out_costs_what_it_says(toys: Path, method: str) -> None:
    anchors = Engine("toy").anchors
    sample = Sample.of(AnchorSubset.of(anchors, np.arange(60)), None, 0)
    found = fit_contender(method, sample, "search", 0, 1.0)
    how = {"trained": "trained again"}.get(COMPARED_METHODS[method].kind)
    assert how is None or found.deletion.how == how
    assert found.deletion.seconds >= 0
    if method == "procrustes":
        assert found.deletion.how == "sums less one pair, solved again"


def test_every_setting_that_is_tried_is_an_aligner() -> None:
    assert set(TRAINED_SETTINGS) == {*RIVALS, *OPTIONAL_METHODS}
    for name, settings in TRAINED_SETTINGS.items():
        assert all(make_aligner(setting).name == name for setting in settings)
        assert len(settings) == 4


def test_a_recipe_fixes_the_setting_of_a_trained_method(toys: Path) -> None:
    sample = Sample.of(AnchorSubset.of(Engine("toy").anchors, np.arange(60)), None, 0)
    fixed = fit_contender("ape", sample, "search", 0, 1000.0, fixed="ape(steps=2,hidden=9)")
    assert (fixed.setting, fixed.fitted.parameters["hidden"]) == ("ape(steps=2,hidden=9)", 9)
    assert fixed.tuning is not None and fixed.tuning.trials == 1


@pytest.mark.parametrize("task", ["search", "classify"])
def test_as_many_held_out_queries_choose_among_trained_settings_as_among_others(toys: Path, task: Task) -> None:
    sample = Sample.of(AnchorSubset.of(Engine("toy").anchors, np.arange(60)), None, 0)
    efforts = {method: fit_contender(method, sample, task, 0, 1000.0).tuning for method in ("cca", "ape", "fusemix")}
    assert {method: effort and effort.questions for method, effort in efforts.items()} == dict.fromkeys(
        efforts, 120 if task == "search" else 60
    )
    assert all(effort is not None and effort.complete and effort.over_seconds == 0 for effort in efforts.values())
    settings = {method: effort and effort.trials for method, effort in efforts.items()}
    grid = build_grid(min(sample.anchors.sides[side].shape[1] for side in SIDES), words=False)
    assert settings == {
        "cca": sum(each.family == "cca" and not each.is_lexical for each in grid),
        "ape": 2,
        "fusemix": 1,
    }


def test_a_single_aligner_keeps_its_usual_setting_unless_another_is_proven_better(
    toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors = Engine("toy").anchors  # encoders that hash: no setting is better than another
    usual = next(each for each in build_grid(5) if each.family == "cca" and not each.is_lexical)
    assert tune(anchors, "search", family="cca").best.aligner == usual.name(60)
    monkeypatch.setattr("asif.tuning.search.is_proven", lambda gains: True)
    found = tune(anchors, "search", family="cca")
    assert found.best == found.trials[0]
