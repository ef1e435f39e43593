"""The examples run as they are, and show what the README says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from support.paths import ROOT

EXAMPLES = ROOT / "examples"


def test_photographs_get_their_labels(head_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = runpy.run_path(str(EXAMPLES / "photos.py"))
    assert photos["main"](head_home) == {
        "chelsea.png": "a cat",
        "rocket.jpg": "a space launch",
        "coffee.png": "a hot drink",
    }
    out = capsys.readouterr().out
    assert "'a cat' because of" in out
    assert "tabby" in out


def test_a_new_domain_is_learnt_from_pairs(head_home: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "new_domain.py"))
    general, learnt, _ = example["main"](head_home, pairs=300, others=150)
    assert general < 0.25  # chance is 0.1
    assert learnt > 0.6


def test_pairs_are_taken_away_and_given_back(head_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before, without, again = runpy.run_path(str(EXAMPLES / "living_set.py"))["main"](head_home, pairs=300)
    assert before > 0.6
    assert without < 0.15
    assert again == before
