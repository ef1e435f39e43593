"""The journal of a build: counts, duplicates, rejects, resuming, damaged segments."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import ENCODERS, build, fill, finish, pairs, vectors
from support.examples import examples

from asif.anchorset import Store
from asif.anchorset.format.row_hash import hash_records
from asif.errors import BadEmbedding, Busy, InputRefused, UsageError
from asif.pairs.pair import Reject


@settings(max_examples=examples(12), deadline=None)
@given(order=st.permutations(range(14)), segment=st.integers(1, 15))
def test_the_result_does_not_depend_on_order_or_segments(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], segment: int
) -> None:
    records = pairs(14)
    plain = build(tmp_path_factory.mktemp("plain"), records)
    other = build(tmp_path_factory.mktemp("other"), [records[at] for at in order], segment=segment)
    assert other.digest == plain.digest
    assert other.manifest.blocks == plain.manifest.blocks  # the very bytes


def rejects(root: Path, name: str = "toy") -> list[dict[str, object]]:
    (file,) = (root / "anchors" / name / "rejects").iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_duplicates_are_dropped_as_said(tmp_path: Path) -> None:
    a, b, c = pairs(3)
    twin = dataclasses.replace(a, id="zz", url="https://elsewhere.example")
    clash = dataclasses.replace(b, captions=("another text",))
    items = [a, b, c, twin, a, Reject(5, "x", "image is null"), clash]
    kept = build(tmp_path / "keep", items)
    winner = min((b, clash), key=lambda record: hash_records([record]).tobytes())
    loser_row = 6 if winner is b else 1
    assert kept.records(range(kept.count)) == sorted([a, winner, c, twin], key=lambda record: record.id)
    expected = {4: "duplicate of the same id", 5: "image is null", loser_row: "id used by another pair"}
    assert {line["row"]: line["reason"] for line in rejects(tmp_path / "keep")} == expected
    exact = build(tmp_path / "exact", items, dedup="exact")
    assert exact.records(range(exact.count)) == sorted([a, winner, c], key=lambda record: record.id)
    found = rejects(tmp_path / "exact")
    assert {line["row"]: line["reason"] for line in found} == {**expected, 3: f"duplicate of {a.id}"}
    assert [line["row"] for line in found] == sorted(line["row"] for line in found)  # type: ignore[type-var]
    assert (exact.manifest.rows_in, exact.manifest.count, exact.manifest.rejected) == (7, 3, 4)
    assert Store(tmp_path / "exact").verify("toy").problems == ()


def test_a_row_may_give_several_anchors(tmp_path: Path) -> None:
    """Take rows 0 to 3, of which row 0 gives three anchors, row 1 none, and row 2 the same one twice."""
    a, b, c, d, e = pairs(5)
    records = [a, b, c, d, d, e]
    plan = {"dtype": "float16"}
    with Store(tmp_path).journal("toy", plan) as journal:
        vector = vectors(records, "image"), vectors(records, "text")
        journal.append(records, *vector, [Reject(1, None, "image is null")], 4, [0, 0, 0, 2, 2, 3])
    with Store(tmp_path).journal("toy", plan) as journal:
        assert (journal.next_row, journal.kept, journal.rejected) == (4, 6, 1)
        opened = finish(journal)
    assert opened.digest == build(tmp_path / "plain", [a, b, c, d, e]).digest
    assert [(line["row"], line["reason"]) for line in rejects(tmp_path)] == [
        (1, "image is null"),
        (2, "duplicate of the same id"),
    ]
    assert (opened.manifest.rows_in, opened.manifest.count, opened.manifest.rejected) == (7, 5, 2)
    assert Store(tmp_path).verify("toy").problems == ()


def test_vectors_that_the_dtype_cannot_hold_are_refused_by_row(tmp_path: Path) -> None:
    records = pairs(3)
    for bad in (1e-9, 1e9, np.nan, np.inf):
        image = vectors(records, "image")
        image[1] = bad
        with Store(tmp_path).journal("toy", {"dtype": "float16"}) as journal:
            with pytest.raises(BadEmbedding, match="rows 1"):
                journal.append(records, image, vectors(records, "text"), [], 3)
            assert journal.next_row == 0
            journal.discard()
    assert not (tmp_path / "anchors/toy").exists()


def test_counts_must_add_up(tmp_path: Path) -> None:
    records = pairs(3)
    image, text = vectors(records, "image"), vectors(records, "text")
    with Store(tmp_path).journal("toy", {"dtype": "float16"}) as journal:
        for rejected, end in [([], 4), ([], 2), ([Reject(4, None, "")], 4), ([Reject(0, None, "")] * 2, 5)]:
            with pytest.raises(ValueError, match="do not cover"):
                journal.append(records, image, text, rejected, end)
        for rows in ([0, 1], [0, 2, 1], [0, 0, 2], [0, 1, 3]):
            with pytest.raises(ValueError, match="do not cover"):
                journal.append(records, image, text, [], 3, rows)
        with pytest.raises(ValueError, match="2 image"):
            journal.append(records, image[:2], text, [], 3)
        journal.append(records, image, text, [], 3)
        with pytest.raises(ValueError, match="dimensions"):
            journal.append(records, image[:, :5], text, [], 6)
        with pytest.raises(ValueError, match="planned as float16"):
            journal.publish(**ENCODERS, dtype="float32", captions="mean", operation={}, asif_version="", dedup="keep")
        with pytest.raises(UsageError):
            finish(journal, dedup="fuzzy")
        with pytest.raises(UsageError):
            finish(journal, captions="median")
        finish(journal)
        with pytest.raises(ValueError, match="closed"):
            journal.append(records, image, text, [], 6)
    with pytest.raises(UsageError):
        Store(tmp_path).journal("toy", {"dtype": "int8"})


def test_an_empty_set_is_never_published(tmp_path: Path) -> None:
    old = build(tmp_path, pairs(2))
    with pytest.raises(InputRefused, match=r"image is null \(9\)") as caught:
        build(tmp_path, [Reject(row, None, "image is null") for row in range(9)])
    assert caught.value.exit_code == 3
    with pytest.raises(InputRefused):
        build(tmp_path, [], name="nothing")
    assert [entry.name for entry in Store(tmp_path).sets()] == ["toy"]
    assert Store(tmp_path).open("toy").version == old.version
    assert Store(tmp_path).verify("toy").problems == ()


def test_resuming_in_one_process(tmp_path: Path) -> None:
    store, records, plan = Store(tmp_path), pairs(20), {"dtype": "float16", "limit": None}
    with store.journal("toy", plan) as journal:
        fill(journal, records[:8], 3)
    with store.journal("toy", plan) as journal:
        assert (journal.next_row, journal.kept, journal.rejected) == (8, 8, 0)
        assert list(journal.ids()) == [record.id for record in records[:8]]
        with pytest.raises(Busy, match="is running"):
            store.journal("toy", plan)
        with store.journal("toy", {**plan, "limit": 3}) as other:
            assert other.next_row == 0
            other.discard()
    assert store.sets()[0].error is not None
    assert "interrupted" in store.sets()[0].error
    with store.journal("toy", plan) as journal:
        fill(journal, records, 5)
        opened = finish(journal)
    assert opened.digest == build(tmp_path / "plain", records).digest
    assert not (tmp_path / "anchors/toy/journal").exists()


@pytest.mark.parametrize("suffix", ["json", "jsonl", "safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "link"])
def test_a_damaged_segment_and_all_after_it_are_done_again(
    tmp_path: Path, suffix: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, records, plan = Store(tmp_path), pairs(20), {"dtype": "float16"}
    with store.journal("toy", plan) as journal:
        fill(journal, records, 5)
    (file,) = (tmp_path / "anchors/toy/journal").rglob(f"000002.{suffix}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "link":
        file.rename(tmp_path / "real")
        file.symlink_to(tmp_path / "real")
    elif damage == "remove":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flip" else data[:-1])
    with store.journal("toy", plan) as journal:
        assert (journal.next_row, journal.kept) == (10, 10)
        fill(journal, records, 4)
        opened = finish(journal)
    assert ("done again" in caplog.text) == (not (suffix == "json" and damage == "remove"))
    assert opened.digest == build(tmp_path / "plain", records).digest
    assert store.verify("toy").problems == ()
