"""Compacting changes bytes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.anchorset_sets import short_blocks
from support.edited_sets import EVERY, IDS, assert_same_set, publish

from asif.aligners import make_aligner
from asif.anchorset import Store
from asif.engine import cached_fit


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


def test_compacting_changes_bytes_alone(home: Path) -> None:
    publish(home)
    gone = [*IDS[3:5], *IDS[16:30], IDS[50]]
    Store(home).remove("toy", gone)
    described = {"name": "ridge", "parameters": make_aligner("ridge").parameters}
    cached_fit.fit_aligner(make_aligner("ridge"), Store(home).open("toy"))
    found = Store(home).compact("toy")
    assert_same_set(found, publish(home / "other", [pair for pair in EVERY if pair.id not in gone]))
    assert [entry.deleted for entry in found.manifest.blocks] == [()] * 3  # 14 + 2, 16, 11
    assert [entry.rows for entry in found.manifest.blocks] == [16, 16, 11]
    assert found.manifest.blocks[1] in Store(home).open("toy@1").manifest.blocks
    assert found.cached_fit(described) is not None  # the same rows: nothing is fitted again
    assert Store(home).compact("toy").version == found.version
    Store(home).verify("toy").raise_if_bad()
