"""Permissions of the caches of texts and of trainings: as those of the store."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from support.engine_sets import make_set

from asif.engine import Engine
from asif.errors import Interrupted
from asif.rivals import Ape
from asif.rivals.train import train_projector

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="permissions as Unix has them"),
    pytest.mark.usefixtures("hashing"),
]


def fill_caches(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache a text, and interrupt a training after its state was saved."""
    monkeypatch.setattr("asif.rivals.train.SECONDS_BETWEEN_SAVES", 0.0)
    make_set(home, count=60).close()
    Engine("toy", home=home).encode_texts(["a dog"])

    def interrupt(evaluation: object) -> None:
        if list((home / "cache" / "training").glob("*")):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train_projector("toy", Ape(layers=2, hidden=8, steps=50, batch=8), home=home, progress=interrupt)


def read_modes(home: Path) -> set[tuple[bool, str]]:
    paths = [home / "cache", *(home / "cache").rglob("*")]
    assert {"cache", "texts.sqlite", "training"} < {path.name for path in paths} and len(paths) == 4
    return {(path.is_dir(), oct(stat.S_IMODE(path.stat().st_mode))) for path in paths}


def test_caches_of_the_own_store_are_closed_to_others(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_caches(own, monkeypatch)
    assert read_modes(own) == {(True, "0o700"), (False, "0o600")}


def test_caches_of_other_stores_keep_the_umask(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASIF_HOME", str(own))
    fill_caches(own, monkeypatch)
    assert read_modes(own) == {(True, "0o755"), (False, "0o644")}
