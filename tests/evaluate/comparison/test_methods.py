"""Methods of a comparison: settings, the choice among them, the cost of a deletion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.comparison_sets import QUICK

from asif.aligners import RIVALS, make_aligner
from asif.engine import Engine
from asif.evaluate.comparison.methods import COMPARED_METHODS, TRAINED_SETTINGS, Sample, fit_contender
from asif.tuning import AnchorSubset


@pytest.mark.parametrize("method", list(COMPARED_METHODS))
def test_leaving_one_pair_out_costs_what_it_says(toys: Path, method: str) -> None:
    anchors = Engine("toy").anchors
    sample = Sample.of(AnchorSubset.of(anchors, np.arange(60)), None, 0)
    found = fit_contender(method, sample, "search", 0, 1.0)
    how = {"trained": "trained again"}.get(COMPARED_METHODS[method].kind)
    assert how is None or found.deletion.how == how
    assert found.deletion.seconds >= 0
    if method == "cca":
        assert found.deletion.how == "sums less one pair, solved again"


def test_every_setting_that_is_tried_is_an_aligner() -> None:
    assert set(TRAINED_SETTINGS) == set(RIVALS)
    for name, settings in TRAINED_SETTINGS.items():
        assert all(make_aligner(setting).name == name for setting in settings)
        assert len(settings) == 4


def test_a_trained_method_takes_the_setting_that_held_out_pairs_like_best(toys: Path) -> None:
    anchors = Engine("toy").anchors
    sample = Sample.of(AnchorSubset.of(anchors, np.arange(60)), None, 0)
    ranks = {}
    for setting in QUICK["ape"]:
        projector: Any = make_aligner(setting)
        ranks[setting] = projector.train(sample.pairs)[1].best.rank
    found = fit_contender("ape", sample, "search", 0, 1000.0)
    assert ranks[found.setting] == max(ranks.values())
    assert found.tuning is not None
    assert (found.tuning.trials, found.tuning.complete) == (2, True)
    fixed = fit_contender("ape", sample, "search", 0, 1000.0, fixed="ape(steps=2,hidden=9)")
    assert (fixed.setting, fixed.fitted.parameters["hidden"]) == ("ape(steps=2,hidden=9)", 9)
