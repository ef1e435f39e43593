"""A set beside the pairs it was built from: nothing is encoded, and a build of what is left has its digest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.build_fakes import FakeImages, FakeTexts, ListSource, build_set, list_source, some_rows, write_parquet
from support.running import Cli

from asif.anchorset import Store
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.building import Tolerance
from asif.building.expected_digest import compare_source
from asif.encoders.text_cache import TextCache
from asif.engine import verify_removal
from asif.errors import IntegrityError
from asif.pairs import Reject, open_pairs
from asif.pairs.records import write_records

ROWS: list[tuple[str | None, bytes, tuple[str, ...]]] = [
    *some_rows(20),
    ("id-bad", b"bad image", ("x",)),
    ("id-odd", b"odd image", ("x",)),
    ("id-003", b"another of that id", ("y", "z")),
    ("id-twin", b"image 4", ("caption 4",)),
    (None, b"nameless", ("w",)),
    (None, b"nameless", ("w",)),
    (None, b"bad nameless", ("w",)),
    *some_rows(2),
]
"""With a bad image, a bad vector, an id used twice, equal content, pairs without ids, and rows that come twice."""


def source(rows: list[tuple[str | None, bytes, tuple[str, ...]]]) -> ListSource:
    """Give pairs, and two rows that are none."""
    lost = [Reject(len(rows), None, "caption is empty"), Reject(len(rows) + 1, "id-no", "status: 404")]
    return ListSource([*list_source(*rows).items, *lost])


def publish(home: Path, rows: Any = ROWS, **options: Any) -> Any:
    images = FakeImages(odd={b"odd image": [0.0] * 6})
    return build_set(source(rows), home, images, max_bad_rows=Tolerance(number=99), **options).anchors


@pytest.mark.parametrize("captions", ["mean", "first", "all"])
@pytest.mark.parametrize("dedup", ["exact", "keep"])
def test_a_set_is_what_its_pairs_are_built_into(home: Path, captions: str, dedup: str) -> None:
    rows = [row for row in ROWS if dedup == "exact" or row[0]]  # with `keep`, pairs without ids are named by their rows
    anchors = publish(home, rows, captions=captions, dedup=dedup)
    seen: list[int] = []
    found = compare_source(source(rows), anchors, progress=seen.append)
    assert (found.missing, found.more, found.digest, found.pairs) == ((), (), anchors.digest, anchors.count)
    assert found.rejected >= 5 and seen == list(range(1, len(rows) + 3))
    turned = compare_source(ListSource(source(rows).items[::-1]), anchors)
    assert (turned.digest, turned.missing) == (anchors.digest, ())


def test_what_differs_is_told(home: Path) -> None:
    anchors = publish(home)
    changed: list[Any] = [
        *ROWS[:2],
        ("id-002", b"image 2", ("other words",)),
        *ROWS[4:],
        ("new", b"image 99", ("new",)),
    ]
    found = compare_source(source(changed), anchors)
    assert found.missing == ("id-002", "new") and found.digest != anchors.digest
    assert found.more == ("id-002", "id-003")
    assert compare_source(source(ROWS), anchors, limit=4).more[1:3] == ("id-004", "id-005")
    nothing = compare_source(ListSource([]), anchors)
    assert len(nothing.more) == anchors.count and nothing.pairs == 0


def test_a_reject_excuses_one_row_alone(home: Path) -> None:
    """A pair that was tampered out of the set is not excused by another that has its id."""
    publish(home)
    store = Store(home)
    found = compare_source(source(ROWS), store.remove("toy", ["id-003"]))
    assert found.missing == ("id-003",)
    twice = source([*ROWS, ("id-bad", b"good after all", ("x",))])
    assert compare_source(twice, store.open("toy@1")).missing == ("id-bad",)


def test_removed_pairs_are_taken_off(home: Path) -> None:
    publish(home)
    anchors = Store(home).remove("toy", ["id-004", "id-005", "id-007"], receipt=home / "r.json")
    gone = read_receipt(home / "r.json").all_removed
    found = compare_source(source(ROWS), anchors, gone)
    assert (found.digest, found.missing, found.more) == (anchors.digest, (), ())
    assert sorted(record.id for record in found.removed.values()) == ["id-004", "id-005", "id-007"]
    without = [row for row in ROWS if row[0] not in ("id-004", "id-005", "id-007")]
    left = compare_source(source(without), anchors, gone)  # the source has been cleaned
    assert (left.digest, dict(left.removed)) == (anchors.digest, {})
    captions, images = found.find_traces(frozenset(gone))
    assert captions == {"caption 4", "caption 5", "caption 7"}  # "ein Bär" belongs to others too
    assert images == {hashlib.sha256(b"image %d" % number).hexdigest() for number in (4, 5, 7)}
    assert found.find_traces(()) == (frozenset(), frozenset())


def test_vectors_are_compared_by_their_bytes(home: Path, tmp_path: Path) -> None:
    vectors = [[0.5, 0.25], [0.1, -1.0], [3.0, 4.0]]
    table = {
        "id": ["a", "b", "c"],
        "caption": ["x", "y", "z"],
        "image_embedding": pa.array(vectors, pa.list_(pa.float32(), 2)),
        "text_embedding": pa.array(vectors, pa.list_(pa.float32(), 2)),
    }
    pq.write_table(pa.table(table), tmp_path / "v.parquet")
    pairs = open_pairs(tmp_path / "v.parquet")
    anchors = build_set(pairs, home, FakeImages(dim=2), FakeTexts(dim=2)).anchors
    assert compare_source(pairs, anchors).digest == anchors.digest
    assert np.concatenate(anchors.blocks("image")).shape == (3, 2)


# ---- with a receipt, on the command line


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    rows = [row for row in ROWS if row[0] not in (None, "id-odd")]
    ids, images, captions = (list(column) for column in zip(*rows, strict=True))
    return write_parquet(tmp_path / "p.parquet", images, captions, id=ids, licence=["CC0"] * len(rows))


def test_commands(home: Path, cli: Cli, parquet: Path, tmp_path: Path) -> None:
    build_set(open_pairs(parquet), home, max_bad_rows=Tolerance(number=9))
    assert cli("anchors", "verify", "toy", "--limit", 3).code == 2
    found = cli("anchors", "verify", "toy", "--against", parquet, "--json")
    assert found.code == 0 and found.json["against"]["missing"] == [] and found.json["against"]["removed"] == 0
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    cli("anchors", "remove", "toy", "--id", "id-006", "--receipt", one)
    cli("anchors", "remove", "toy", "--id", "id-008", "--purge", "--receipt", two)
    bad = cli("anchors", "verify", "toy", "--against", parquet, "--receipt", one)
    assert bad.code == 5 and "missing: 1 (id-008)" in bad.out and "lacks 1 of the pairs" in bad.err
    good = cli("anchors", "verify", "toy", "--against", parquet, "--receipt", one, "--receipt", two)
    assert good.code == 0 and "against: 18 pairs, besides 2 that were removed and 3 rejected" in good.out
    shorter = cli("anchors", "verify", "toy", "--against", parquet, "--limit", 10, "--json")
    assert shorter.code == 5 and len(shorter.json["against"]["more"]) == 10


def test_words_of_purged_pairs_are_found(home: Path, parquet: Path, tmp_path: Path) -> None:
    """What a purge could not know of: captions and images alone, without the rest of the pair."""
    pairs = open_pairs(parquet)
    anchors = build_set(pairs, home, max_bad_rows=Tolerance(number=9)).anchors
    store = Store(home)
    store.purge("toy", ["id-008"], receipt=tmp_path / "r.json")
    receipts = [read_receipt(tmp_path / "r.json")]
    assert verify_removal("toy", receipts, pairs, home=home).problems == ()
    (home / "words.txt").write_text("they said: caption 8")
    (home / "image.json").write_text(hashlib.sha256(b"image 8").hexdigest())
    (record,) = store.open("toy").records([7])
    write_records(home / "t.parquet", [record, replace(record, captions=("caption 8",))])
    TextCache(home / "cache" / "texts.sqlite").put(
        anchors.fingerprint("text").digest, {"caption 8": np.ones(4, np.float32), "caption 7": np.ones(4, np.float32)}
    )
    found = verify_removal("toy", receipts, pairs, home=home)
    assert sorted(problem.path.name for problem in found.problems) == [
        *("image.json", "t.parquet", "texts.sqlite", "words.txt")
    ]
    with pytest.raises(IntegrityError, match="and 3 more"):
        found.raise_if_bad()
    assert verify_removal("toy", receipts, home=home).problems == ()  # without the pairs there is nothing to look for
    (home / "cache" / "texts.sqlite").write_bytes(b"no database, whatever it is called, for sure")
    found = verify_removal("toy", receipts, pairs, home=home)
    assert any("cannot be read" in problem.what for problem in found.problems)
