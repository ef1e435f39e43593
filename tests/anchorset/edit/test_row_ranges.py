"""Row ranges in manifests: the feature they need, and lists that are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.anchorset_files import reseal
from support.anchorset_sets import build, pairs, short_blocks
from support.edited_sets import EVERY, IDS, publish

from asif.anchorset import AnchorSet, Store
from asif.anchorset.format.manifest import Manifest
from asif.errors import IntegrityError, NotFound, UnknownFormat
from asif.pairs.pair import PairRecord


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short, and row ranges many."""
    short_blocks(monkeypatch, 16)
    monkeypatch.setattr("asif.anchorset.edit.insert.PAIRS_PER_RANGE", 2)


def put(root: Path, records: list[PairRecord], kind: Any = "add") -> AnchorSet:
    return Store(root).put("toy", build(root / "fresh", records, segment=9), kind)


def interleaved(home: Path) -> Path:
    publish(home, EVERY[:40:2])
    put(home, EVERY[5:30:8])
    return home / "anchors/toy"


def test_pieces_are_a_feature_that_must_be_understood(home: Path) -> None:
    folder = interleaved(home)
    newest = Store(home).open("toy")
    data = (folder / "versions" / f"{newest.version}.json").read_bytes()
    assert b'"features":["deletions","pieces"]' in data
    assert data.count(b'"of":') == 7
    assert Manifest.from_bytes(data, "x").blocks == newest.manifest.blocks
    reseal(folder, lambda m: m.update(features=["deletions"]))
    with pytest.raises(IntegrityError, match="features"):
        Store(home).open("toy")
    reseal(folder, lambda m: m.update(features=["deletions", "shards"]))
    with pytest.raises(UnknownFormat):
        Store(home).open("toy")


@pytest.mark.parametrize(
    "change",
    [
        lambda blocks: blocks[2].update(deleted=blocks[0]["deleted"]),  # the same rows twice
        lambda blocks: blocks.__setitem__(slice(0, 3, 2), blocks[2::-2]),  # in another order
        lambda blocks: blocks[2].update(of=2),
        lambda blocks: blocks[2].update(of=-1),
        lambda blocks: blocks[2].update(of="0"),
        lambda blocks: blocks[2].pop("deleted"),
        lambda blocks: blocks[2].update(deleted=[]),
        lambda blocks: blocks.pop(2),
    ],
)
def test_pieces_that_do_not_fit_together_are_refused(home: Path, change: Callable[[list[Any]], object]) -> None:
    folder = interleaved(home)
    reseal(folder, lambda m: change(m["blocks"]))
    with pytest.raises(IntegrityError):
        Store(home).open("toy")


def test_pieces_in_another_order_are_found_by_verify(home: Path) -> None:
    folder = interleaved(home)

    def swap(manifest: dict[str, Any]) -> None:
        blocks = manifest["blocks"]
        blocks[8], blocks[9] = blocks[9], blocks[8]

    reseal(folder, swap)
    problems = [problem.what for problem in Store(home).verify("toy").problems]
    assert any("ids are not in order" in what for what in problems)
    with pytest.raises(NotFound):
        Store(home).remove("toy", [pairs(1, start=500)[0].id])


def test_what_leaves_the_store_has_no_pieces_and_keeps_whole_blocks(home: Path) -> None:
    publish(home, EVERY[:50:1])
    Store(home).remove("toy", [IDS[20]])
    first = Store(home).open("toy@1").manifest.blocks
    found = put(home, [replace(EVERY[20], captions=("new",))])
    assert len(found.manifest.blocks) == 6  # 16, 4 + 1 + 11, 16, 2
    with Store(home).pack("toy") as bundle:
        leaving = bundle.manifest.blocks
        assert [(entry.rows, entry.deleted) for entry in leaving] == [(16, ()), (4, ()), (12, ()), (16, ()), (2, ())]
        assert [entry in first for entry in leaving] == [True, False, False, True, True]
        assert bundle.manifest.digest == found.digest
