"""Sets made of others: some pairs of one, the pairs of two; digests are those of builds of just these pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import DIMS, ENCODERS, build, dense, pairs
from support.running import Cli

from asif.anchorset import AnchorSet, Store
from asif.engine import merge_anchors, subset_anchors
from asif.errors import EncoderMismatch, InputRefused, NotFound, UsageError
from asif.vectors import Fingerprint

EVERY = sorted(pairs(40), key=lambda pair: pair.id)
IDS = [pair.id for pair in EVERY]


def same(found: AnchorSet, expected: AnchorSet) -> None:
    assert (found.digest, found.manifest.blocks) == (expected.digest, expected.manifest.blocks)
    assert found.records(range(found.count)) == expected.records(range(expected.count))
    for side in DIMS:
        np.testing.assert_array_equal(dense(found, side), dense(expected, side))


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_a_subset_is_a_build_of_its_pairs(home: Path, dtype: str) -> None:
    build(home, EVERY, dtype=dtype)
    Store(home).remove("toy", IDS[2:4])  # rows that are hidden are not chosen either
    where = "licence = 'CC-BY-4.0'"
    some = [pair for pair in EVERY if pair.licence and pair.id not in IDS[2:4]]
    found = subset_anchors("toy", "new", where=where, home=home)
    same(found, build(home, some, name="expected", dtype=dtype))
    assert found.manifest.operation["pairs"] == len(some) and found.manifest.operation["from"] == "toy@2"
    same(subset_anchors("toy@1", "ids", IDS[2:9], home=home), build(home, EVERY[2:9], name="seven", dtype=dtype))
    assert Store(home).open("toy").manifest.seq == 2
    Store(home).verify("new").raise_if_bad()


def test_no_pairs_make_no_subset(home: Path) -> None:
    build(home, EVERY)
    with pytest.raises(InputRefused, match="no pair of toy@1"):
        subset_anchors("toy", "new", where="id = 'x'", home=home)
    with pytest.raises(NotFound, match="has no 'x'"):
        subset_anchors("toy", "new", ["x"], home=home)
    with pytest.raises(UsageError):
        subset_anchors("toy", "../new", IDS[:2], home=home)
    assert [entry.name for entry in Store(home).sets()] == ["toy"]


@pytest.mark.parametrize("segment", [3, 1024])
def test_a_merged_set_is_a_build_of_all_pairs(home: Path, segment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.copy_rows.COPY_SEGMENT_ROWS", segment)
    build(home, EVERY[:25], name="a")
    build(home, EVERY[15:], name="b")
    Store(home).remove("a", IDS[:1])
    found = merge_anchors("a", "b", "both", home=home)
    same(found, build(home, EVERY[1:], name="expected"))
    assert (found.manifest.operation["first"], found.manifest.operation["second"]) == (24, 15)
    same(merge_anchors("b", "a", "other", home=home), found)
    Store(home).verify("both").raise_if_bad()


def test_a_merge_goes_on_where_it_was_stopped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.copy_rows.COPY_SEGMENT_ROWS", 4)
    build(home, EVERY[:10], name="a")
    build(home, EVERY[10:21], name="b")
    real, appended = Store.journal, []

    def journal(store: Store, name: str, plan: dict[str, object]) -> object:
        found = real(store, name, plan)
        append = found.append

        def once(*args: object) -> None:
            appended.append(len(args[0]))  # type: ignore[arg-type]
            if len(appended) == 4:
                raise KeyboardInterrupt
            append(*args)  # type: ignore[arg-type]

        found.append = once  # type: ignore[method-assign]
        return found

    monkeypatch.setattr(Store, "journal", journal)
    with pytest.raises(KeyboardInterrupt):
        merge_anchors("a", "b", "both", home=home)
    found = merge_anchors("a", "b", "both", home=home)
    assert appended == [4, 4, 2, 4, 4, 4, 3]
    monkeypatch.undo()
    same(found, build(home, EVERY[:21], name="expected"))


def test_ids_in_conflict(home: Path) -> None:
    build(home, EVERY[:10], name="a")
    build(home, [replace(EVERY[9], licence="other"), *EVERY[10:12]], name="b")
    with pytest.raises(InputRefused, match=f"1 ids belong to different pairs in a@1 and b@1: '{IDS[9]}'"):
        merge_anchors("a", "b", "both", home=home)
    assert [entry.name for entry in Store(home).sets()] == ["a", "b"]
    same(merge_anchors("a", "b", "both", on_conflict="first", home=home), build(home, EVERY[:12], name="expected"))


def test_sets_that_are_not_alike(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(home, EVERY[:10], name="a")
    build(home, EVERY[10:], name="b", dtype="float32")
    build(home, EVERY[10:], name="first", captions="first")
    for other in ("b", "first"):
        with pytest.raises(InputRefused, match="a@1 has"):
            merge_anchors("a", other, "both", home=home)
    stranger = replace(ENCODERS["text"], fingerprint=Fingerprint({"model": "other", "prompt": None}))
    monkeypatch.setitem(ENCODERS, "text", stranger)
    theirs = build(home, EVERY[10:], name="c").fingerprint("text").digest[:12]
    ours = Store(home).open("a").fingerprint("text").digest[:12]
    with pytest.raises(EncoderMismatch, match=f"differ in model: st:stub with fingerprint {ours}.*{theirs} c@1"):
        merge_anchors("a", "c", "both", home=home)


def test_commands(home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    build(home, EVERY[:20], name="a")
    assert cli("anchors", "subset", "a", "--id", IDS[1], "--name", "one").out.startswith("one@1: 1 anchors of a@1,")
    build(home, EVERY[20:], name="b")
    assert cli("anchors", "merge", "a", "b", "--name", "c", "--json").json["anchors"] == 40
    build(home, [replace(EVERY[0], url="x")], name="d")
    assert cli("anchors", "merge", "a", "d", "--name", "e").code == 3
    assert cli("anchors", "merge", "a", "d", "--name", "e", "--on-conflict", "first").code == 0
    monkeypatch.setitem(ENCODERS, "text", replace(ENCODERS["text"], fingerprint=Fingerprint({"model": "other"})))
    build(home, EVERY[20:], name="f")
    assert cli("anchors", "merge", "a", "f", "--name", "g").code == 4
