"""Deleting versions, and the files that only they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import files, short_blocks
from support.edited_sets import EVERY, publish

from asif.aligners import make_aligner
from asif.anchorset import Store
from asif.engine import cached_fit
from asif.errors import IntegrityError, UsageError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


def test_versions_that_nobody_needs_are_deleted(home: Path) -> None:
    versions = [publish(home, EVERY[:count]).version for count in (10, 30, 20, 40, 60)]
    store = Store(home)
    store.alias("toy", "best", "2")
    cached_fit.fit_aligner(make_aligner("ridge"), store.open("toy@1"))
    cached_fit.fit_aligner(make_aligner("ridge"), store.open("toy@2"))
    store.alias("toy", "current", "4")
    before = {path: path.stat().st_size for path in files(home)}
    swept = store.gc("toy", 1)
    assert swept.versions == (versions[0], versions[2])
    assert [entry.version for entry in store.log("toy")] == [versions[4], versions[3], versions[1]]
    after = set(files(home))
    assert (swept.files, swept.bytes) == (len(before) - len(after), sum(before[p] for p in before.keys() - after))
    assert len(list((home / "anchors/toy/fits").iterdir())) == 1
    for at, count in ((1, 30), (3, 40), (4, 60)):
        assert store.open(f"toy@{versions[at]}").records(range(count)) == EVERY[:count]
    store.verify("toy").raise_if_bad()
    assert store.gc("toy", 1) == replace(swept, versions=(), files=0, bytes=0)


def test_strays_are_deleted_and_an_open_set_stays_mapped(home: Path) -> None:
    opened = publish(home, EVERY[:20])
    stored = np.concatenate(opened.blocks("image")).copy()
    publish(home, EVERY[30:])
    (home / "anchors/toy/blocks" / f"{'0' * 64}.safetensors").write_bytes(b"stray")
    assert Store(home).gc("toy", 1).versions == (opened.version,)
    np.testing.assert_array_equal(np.concatenate(opened.blocks("image")), stored)
    Store(home).verify("toy").raise_if_bad()


def test_nothing_is_deleted_where_a_version_cannot_be_read(home: Path) -> None:
    for count in (10, 20, 30):
        publish(home, EVERY[:count])
    files(home / "anchors/toy/versions")[2].write_bytes(b"{}")
    before = files(home)
    with pytest.raises(IntegrityError):
        Store(home).gc("toy", 2)
    with pytest.raises(UsageError):
        Store(home).gc("toy", 0)
    assert files(home) == before
