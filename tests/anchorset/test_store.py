"""The anchor set on disk: what is stored comes back, and what names it depends on the pairs and encoders alone."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import DIMS, ENCODERS, build, dense, files, fill, finish, pairs, vectors

from asif.anchorset import Manifest, Store, default_home, parse_reference
from asif.anchorset.format import verify
from asif.anchorset.format.blocks import MAX_ROWS, cast, make_block, numpy_dtype, write_block
from asif.anchorset.format.row_hash import hash_rows, record_from, record_line, resolve
from asif.errors import BadEmbedding, Busy, InputRefused, NotFound, UsageError
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import canonical_json

DTYPES = ["float16", "float32", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_stored_values_come_back_in_order_of_ids(tmp_path: Path, dtype: str) -> None:
    items: list[PairRecord | Reject] = list(pairs(40))
    items[5] = Reject(5, None, "image is empty")
    opened = build(tmp_path, items, dtype=dtype)
    expected = sorted((item for item in items if isinstance(item, PairRecord)), key=lambda pair: pair.id.encode())
    assert opened.records(range(opened.count)) == expected
    assert opened.records([38, 0, 38]) == [expected[38], expected[0], expected[38]]
    for side in DIMS:
        stored = np.concatenate(opened.blocks(side))
        assert stored.dtype == numpy_dtype(dtype)
        exact = vectors(expected, side).astype(numpy_dtype(dtype)).astype(np.float32)
        np.testing.assert_array_equal(stored.astype(np.float32), exact)
        np.testing.assert_allclose(opened.mean(side), exact.astype(np.float64).mean(axis=0), rtol=0, atol=1e-15)
        assert opened.fingerprint(side) == ENCODERS[side].fingerprint
        assert opened.encoder_spec(side) == ENCODERS[side].spec
    manifest = opened.manifest
    assert (manifest.rows_in, manifest.count, manifest.rejected, manifest.parent) == (40, 39, 1, None)
    assert opened.dims == DIMS
    assert opened.ref == "toy@1"
    assert opened.version == f"000001-{opened.digest[:12]}"
    report = Store(tmp_path).verify("toy")
    assert report.problems == ()
    assert report.files == len(files(tmp_path))
    assert report.bytes == sum(f.stat().st_size for f in files(tmp_path))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_is_a_safetensors_file(tmp_path: Path, dtype: str) -> None:
    from safetensors import safe_open

    records = pairs(5)
    block = make_block(*(cast(vectors(records, side), dtype) for side in DIMS), hash_rows(records))
    write_block(tmp_path / "a", block, dtype)
    write_block(tmp_path / "b", block, dtype)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", "pt" if dtype == "bfloat16" else "np") as theirs:
        assert sorted(theirs.keys()) == ["image", "image_sum", "row_hash", "text", "text_sum"]
        for name in theirs.keys():  # noqa: SIM118  not a dict
            found = theirs.get_tensor(name)
            found = found.float().numpy() if str(found.dtype) == "torch.bfloat16" else np.asarray(found)
            np.testing.assert_array_equal(found, getattr(block, name).astype(found.dtype))


def test_nothing_is_copied_or_writable(tmp_path: Path) -> None:
    image = build(tmp_path, pairs(3)).blocks("image")[0]
    assert not image.flags.owndata
    assert not image.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 1


def test_many_blocks(tmp_path: Path) -> None:
    records = pairs(2 * MAX_ROWS + 5)
    with Store(tmp_path).journal("toy", {"dtype": "float32"}) as journal:
        for start in range(0, len(records), 5000):
            part = records[start : start + 5000]
            image = vectors(part[:1], "image").repeat(len(part), axis=0)
            text = np.arange(start + 1, start + 1 + len(part), dtype=np.float32)[:, None]
            journal.append(part, image, text, [], start + len(part))
        opened = finish(journal)
    assert [len(block) for block in opened.blocks("text")] == [MAX_ROWS, MAX_ROWS, 5]
    order = sorted(range(len(records)), key=lambda row: records[row].id.encode())
    np.testing.assert_array_equal(dense(opened, "text")[:, 0], np.array(order, np.float32) + 1)
    picked = [0, MAX_ROWS - 1, MAX_ROWS, 2 * MAX_ROWS + 4, 3]
    assert opened.records(picked) == [records[order[row]] for row in picked]
    np.testing.assert_allclose(opened.mean("text"), [(len(records) + 1) / 2], rtol=1e-12)
    assert Store(tmp_path).verify("toy").problems == ()


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(14)), segment=st.integers(1, 15))
def test_the_result_does_not_depend_on_order_or_segments(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], segment: int
) -> None:
    records = pairs(14)
    plain = build(tmp_path_factory.mktemp("plain"), records)
    other = build(tmp_path_factory.mktemp("other"), [records[at] for at in order], segment=segment)
    assert other.digest == plain.digest
    assert other.manifest.blocks == plain.manifest.blocks  # the very bytes


def test_removing_a_pair_is_building_without_it(tmp_path: Path) -> None:
    records = pairs(12)
    whole = build(tmp_path / "whole", records)
    without = build(tmp_path / "without", records[:4] + records[5:])
    rejected: list[PairRecord | Reject] = list(records)
    rejected[4] = Reject(4, records[4].id, "removed")
    assert build(tmp_path / "rejected", rejected).digest == without.digest != whole.digest


def test_the_digest_names_pairs_encoders_dtype_and_captions(tmp_path: Path) -> None:
    records = pairs(4)
    digests = {
        build(tmp_path / "0", records).digest,
        build(tmp_path / "1", records, dtype="float32").digest,
        build(tmp_path / "2", records, captions="first").digest,
        *(
            build(tmp_path / field, [dataclasses.replace(records[0], **{field: value}), *records[1:]]).digest
            for field, value in {
                "id": "other",
                "captions": ("other",),
                "image_sha256": "0" * 64,
                "source": "other",
                "licence": "other",
                "url": "other",
            }.items()
        ),
    }
    assert len(digests) == 9


def rejects(root: Path, name: str = "toy") -> list[dict[str, object]]:
    (file,) = (root / "anchors" / name / "rejects").iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_duplicates_are_dropped_as_said(tmp_path: Path) -> None:
    a, b, c = pairs(3)
    twin = dataclasses.replace(a, id="zz", url="https://elsewhere.example")
    clash = dataclasses.replace(b, captions=("another text",))
    items = [a, b, c, twin, a, Reject(5, "x", "image is null"), clash]
    kept = build(tmp_path / "keep", items)
    winner = min((b, clash), key=lambda record: hash_rows([record]).tobytes())
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


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=10),
    seed=st.randoms(use_true_random=False),
    dedup=st.sampled_from(["exact", "keep"]),
)
def test_resolving_duplicates_matches_the_definition_in_any_order(rows, seed, dedup) -> None:  # type: ignore[no-untyped-def]
    """Compare with the rule written out: per id the smallest row hash, per content the smallest id."""

    def chosen(rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
        records = [PairRecord(name, (str(content),), "") for name, content in rows]
        contents = np.zeros((len(rows), 32), np.uint8)
        contents[:, 9] = [content for _, content in rows]
        found = resolve([name.encode() for name, _ in rows], hash_rows(records), contents, dedup)
        assert sorted([*found.kept.tolist(), *found.dropped]) == list(range(len(rows)))
        return [rows[row] for row in found.kept]

    def key(row: tuple[str, int]) -> bytes:
        return hash_rows([PairRecord(row[0], (str(row[1]),), "")]).tobytes()

    by_id = {name: min((row for row in rows if row[0] == name), key=key) for name, _ in rows}
    expected = sorted(by_id.values())
    if dedup == "exact":
        expected = [row for row in expected if row[0] == min(name for name, content in expected if content == row[1])]
    shuffled = seed.sample(rows, len(rows))
    assert chosen(rows) == expected == chosen(shuffled)


def test_versions_follow_one_another_and_share_blocks(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = build(tmp_path, pairs(5))
    second = build(tmp_path, pairs(6))
    assert (second.manifest.seq, second.manifest.parent) == (2, first.version)
    assert build(tmp_path, pairs(6)).version == second.version  # nothing changed: no third version
    third = build(tmp_path, pairs(5))
    assert (third.manifest.seq, third.digest, third.manifest.blocks) == (3, first.digest, first.manifest.blocks)
    opened = {
        ref: store.open(ref).version for ref in ("toy", "toy@current", "toy@1", "toy@000002", f"toy@{first.version}")
    }
    assert list(opened.values()) == [third.version, third.version, first.version, second.version, first.version]
    np.testing.assert_array_equal(dense(first, "text"), dense(third, "text"))
    assert len(list((tmp_path / "anchors/toy/blocks").iterdir())) == 2
    assert store.verify("toy").versions == (first.version, second.version, third.version)
    assert store.verify("toy@2").versions == (second.version,)
    assert store.verify("toy").problems == store.verify("toy@2").problems == ()


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


def test_an_open_set_stays_what_it_is(tmp_path: Path) -> None:
    opened = build(tmp_path, pairs(4))
    before = dense(opened, "image")
    build(tmp_path, pairs(5))
    np.testing.assert_array_equal(dense(opened, "image"), before)
    image = opened.blocks("image")[0]
    opened.close()
    np.testing.assert_array_equal(image.astype(np.float32), before)
    for use in (lambda: opened.blocks("image"), lambda: opened.mean("image"), lambda: opened.records([0])):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_readers_see_whole_versions_while_another_writes(tmp_path: Path) -> None:
    digests = [build(tmp_path / "plain", pairs(count)).digest for count in range(1, 13)]
    build(tmp_path, pairs(1))
    writer = threading.Thread(target=lambda: [build(tmp_path, pairs(count)) for count in range(2, 13)])
    writer.start()
    seen = []
    while writer.is_alive() or not seen or seen[-1] != 12:
        with Store(tmp_path).open("toy") as opened:
            assert opened.digest == digests[opened.count - 1]
            assert len(opened.records(range(opened.count))) == opened.count == len(dense(opened, "text"))
            seen.append(opened.count)
    writer.join()
    assert seen == sorted(seen)


def test_rows_out_of_range(tmp_path: Path) -> None:
    opened = build(tmp_path, pairs(4))
    assert opened.records([]) == []
    for rows in ([4], [-1], [0, 99]):
        with pytest.raises(IndexError):
            opened.records(rows)


def test_a_set_can_be_opened_by_path(tmp_path: Path) -> None:
    opened = build(tmp_path, pairs(4))
    moved = tmp_path / "elsewhere"
    (tmp_path / "anchors/toy").rename(moved)
    for ref in (str(moved), f"{moved}@1", f"{moved}@current"):
        assert Store(tmp_path).open(ref).digest == opened.digest
    assert verify(moved).problems == ()
    with pytest.raises(NotFound):
        Store(tmp_path).open(str(tmp_path))
    with pytest.raises(NotFound):
        verify(tmp_path)


def test_not_found_names_what_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(NotFound, match="none yet"):
        store.open("toy")
    version = build(tmp_path, pairs(2)).version
    with pytest.raises(NotFound, match="one of: toy"):
        store.open("other")
    for ref in ("toy@best", "toy@7", "toy@000007-0123456789ab"):
        with pytest.raises(NotFound, match=f"one of: current, {version}"):
            store.open(ref)


def test_the_list_says_what_is_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.sets() == []
    opened = build(tmp_path, pairs(4))
    (entry,) = store.sets()
    assert (entry.name, entry.version, entry.count, entry.dims) == ("toy", opened.version, 4, DIMS)
    assert entry.encoders == {"image": "timm:stub", "text": "st:stub"}
    assert entry.error is None
    assert entry.aliases == {"current": opened.version}
    assert entry.created == opened.manifest.created
    assert entry.size == store.size("toy") == sum(file.stat().st_size for file in files(tmp_path))


def test_the_manifest_comes_back(tmp_path: Path) -> None:
    manifest = build(tmp_path, pairs(4)).manifest
    assert Manifest.from_bytes(manifest.to_bytes(), "here") == manifest


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASIF_HOME", "/somewhere/else")
    assert default_home() == Path("/somewhere/else")
    monkeypatch.delenv("ASIF_HOME")
    assert default_home().name == "asif"


GOOD = ["a", "0", "coco-2017.train_v1", "a" * 64]
BAD = [
    "", ".", "..", "-a", "_a", ".a", "A", "a b", "a/b", "../../x", "/etc/passwd", "a\\b", "a\0", "a\n", "a" * 65,
    "a" * 300, "\u0430", "\uff41", "é", "a..b", "a@b", "con:", "a*", "\u0661", "~a", "a\u202eb", "./" + "a" * 5000,
    "./\udc80",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_names(tmp_path: Path, name: str) -> None:
    assert parse_reference(name).name == name
    assert build(tmp_path, pairs(1), name=name).name == name
    assert Store(tmp_path).open(f"{name}@1").name == name


@pytest.mark.parametrize("name", BAD)
def test_bad_names_touch_nothing(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UsageError):
        store.journal(name, {"dtype": "float16"})
    with pytest.raises(UsageError):
        store.size(name)
    with pytest.raises(UsageError):  # NotFound, where it is read as a path
        store.open(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ref", "name", "path", "selector"),
    [
        ("toy", "toy", None, None),
        ("toy@best", "toy", None, "best"),
        ("toy@12", "toy", None, "12"),
        ("./toy", None, Path("toy"), None),
        ("/a@b/toy", None, Path("/a@b/toy"), None),
        ("/a@b/toy@3", None, Path("/a@b/toy"), "3"),
        (".", None, Path("."), None),
        ("toy@../x", None, Path("toy@../x"), None),
    ],
)
def test_references(ref: str, name: str | None, path: Path | None, selector: str | None) -> None:
    found = parse_reference(ref)
    assert (found.name, found.path, found.selector) == (name, path, selector)


@pytest.mark.parametrize("ref", ["toy@", "toy@A", "toy@a@b", "@a", "toy@\0", "toy@-1", "toy@²"])
def test_bad_references(ref: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(ref)


def test_resuming_in_one_process(tmp_path: Path) -> None:
    store, records, plan = Store(tmp_path), pairs(20), {"dtype": "float16", "limit": None}
    with store.journal("toy", plan) as journal:
        assert not journal.resumed
        fill(journal, records[:8], 3)
    with store.journal("toy", plan) as journal:
        assert (journal.resumed, journal.next_row, journal.kept, journal.rejected) == (True, 8, 8, 0)
        assert list(journal.ids()) == [record.id for record in records[:8]]
        with pytest.raises(Busy, match="is running"):
            store.journal("toy", plan)
        with store.journal("toy", {**plan, "limit": 3}) as other:
            assert not other.resumed
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


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MAYBE = st.none() | TEXT


@given(st.builds(PairRecord, TEXT, st.lists(TEXT, max_size=3).map(tuple), TEXT, MAYBE, MAYBE, MAYBE))
def test_a_record_line_is_canonical_json(record: PairRecord) -> None:
    assert record_line(record) == canonical_json({**dataclasses.asdict(record), "captions": list(record.captions)})
    assert record_from(json.loads(record_line(record))) == record
