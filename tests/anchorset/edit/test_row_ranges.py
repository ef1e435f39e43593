"""Pieces: rows put between those of a block are written alone, and what comes is what a build has."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anchorset.edit.test_purge import left_on_disk
from anchorset.edit.test_transaction import EVERY, IDS, publish, same
from anchorset.format.test_verify import reseal
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, files, pairs, short_blocks, vectors

from asif.anchorset import AnchorSet, Store
from asif.anchorset.format.deletion_list import live_range, runs_of
from asif.anchorset.format.manifest import Manifest
from asif.errors import IntegrityError, NotFound, UnknownFormat
from asif.pairs.pair import PairRecord


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short, and pieces many."""
    short_blocks(monkeypatch, 16)
    monkeypatch.setattr("asif.anchorset.edit.insert.ROWS_PER_PIECE", 2)


def put(root: Path, records: list[PairRecord], kind: Any = "add") -> AnchorSet:
    return Store(root).put("toy", build(root / "fresh", records, segment=9), kind)


def written(home: Path, action: Callable[[], AnchorSet]) -> tuple[AnchorSet, int]:
    """Return what an edit came to, and how many rows it wrote."""
    before = {path.name for path in files(home / "anchors/toy/blocks")}
    found = action()
    fresh = [entry for entry in found.manifest.files if f"{entry.sha256}.safetensors" not in before]
    return found, sum(entry.rows for entry in fresh)


@given(st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_a_live_range_goes_from_the_first_row_to_the_last(live: list[bool]) -> None:
    rows = np.flatnonzero(live)
    assert live_range(runs_of(np.array(live)), len(live)) == (rows[0], rows[-1] + 1)


# ---- any edits, in any order, are a build

SOME = st.sets(st.sampled_from(range(60)), min_size=1, max_size=9)
STEP = st.tuples(st.sampled_from(["add", "update", "remove", "purge", "compact"]), SOME)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(range(60)), min_size=3), st.lists(STEP, min_size=1, max_size=6))
def test_edits_in_any_order_come_to_a_build(first: set[int], steps: list[tuple[str, set[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = {IDS[at]: EVERY[at] for at in first}
        found = publish(root, list(model.values()))
        for number, (kind, some) in enumerate(steps):
            names = {IDS[at] for at in some}
            if kind == "add":
                new = [EVERY[at] for at in sorted(some) if IDS[at] not in model]
                found = put(root, new) if new else found
                model |= {pair.id: pair for pair in new}
            elif kind == "update":
                new = [replace(model[name], captions=(f"step {number}",)) for name in sorted(names & set(model))]
                found = put(root, new, "update") if new else found
                model |= {pair.id: pair for pair in new}
            elif kind == "compact":
                found = Store(root).compact("toy")
                assert all(not entry.deleted for entry in found.manifest.blocks)
            elif set(model) - names:
                if kind == "remove":
                    found = Store(root).remove("toy", names, missing_ok=True)
                else:
                    found, _ = Store(root).purge("toy", names, missing_ok=True)
                model = {name: pair for name, pair in model.items() if name not in names}
            same(found, publish(root / "other", list(model.values())))
            limit = found.count // 2 + -(-found.count // 16)
            assert len(found.manifest.blocks) <= limit + 5  # few at the end, where blocks get smaller
            assert Store(root).verify("toy").problems == ()


# ---- what is written


def test_rows_between_others_are_written_alone(home: Path) -> None:
    publish(home, EVERY[:40:2])
    new = EVERY[5:30:8]
    found, rows = written(home, lambda: put(home, new))
    assert rows == len(new) == 4
    assert [entry.count for entry in found.manifest.blocks] == [3, 1, 4, 1, 4, 1, 4, 1, 1, 4]  # 16 rows and 4
    assert len(found.manifest.files) == 3
    same(found, publish(home / "other", sorted({*EVERY[:40:2], *new}, key=lambda pair: pair.id)))


def test_a_changed_pair_is_written_alone(home: Path) -> None:
    publish(home)
    found, rows = written(home, lambda: put(home, [replace(EVERY[20], captions=("new",))], "update"))
    assert rows == 1
    assert [entry.count for entry in found.manifest.blocks] == [16, 4, 1, 11, 16, 12]


def test_too_many_pieces_are_joined(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.edit.insert.ROWS_PER_PIECE", 20)
    publish(home, EVERY[:60:2])
    found, rows = written(home, lambda: put(home, [EVERY[9], EVERY[21]]))
    # 5 + 1 + 6 + 1 + 5 rows and a block of 14 would be 6 pieces; 32 // 20 + 2 may be
    assert [(entry.rows, entry.deleted) for entry in found.manifest.blocks] == [(13, ()), (5, ()), (14, ())]
    assert rows == 18
    same(found, publish(home / "other", sorted([*EVERY[:60:2], EVERY[9], EVERY[21]], key=lambda pair: pair.id)))


def test_sums_follow_through_pieces(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.format.anchor_set.FEWEST", 1)
    first = publish(home, EVERY[::2])
    first.keep_sums({"count": np.array([30.0])})
    found = put(home, EVERY[5:30:8])
    sums = found.kept_sums()
    assert sums is not None
    assert (sum(len(image) for image, _ in sums.added), sums.removed) == (4, [])
    again = Store(home).remove("toy", [EVERY[5].id, EVERY[8].id])
    sums = again.kept_sums()
    assert sums is not None
    assert [sum(len(image) for image, _ in part) for part in (sums.added, sums.removed)] == [3, 1]
    texts = np.concatenate([text for _, text in sums.added]).astype(np.float32)
    np.testing.assert_array_equal(texts, vectors([EVERY[at] for at in (13, 21, 29)], "text").astype(np.float16))


def test_a_purge_takes_all_pieces_of_a_block_that_has_the_pair(home: Path) -> None:
    publish(home, EVERY[:40:2])
    put(home, EVERY[5:30:8])
    gone = EVERY[2]  # in the first piece; the others of its block hide it
    found, _ = Store(home).purge("toy", [gone.id])
    assert [path for path in left_on_disk(home / "anchors", gone) if "fresh" not in str(path)] == []
    same(found, publish(home / "other", [p for p in EVERY if p in {*EVERY[:40:2], *EVERY[5:30:8]} and p != gone]))


# ---- what is refused


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
    with Store(home).packed("toy") as parcel:
        leaving = parcel.manifest.blocks
        assert [(entry.rows, entry.deleted) for entry in leaving] == [(16, ()), (4, ()), (12, ()), (16, ()), (2, ())]
        assert [entry in first for entry in leaving] == [True, False, False, True, True]
        assert parcel.manifest.digest == found.digest
