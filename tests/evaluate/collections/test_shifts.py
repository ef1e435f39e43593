"""Drops and effective robustness, against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from asif.evaluate.collections.definition import CollectionEntry, ReferenceModel
from asif.evaluate.collections.shifts import measure_shifts, predict_shifted

ENTRIES = [
    CollectionEntry("whole", "w", "zeroshot_classification"),
    CollectionEntry("drawn", "d", "zeroshot_classification", shift_of="whole"),
    CollectionEntry("away", "a", "zeroshot_classification", shift_of="whole"),
]


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def test_models_on_a_line_of_logits_have_no_effective_robustness() -> None:
    originals = [0.6, 0.7, 0.8]
    known = [(each, 1 / (1 + np.exp(-(1.5 * logit(each) - 1)))) for each in originals]
    for original in (0.5, 0.65, 0.9):
        assert predict_shifted(known, original) == pytest.approx(1 / (1 + np.exp(-(1.5 * logit(original) - 1))))
    assert predict_shifted(known[:1], 0.6) is None and predict_shifted([known[0]] * 3, 0.6) is None
    assert 0 < predict_shifted([(0.0, 0.0), (1.0, 1.0)], 1.0) <= 1  # type: ignore[operator]


def test_a_shift_has_its_drop_and_what_is_above_the_line() -> None:
    references = [
        ReferenceModel("small", {"whole": 0.6, "drawn": 0.3}),
        ReferenceModel("large", {"whole": 0.8, "drawn": 0.4}),
        ReferenceModel("other", {"whole": 0.7}),
    ]
    (found,) = measure_shifts(ENTRIES, {"whole": 0.7, "drawn": 0.5}, references)
    slope = (logit(0.4) - logit(0.3)) / (logit(0.8) - logit(0.6))
    expected = 1 / (1 + np.exp(-(logit(0.3) + slope * (logit(0.7) - logit(0.6)))))
    assert (found.dataset, found.shift_of, found.references) == ("drawn", "whole", 2)
    assert found.drop == pytest.approx(0.2)
    assert found.effective_robustness == pytest.approx(0.5 - expected)
    (alone,) = measure_shifts(ENTRIES, {"whole": 0.7, "away": 0.5}, references)
    assert (alone.references, alone.expected, alone.effective_robustness) == (0, None, None)
    assert alone.to_json()["drop"] == pytest.approx(0.2)
    assert measure_shifts(ENTRIES, {"drawn": 0.5, "away": 0.5}, references) == ()
