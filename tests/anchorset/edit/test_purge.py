"""Purging pairs, after which no file of the set has them (P16)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.anchorset_sets import build, files, short_blocks
from support.edited_sets import EVERY, IDS, assert_same_set, files_with_pair, publish

from asif.anchorset import Store, find_rows
from asif.errors import Conflict, NotFound, UsageError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


@pytest.mark.parametrize("how", ["current", "hidden", "older", "updated"])
def test_what_is_purged_is_nowhere_on_disk(home: Path, how: str) -> None:
    publish(home, EVERY[:50])
    publish(home)
    gone, store = [EVERY[7], EVERY[33]], Store(home)
    if how == "hidden":
        store.remove("toy", [pair.id for pair in gone])
    if how == "older":
        publish(home, [pair for pair in EVERY if pair not in gone])
    if how == "updated":
        store.put("toy", build(home / "new", [replace(pair, captions=("x",)) for pair in gone]), "update")
    publish(home / "untouched", EVERY[:3])
    assert all(files_with_pair(home / "anchors", pair) for pair in gone)
    said: list[str] = []
    found, swept = store.purge("toy", [pair.id for pair in gone], saying=lambda erased: said.extend(erased.versions))
    assert not any(files_with_pair(home / "anchors", pair) for pair in gone)
    assert list(swept.versions) == said and len(said) == 2 + (how in ("hidden", "updated"))
    assert_same_set(found, publish(home / "other", [pair for pair in EVERY if pair not in gone]))
    assert store.open("toy").version == found.version
    store.verify("toy").raise_if_bad()
    with pytest.raises(NotFound, match="in all of its versions"):
        store.purge("toy", [gone[0].id])
    assert store.purge("toy", [gone[0].id], missing_ok=True)[1].versions == ()


def test_versions_without_the_pairs_stay(home: Path) -> None:
    first = publish(home, EVERY[:10]).version
    publish(home)
    found, swept = Store(home).purge("toy", where=f"id = '{IDS[20]}'")
    assert [entry.version for entry in Store(home).log("toy")] == [found.version, first] and len(swept.versions) == 1
    assert find_rows(found, where=f"id = '{IDS[20]}'").tolist() == []
    assert found.manifest.operation == {"kind": "purge", "pairs": 1}


def test_what_may_not_be_purged(home: Path) -> None:
    publish(home)
    Store(home).alias("toy", "best", "1")
    Store(home).remove("toy", [IDS[0]])
    before = files(home)
    with pytest.raises(UsageError, match="the alias 'best' points at 000001"):
        Store(home).purge("toy", [IDS[0]])
    with pytest.raises(UsageError, match="all 59 pairs"):
        Store(home).purge("toy", where="id != ''")
    with pytest.raises(Conflict):
        Store(home).purge("toy@1", [IDS[0]])
    assert files(home) == before
    Store(home).alias("toy", "best", "current")
    Store(home).alias("toy", "best", "2")
    with pytest.raises(UsageError, match="'best'") as caught:
        Store(home).purge("toy", [IDS[0]])  # version 2 hides it, but has it
    assert "compact the set, move the alias" in caught.value.fix
    Store(home).compact("toy")
    Store(home).alias("toy", "best", "current")
    Store(home).purge("toy", [IDS[0]])
    assert not files_with_pair(home / "anchors", EVERY[0])
