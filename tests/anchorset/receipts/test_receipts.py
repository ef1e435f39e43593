"""Receipts of removals: what they prove, what they find, and that they are written before anything is deleted (P16)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from anchorset.edit.test_transaction import EVERY, IDS, publish, same
from hypothesis import given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, files, pairs
from support.running import Cli

from asif.anchorset import Store
from asif.anchorset.format.checksummed_json import seal
from asif.anchorset.format.row_hash import as_hashes, record_line, row_hash
from asif.anchorset.receipts.create import make_receipt, version_hashes
from asif.anchorset.receipts.merkle import HashTree, bits_for, contains, fold, plain_root, sorted_hashes
from asif.anchorset.receipts.multi_search import Needles
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.anchorset.receipts.residue_scan import Wanted, files_under, search
from asif.encoders.text_cache import TextCache, key
from asif.engine import purge_pairs
from asif.errors import AsifError, IntegrityError, NotFound, UnknownFormat, UsageError
from asif.pairs.records import write_records

GONE = [EVERY[7], EVERY[33]]
NAMES = [pair.id for pair in GONE]


def checked_by_the_book(data: bytes, per_group: int = 32) -> dict[str, Any]:
    """Check a receipt as docs/receipts.md says, with nothing of asif."""
    receipt: dict[str, Any] = json.loads(data)
    plain = {name: value for name, value in receipt.items() if name != "checksum"}
    written = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(written.encode()).hexdigest() == receipt["checksum"]
    bits, before, after = receipt["bits"], receipt["before"], receipt["after"]
    assert before["count"] <= per_group * 2**bits and (not bits or before["count"] > per_group * 2 ** (bits - 1))
    removed, erased = ([bytes.fromhex(one) for one in receipt[name]] for name in ("removed", "erased"))

    def group(row: bytes) -> int:
        return int("".join(f"{byte:08b}" for byte in row)[:bits] or "0", 2)

    numbers = sorted({group(row) for row in removed + erased})
    was, now = {}, {}
    for number, text in zip(numbers, receipt["groups"], strict=True):
        left = [bytes.fromhex(text[at : at + 64]) for at in range(0, len(text), 64)]
        assert left == sorted(set(left)) and {group(row) for row in left} <= {number}
        assert not set(left) & {*removed, *erased}
        now[number] = hashlib.sha256(b"\0" + b"".join(left)).digest()
        every = sorted(left + [row for row in removed if group(row) == number])
        was[number] = hashlib.sha256(b"\0" + b"".join(every)).digest()
    for state, leaves in ((before, was), (after, now)):
        nodes = dict(leaves)
        beside = [bytes.fromhex(one) for one in receipt["siblings"]]
        for _ in range(bits):
            full = dict(nodes)
            for at in sorted(nodes):
                if at ^ 1 not in full:
                    full[at ^ 1] = beside.pop(0)
            nodes = {at // 2: hashlib.sha256(b"\1" + full[at & ~1] + full[at | 1]).digest() for at in nodes}
        shape = bytes([bits]) + state["count"].to_bytes(8, "big")
        assert not beside and hashlib.sha256(b"\2" + shape + nodes[0]).hexdigest() == state["root"]
    assert before["count"] - after["count"] == len(removed)
    return receipt


def hashes(numbers: set[int]) -> Any:
    return sorted_hashes([as_hashes(hashlib.sha256(b"%d" % number).digest() for number in numbers)])


@pytest.fixture
def removal(home: Path) -> Receipt:
    publish(home)
    Store(home).remove("toy", NAMES, receipt=home / "r.json")
    return read_receipt(home / "r.json")


# ---- the tree


@given(st.sets(st.integers(0, 400), max_size=150), st.integers(0, 6))
def test_the_tree_is_the_one_that_is_defined(numbers: set[int], bits: int) -> None:
    tree = HashTree(hashes(numbers), bits)
    assert tree.root == plain_root([row.tobytes() for row in np.array(tree.hashes)], bits)
    assert np.concatenate([[0], *(np.frombuffer(tree.group(at), np.uint8) for at in range(1 << bits))]).size == (
        1 + 32 * len(numbers)
    )
    assert plain_root(list(map(bytes, tree.hashes.tolist())), bits + 1) != tree.root


def test_hashes_that_end_in_zeros_are_told_apart() -> None:
    rows = np.zeros((3, 32), np.uint8)
    rows[1, 30], rows[2, 31] = 1, 1
    found = sorted_hashes([rows, rows[:1]])
    assert len(found) == 3
    assert HashTree(found, 0).group(0) == rows[[0, 2, 1]].tobytes()
    assert contains(found, sorted_hashes([rows[2:]])).all() and not contains(found[:2], found[2:]).any()
    assert not contains(found[:0], found).any()


@pytest.mark.parametrize(("count", "bits"), [(1, 0), (32, 0), (33, 1), (64, 1), (65, 2), (1_600_000, 16)])
def test_groups_have_at_most_32_on_average(count: int, bits: int) -> None:
    assert bits_for(count) == bits


def test_siblings_that_do_not_fit_are_refused() -> None:
    tree = HashTree(hashes(set(range(50))), 3)
    leaves, siblings = {2: tree.levels[0][2], 6: tree.levels[0][6]}, tree.siblings([2, 6])
    assert fold(leaves, 3, siblings) == tree.levels[-1][0]
    for wrong in (siblings[:-1], [*siblings, siblings[0]]):
        with pytest.raises(ValueError, match="too"):
            fold(leaves, 3, wrong)
    assert fold(leaves, 3, siblings[::-1]) != tree.levels[-1][0]


# ---- what a receipt proves


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 300), min_size=2, max_size=200),
    st.integers(1, 30),
    st.sets(st.integers(301, 400), max_size=5),
    st.sampled_from([1, 3, 32]),
)
def test_a_receipt_holds_by_the_book(numbers: set[int], some: int, erased: set[int], per_group: int) -> None:
    gone = set(sorted(numbers)[:: max(2, len(numbers) // some)])
    with patch("asif.anchorset.receipts.merkle.GROUP", per_group):
        made = receipt_of(numbers, gone, erased)
        data = made.to_bytes()
        assert Receipt.from_bytes(data, "here") == made
    checked = checked_by_the_book(data, per_group)
    rows = [row.tobytes() for row in np.array(hashes(numbers - gone))]
    assert made.after.root == plain_root(rows, made.bits)
    assert len(checked["removed"]) == len(gone) and len(checked["erased"]) == len(erased)


def receipt_of(numbers: set[int], gone: set[int], erased: set[int]) -> Receipt:
    class Version:
        def __init__(self, seq: int, count: int) -> None:
            self.name, self.count, self.created = "toy", count, "2026-01-01T00:00:00Z"
            self.digest = hashlib.sha256(b"%d" % seq).hexdigest()
            self.version = f"{seq:06d}-{self.digest[:12]}"

    versions: Any = (Version(1, len(numbers)), Version(2, len(numbers) - len(gone)))
    embeddings = [hashlib.sha256(b"row").digest()] if erased else []
    return make_receipt(*versions, hashes(numbers), hashes(gone), hashes(erased) if erased else None, embeddings)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(range(60)), min_size=1, max_size=25), st.sampled_from([7, 100]))
def test_removing_with_a_receipt_is_building_without(
    tmp_path_factory: pytest.TempPathFactory, rows: set[int], cut: int
) -> None:
    root = tmp_path_factory.mktemp("sets")
    with patch("asif.anchorset.write.publish.MAX_ROWS", cut), patch("asif.anchorset.edit.row_ranges.MAX_ROWS", cut):
        publish(root)
        left = [pair for at, pair in enumerate(EVERY) if at not in rows]
        found = Store(root).remove("toy", [EVERY[at].id for at in rows], receipt=root / "r.json")
        expected = publish(root / "other", left)
        receipt = read_receipt(root / "r.json")
        assert receipt.after.digest == expected.digest == found.digest
        folder, _ = Store(root / "other")._find("toy")
        assert receipt.after.root == HashTree(version_hashes(folder, expected.manifest), receipt.bits).root
        assert list(receipt.removed) == sorted(row_hash(EVERY[at]) for at in rows)
        assert Store(root).check_receipts("toy", [receipt]).problems == ()
        assert Store(root).receipt("toy").to_bytes() == (root / "r.json").read_bytes()
        checked_by_the_book((root / "r.json").read_bytes())
        found.close()
        expected.close()


def test_a_receipt_repeats_nothing_that_was_removed(home: Path, removal: Receipt) -> None:
    said = (home / "r.json").read_text()
    for pair in GONE:
        for word in (pair.id, *pair.captions, pair.image_sha256, pair.url or "https:"):
            assert word not in said
    assert {"frozen", "Backups", "forged", "removed, not purged"} <= {
        word for word in ("frozen", "Backups", "forged", "removed, not purged") if word in " ".join(removal.limits)
    }
    assert set(removal.code) == {"asif", "numpy", "python"} and removal.time.endswith("Z")


def test_a_receipt_can_be_made_later(home: Path) -> None:
    publish(home)
    store = Store(home)
    with pytest.raises(NotFound, match="nothing, is not there"):
        store.receipt("toy")
    store.remove("toy", NAMES[:1])
    store.remove("toy", NAMES[1:])
    assert len(store.receipt("toy").removed) == 1
    both = store.receipt("toy", before="1")
    assert sorted(both.removed) == sorted(map(row_hash, GONE)) and both.before.count == 60
    with pytest.raises(UsageError, match="has 2 pairs that"):
        store.receipt("toy@1", before="3")
    store.put("toy", build(home / "new", pairs(1, start=900)), "add")
    with pytest.raises(UsageError, match="has 1 pairs that"):
        store.receipt("toy")
    with pytest.raises(UsageError, match="has all pairs that"):
        store.receipt("toy", before="4")
    publish(home, EVERY[:9], dtype="float32")
    with pytest.raises(UsageError, match="more than pairs: dtype"):
        store.receipt("toy", before="4")
    store.gc("toy", 1)
    with pytest.raises(NotFound, match="a purge writes its receipt"):
        store.receipt("toy")


# ---- what is wrong with one


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    whole = receipt_of(set(range(40)), {3, 5}, {301}).to_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    with pytest.raises(IntegrityError):
        Receipt.from_bytes(changed, "here")
    with pytest.raises(IntegrityError):
        Receipt.from_bytes(whole[:at], "here")


Change = Callable[[dict[str, Any]], object]
ROW = hashlib.sha256(b"7").hexdigest()
FORGERIES: dict[str, Change] = {
    "a row more": lambda r: r.update(removed=sorted([*r["removed"], ROW])),
    "a row less": lambda r: r["removed"].pop(),
    "a row that is there": lambda r: r.update(erased=sorted([*r["erased"], ROW])),
    "rows out of order": lambda r: r["removed"].reverse(),
    "a row twice": lambda r: r["erased"].append(r["removed"][0]),
    "a group less": lambda r: r["groups"].pop(),
    "a group with another row": lambda r: r["groups"].__setitem__(0, r["groups"][0] + ROW),
    "a group without a row": lambda r: r["groups"].__setitem__(0, r["groups"][0][64:]),
    "a group cut short": lambda r: r["groups"].__setitem__(0, r["groups"][0][2:]),
    "no hexadecimal": lambda r: r["groups"].__setitem__(0, "zz"),
    "a number among rows": lambda r: r["removed"].__setitem__(0, 7),
    "a short row": lambda r: r["removed"].__setitem__(0, "ab"),
    "a sibling less": lambda r: r["siblings"].pop(),
    "a sibling more": lambda r: r["siblings"].append(ROW),
    "another sibling": lambda r: r["siblings"].__setitem__(0, ROW),
    "other bits": lambda r: r.update(bits=r["bits"] + 1),
    "too many bits": lambda r: r.update(bits=33),
    "another count": lambda r: (r["before"].update(count=41), r["after"].update(count=39)),
    "counts that do not add up": lambda r: r["after"].update(count=39),
    "another root before": lambda r: r["before"].update(root=ROW),
    "another root after": lambda r: r["after"].update(root=ROW),
    "another digest": lambda r: r["after"].update(digest=ROW),
    "another version": lambda r: r["after"].update(version="../../x"),
    "another operation": lambda r: r["operation"].update(pairs=9),
    "not purged": lambda r: r.update(purged=False),
    "a field more": lambda r: r.update(note="trust me"),
    "a field less": lambda r: r.pop("time"),
    "another kind": lambda r: r.update(kind="asif anchors"),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_a_sealed_forgery_is_found(change: Change) -> None:
    with patch("asif.anchorset.receipts.merkle.GROUP", 8):
        fields = json.loads(receipt_of(set(range(40)), {3, 5}, {301, 302}).to_bytes())
        assert len(fields["groups"][0]) > 128 and fields["bits"] == 3
        assert Receipt.from_bytes(resealed(fields), "here")
        change(fields)
        with pytest.raises(IntegrityError):
            Receipt.from_bytes(resealed(fields), "here")


def resealed(fields: dict[str, Any]) -> bytes:
    return seal({name: value for name, value in fields.items() if name != "checksum"})


def test_a_newer_receipt_is_not_guessed_at() -> None:
    fields = json.loads(receipt_of({1, 2}, {1}, set()).to_bytes())
    with pytest.raises(UnknownFormat, match="format 2"):
        Receipt.from_bytes(resealed({**fields, "format": 2}), "here")


def test_a_set_that_is_not_as_told_is_found(home: Path, removal: Receipt) -> None:
    store, other = Store(home), hashlib.sha256(b"other").hexdigest()
    assert store.check_receipts("toy", [removal]).there == {removal.after.version}
    for wrong in ({"digest": removal.after.digest[:12] + other[12:]}, {"root": other}):
        (problem,) = store.check_receipts("toy", [replace(removal, after=replace(removal.after, **wrong))]).problems
        assert next(iter(wrong)) in problem.what
    with pytest.raises(UsageError, match="'other'"):
        store.check_receipts("toy", [replace(removal, name="other")])
    (problem,) = store.check_receipts("toy@1", [removal]).problems
    assert "has 2 of the rows" in problem.what and problem.path.name.startswith("000001-")
    store.put("toy", build(home / "new", GONE[:1]), "add")
    (problem,) = store.check_receipts("toy", [removal]).problems
    assert "has 1 of the rows" in problem.what
    store.remove("toy", NAMES[:1])
    store.gc("toy", 1)
    done = store.check_receipts("toy", [removal])
    assert done.problems == () and not done.there  # its own version is gone: the proof is all there is


# ---- where it is written


@pytest.mark.parametrize("purged", [False, True])
def test_a_place_that_is_not_free_is_refused_before_anything(home: Path, purged: bool) -> None:
    publish(home)
    (home / "taken.json").write_text("mine")
    (home / "dangling").symlink_to(home / "nowhere")
    before = files(home)
    for place in ("taken.json", "dangling", "no/folder/r.json"):
        edit: Any = Store(home).purge if purged else Store(home).remove
        with pytest.raises(UsageError):
            edit("toy", NAMES, receipt=home / place)
    assert files(home) == before and (home / "taken.json").read_text() == "mine"


def test_nothing_removed_is_no_receipt(home: Path) -> None:
    publish(home)
    Store(home).remove("toy", ["nobody"], missing_ok=True, receipt=home / "r.json")
    Store(home).purge("toy", ["nobody"], missing_ok=True, receipt=home / "r.json")
    assert not (home / "r.json").exists()


@pytest.mark.parametrize("when", ["before the receipt", "before the sweep", "within the sweep", "after all"])
def test_a_killed_purge_is_finished_with_its_receipt(home: Path, when: str) -> None:
    publish(home)
    store, place = Store(home), home / "r.json"
    store.remove("toy", [IDS[50]])
    first = store.open("toy").version
    where = {"before the receipt": "write_receipt", "before the sweep": "sweep", "within the sweep": "sweep"}
    if when in where:
        with patch(f"asif.anchorset.edit.purge.{where[when]}", side_effect=stopping(when)), pytest.raises(Killed):
            store.purge("toy", NAMES, receipt=place)
        assert place.exists() == (when != "before the receipt")
        assert (first in [entry.version for entry in store.log("toy")]) == (when != "within the sweep")
    else:
        store.purge("toy", NAMES, receipt=place)
    written = place.read_bytes() if place.exists() else None
    found, _ = store.purge("toy", NAMES, receipt=place)  # the same call
    receipt = read_receipt(place)
    assert written in (None, place.read_bytes())
    assert receipt.before.version == first and list(receipt.removed) == sorted(map(row_hash, GONE))
    assert receipt.erased == () and len(receipt.embeddings) == 4
    assert [entry.version for entry in store.log("toy")] == [found.version] == [receipt.after.version]
    assert store.check_receipts("toy", [receipt]).problems == ()
    same(found, publish(home / "other", [pair for pair in EVERY if pair not in (*GONE, EVERY[50])]))
    with pytest.raises(UsageError, match="there already"):
        store.purge("toy", [IDS[1]], receipt=place)  # other pairs, but the same receipt
    assert store.open("toy").version == found.version


class Killed(Exception):
    """The process ends here."""


def stopping(when: str) -> Any:
    from asif.anchorset.edit.gc import sweep

    def stop(folder: Any, doomed: Any) -> Any:
        if when == "before the receipt" or not doomed:
            return sweep(folder, doomed)
        if when == "within the sweep":
            for version in sorted(doomed):
                folder.version_file(version).unlink()
        raise Killed

    return Killed if when == "before the receipt" else stop


def test_rows_of_older_versions_are_erased(home: Path) -> None:
    publish(home)
    store = Store(home)
    store.put("toy", build(home.parent / "new", [replace(GONE[0], captions=("other words",))]), "update")
    store.remove("toy", [IDS[50]])
    store.purge("toy", [NAMES[0]], receipt=home / "r.json")
    receipt = read_receipt(home / "r.json")
    assert receipt.removed == (row_hash(replace(GONE[0], captions=("other words",))),)
    assert receipt.erased == (row_hash(GONE[0]),) and len(receipt.embeddings) == 4
    checked_by_the_book((home / "r.json").read_bytes())
    store.remove("toy", [NAMES[1]])
    store.purge("toy", [NAMES[1]], receipt=home / "hidden.json")
    hidden = read_receipt(home / "hidden.json")
    assert hidden.removed == () and hidden.erased == (row_hash(GONE[1]),)
    assert hidden.before.digest == hidden.after.digest == store.open("toy").digest
    checked_by_the_book((home / "hidden.json").read_bytes())
    assert store.check_receipts("toy", [receipt, hidden]).problems == ()


# ---- what is left under the store


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12), st.binary(max_size=60))
def test_needles_are_found_as_by_looking_for_each(needles: list[bytes], hay: bytes) -> None:
    with patch("asif.anchorset.receipts.multi_search.CHUNK", 16):
        assert Needles(needles).within(hay) == {one for one in needles if one in hay}
        joined = hay.join(needles)
        assert Needles(needles).within(joined) == {one for one in needles if one in joined}


@pytest.fixture
def purged(home: Path) -> tuple[Path, Receipt]:
    """Return a copy of the store before the purge, and the receipt."""
    publish(home)
    shutil.copytree(home, home.parent / "copy")
    Store(home).purge("toy", NAMES, receipt=home / "r.json")
    receipt = read_receipt(home / "r.json")
    assert Store(home).check_receipts("toy", [receipt]).problems == ()  # though the receipt lies in the store itself
    return home.parent / "copy" / "anchors" / "toy", receipt


Plant = Callable[[Path, Path], Path]


def _copied(kind: str, to: str) -> Plant:
    def plant(copy: Path, home: Path) -> Path:
        place = home / to
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files(copy / kind)[0], place)
        return place

    return plant


def _written(to: str, content: bytes) -> Plant:
    def plant(copy: Path, home: Path) -> Path:
        (home / to).parent.mkdir(parents=True, exist_ok=True)
        (home / to).write_bytes(content)
        return home / to

    return plant


def _another_set(copy: Path, home: Path) -> Path:
    build(home, EVERY[:20], name="other")
    return files(home / "anchors/other/blocks")[0]


def _a_build_in_progress(copy: Path, home: Path) -> Path:
    with Store(home).journal("toy", {"dtype": "float16"}) as journal:
        wide = np.ones((2, 6), np.float32)
        journal.append(GONE, wide, wide, [], 2)
    return next(path for path in files(home / "anchors/toy/journal") if path.suffix == ".safetensors")


CAPTION = 'a caption with "quotes" and ünlauts'
PLANTS: dict[str, Plant] = {
    "a block": _copied("blocks", "anchors/toy/blocks/stray.safetensors"),
    "a block by another name": _copied("blocks", "adding/something"),
    "a table": _copied("pairs", "anchors/toy/pairs/stray.parquet"),
    "a hash": _written("note.bin", b"x" * 13 + row_hash(GONE[0]) + b"y"),
    "a hash in words": _written("cache/log.txt", b"purged " + row_hash(GONE[1]).hex().encode()),
    "a record": _written("cache/tokens/toy/pairs.jsonl", record_line(EVERY[0]) + b"\n" + record_line(GONE[0]) + b"\n"),
    "a cut block": _written("cut.safetensors", b"\0" * 100 + row_hash(GONE[0])),
    "a broken table": _written("broken.parquet", b"PAR1" + row_hash(GONE[0]) + b"PAR1"),
    "another set": _another_set,
    "a build in progress": _a_build_in_progress,
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_what_is_left_anywhere_is_named(home: Path, purged: tuple[Path, Receipt], plant: Plant) -> None:
    copy, receipt = purged
    place = plant(copy, home)
    found = Store(home).check_receipts("toy", [receipt])
    assert place in [problem.path for problem in found.problems]
    assert found.traces is not None and found.traces.files == len([p for p in home.rglob("*") if p.is_file()])
    innocent = search(
        [path for path in files_under(home) if "toy" in path.parts and path != place], Wanted(hashes({1}))
    )
    assert innocent.problems == ()


def test_captions_and_images_are_looked_for_where_they_are_known(home: Path, purged: tuple[Path, Receipt]) -> None:
    _, receipt = purged
    (home / "notes.txt").write_text(f"I liked {CAPTION}.")
    (home / "a.json").write_text(json.dumps({"captions": [CAPTION]}))
    (home / "b.jsonl").write_text(json.dumps({"captions": [CAPTION, "x"]}, ensure_ascii=False) + "\n")
    (home / "longer.json").write_text(json.dumps({"captions": [CAPTION + "!"]}))  # another caption
    (home / "image.txt").write_text(GONE[0].image_sha256)
    write_records(home / "t.parquet", [replace(EVERY[0], captions=("y", CAPTION))])
    found = Store(home).check_receipts("toy", [receipt], frozenset([CAPTION]), frozenset([GONE[0].image_sha256]))
    assert sorted(problem.path.name for problem in found.problems) == [
        *("a.json", "b.jsonl", "image.txt", "notes.txt", "t.parquet")
    ]
    assert Store(home).check_receipts("toy", [receipt]).problems == ()


def test_equal_embeddings_of_other_pairs_are_told_but_are_not_wrong(home: Path) -> None:
    twin = replace(EVERY[7], id="twin")
    publish(home, [*EVERY, twin])
    Store(home).purge("toy", [EVERY[7].id], receipt=home / "r.json")
    found = Store(home).check_receipts("toy", [read_receipt(home / "r.json")])
    assert found.problems == () and found.traces is not None
    assert list(found.traces.shared.values()) == [2]


def test_links_are_told_and_unreadable_files_are_wrong(
    home: Path, purged: tuple[Path, Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, receipt = purged
    (home / "elsewhere").symlink_to(copy)
    found = Store(home).check_receipts("toy", [receipt])
    assert found.traces is not None and found.traces.unread == (home / "elsewhere",)
    monkeypatch.setattr("asif.anchorset.receipts.residue_scan.block_in", _refuse)
    assert any("cannot be read" in problem.what for problem in Store(home).check_receipts("toy", [receipt]).problems)


def _refuse(path: Path) -> None:
    raise PermissionError(13, "Permission denied")


def test_what_the_store_remembers_beside_the_set_is_purged_too(home: Path) -> None:
    opened = publish(home)
    texts = opened.fingerprint("text").digest
    cache = TextCache(home / "cache" / "texts.sqlite")
    said = {caption: np.full(3, at, np.float32) for at, caption in enumerate(["kept", *GONE[0].captions], 5)}
    cache.put(texts, said)
    states = [home / "cache" / "training" / f"{start}-x.safetensors" for start in (opened.digest[:12], "0" * 12)]
    for state in states:
        state.parent.mkdir(exist_ok=True)
        state.write_bytes(b"weights")
    (home / "cache/tokens/toy").mkdir(parents=True)
    (home / "cache/tokens/toy/pairs.jsonl").write_bytes(record_line(GONE[1]) + b"\n")
    done = purge_pairs("toy", NAMES, receipt=home / "r.json", home=home)
    assert [problem.path.name for problem in done.left] == ["pairs.jsonl"]
    assert [state.exists() for state in states] == [False, True]
    assert list(cache.get(texts, list(said), 3)) == ["kept"]
    for caption in GONE[0].captions:
        assert key(texts, caption) not in cache.path.read_bytes()
        assert said[caption].tobytes() not in cache.path.read_bytes()
    (home / "cache/texts.sqlite").write_bytes(b"no database at all, but long enough to be looked at")
    with pytest.raises(AsifError, match="cannot be deleted"):
        purge_pairs("toy", [IDS[0]], home=home)
    assert IDS[0] not in [pair.id for pair in Store(home).open("toy").pairs(0)]  # nothing was deleted: run it again
    cache.path.unlink()
    assert purge_pairs("toy", [IDS[0]], home=home).swept.versions


# ---- the command line


def test_commands(home: Path, cli: Cli, tmp_path: Path) -> None:
    publish(home)
    removed, later, purged = (tmp_path / f"{name}.json" for name in ("removed", "later", "purged"))
    assert cli("anchors", "remove", "toy", "--id", NAMES[0], "--receipt", removed, "--dry-run").code == 2
    done = cli("anchors", "remove", "toy", "--id", NAMES[0], "--receipt", removed, "--json")
    assert done.json["receipt"] == str(removed) and removed.exists()
    assert cli("anchors", "remove", "toy", "--id", NAMES[1], "--receipt", removed).code == 2
    assert cli("anchors", "receipt", "toy", later).code == 0 and later.read_bytes() == removed.read_bytes()
    assert cli("anchors", "receipt", "toy", later).code == 2
    found = cli("anchors", "verify", "toy", "--receipt", removed, "--json").json
    assert found["problems"] == [] and found["receipts"][0]["removed"] == 1 and "searched" not in found
    assert cli("anchors", "remove", "toy", "--id", NAMES[0], "--purge", "--receipt", purged).code == 0
    text = cli("anchors", "verify", "toy", "--receipt", removed, "--receipt", purged)
    assert text.code == 0 and "1 more were erased from older ones" in text.out and "searched: " in text.out
    found = cli("anchors", "verify", "toy", "--receipt", purged, "--json").json
    assert found["receipts"][0]["purged"] and found["searched"]["files"] > 4
    strays = [home / "stray", home / "anchors/toy/blocks/stray"]
    for stray in strays:
        stray.write_bytes(row_hash(GONE[0]))
    bad = cli("anchors", "verify", "toy", "--receipt", purged, "--json")
    assert bad.code == 5 and len(bad.json["problems"]) == 3 and str(strays[0]) in " ".join(bad.json["problems"])
    assert f"wrong: {strays[0]}: still holds" in cli("anchors", "verify", "toy", "--receipt", purged).out
    purged.write_bytes(purged.read_bytes().replace(b'"bits":1', b'"bits":0'))
    assert cli("anchors", "verify", "toy", "--receipt", purged).code == 5
    assert cli("anchors", "verify", "toy", "--receipt", tmp_path / "none.json").code == 2
