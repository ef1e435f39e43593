"""Rows inserted between those of a block are written alone, and the result is that of a build."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, files, short_blocks, vectors
from support.edited_sets import EVERY, IDS, assert_same_set, files_with_pair, publish
from support.examples import examples

from asif.anchorset import AnchorSet, Store
from asif.pairs.pair import PairRecord


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short, and row ranges many."""
    short_blocks(monkeypatch, 16)
    monkeypatch.setattr("asif.anchorset.edit.insert.PAIRS_PER_RANGE", 2)


def put(root: Path, records: list[PairRecord], kind: Any = "add") -> AnchorSet:
    return Store(root).put("toy", build(root / "fresh", records, segment=9), kind)


def written(home: Path, action: Callable[[], AnchorSet]) -> tuple[AnchorSet, int]:
    """Return what an edit came to, and how many rows it wrote."""
    before = {path.name for path in files(home / "anchors/toy/blocks")}
    found = action()
    fresh = [entry for entry in found.manifest.files if f"{entry.sha256}.safetensors" not in before]
    return found, sum(entry.rows for entry in fresh)


SOME = st.sets(st.sampled_from(range(60)), min_size=1, max_size=9)


STEP = st.tuples(st.sampled_from(["add", "update", "remove", "purge", "compact"]), SOME)


@settings(max_examples=examples(25), deadline=None)
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
            assert_same_set(found, publish(root / "other", list(model.values())))
            limit = found.count // 2 + -(-found.count // 16)
            assert len(found.manifest.blocks) <= limit + 5  # few at the end, where blocks get smaller
            assert Store(root).verify("toy").problems == ()


def test_rows_between_others_are_written_alone(home: Path) -> None:
    publish(home, EVERY[:40:2])
    new = EVERY[5:30:8]
    found, rows = written(home, lambda: put(home, new))
    assert rows == len(new) == 4
    assert [entry.count for entry in found.manifest.blocks] == [3, 1, 4, 1, 4, 1, 4, 1, 1, 4]  # 16 rows and 4
    assert len(found.manifest.files) == 3
    assert_same_set(found, publish(home / "other", sorted({*EVERY[:40:2], *new}, key=lambda pair: pair.id)))


def test_a_changed_pair_is_written_alone(home: Path) -> None:
    publish(home)
    found, rows = written(home, lambda: put(home, [replace(EVERY[20], captions=("new",))], "update"))
    assert rows == 1
    assert [entry.count for entry in found.manifest.blocks] == [16, 4, 1, 11, 16, 12]


def test_too_many_pieces_are_joined(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.edit.insert.PAIRS_PER_RANGE", 20)
    publish(home, EVERY[:60:2])
    found, rows = written(home, lambda: put(home, [EVERY[9], EVERY[21]]))
    # 5 + 1 + 6 + 1 + 5 rows and a block of 14 would be 6 pieces; 32 // 20 + 2 may be
    assert [(entry.rows, entry.deleted) for entry in found.manifest.blocks] == [(13, ()), (5, ()), (14, ())]
    assert rows == 18
    assert_same_set(
        found, publish(home / "other", sorted([*EVERY[:60:2], EVERY[9], EVERY[21]], key=lambda pair: pair.id))
    )


def test_sums_follow_through_pieces(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.anchorset.format.anchor_set.MIN_ANCHORS_FOR_SUMS", 1)
    first = publish(home, EVERY[::2])
    first.cache_sums({"count": np.array([30.0])})
    found = put(home, EVERY[5:30:8])
    sums = found.cached_sums()
    assert sums is not None
    assert (sum(len(image) for image, _ in sums.added), sums.removed) == (4, [])
    again = Store(home).remove("toy", [EVERY[5].id, EVERY[8].id])
    sums = again.cached_sums()
    assert sums is not None
    assert [sum(len(image) for image, _ in part) for part in (sums.added, sums.removed)] == [3, 1]
    texts = np.concatenate([text for _, text in sums.added]).astype(np.float32)
    np.testing.assert_array_equal(texts, vectors([EVERY[at] for at in (13, 21, 29)], "text").astype(np.float16))


def test_a_purge_takes_all_pieces_of_a_block_that_has_the_pair(home: Path) -> None:
    publish(home, EVERY[:40:2])
    put(home, EVERY[5:30:8])
    gone = EVERY[2]  # in the first piece; the others of its block hide it
    found, _ = Store(home).purge("toy", [gone.id])
    assert [path for path in files_with_pair(home / "anchors", gone) if "fresh" not in str(path)] == []
    assert_same_set(
        found, publish(home / "other", [p for p in EVERY if p in {*EVERY[:40:2], *EVERY[5:30:8]} and p != gone])
    )
