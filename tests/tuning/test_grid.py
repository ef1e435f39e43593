"""The settings that tuning tries."""

from __future__ import annotations

from asif.aligners import make_aligner
from asif.aligners.relative import compute_default_k
from asif.tuning.grid import AlignerSetting, build_grid


def test_all_are_aligners_and_take_turns() -> None:
    every = build_grid(100)
    assert len(set(every)) == len(every)
    assert {setting.family for setting in every[:4]} == {"asif", "procrustes", "ridge", "cca"}
    for setting in every:
        assert make_aligner(setting.name(1000)).name == setting.family
    assert not any("size=128" in setting.parameters for setting in every)


def test_k_follows_the_number_of_anchors() -> None:
    setting = AlignerSetting("asif", (), 2.0)
    assert make_aligner(setting.name(6000)).parameters["k"] == 2 * compute_default_k(6000)
