"""Residue of purged pairs is found in any file of the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.anchorset_sets import build, files
from support.edited_sets import EVERY, publish
from support.receipt_cases import GONE, NAMES, hashes

from asif.anchorset import Store
from asif.anchorset.format.row_hash import hash_record, serialize_record
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import read_receipt
from asif.anchorset.receipts.residue_scan import ResidueTargets, list_files, scan_files
from asif.pairs.records import write_records


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
    "a hash": _written("note.bin", b"x" * 13 + hash_record(GONE[0]) + b"y"),
    "a hash in words": _written("cache/log.txt", b"purged " + hash_record(GONE[1]).hex().encode()),
    "a record": _written(
        "cache/tokens/toy/pairs.jsonl", serialize_record(EVERY[0]) + b"\n" + serialize_record(GONE[0]) + b"\n"
    ),
    "a cut block": _written("cut.safetensors", b"\0" * 100 + hash_record(GONE[0])),
    "a broken table": _written("broken.parquet", b"PAR1" + hash_record(GONE[0]) + b"PAR1"),
    "another set": _another_set,
    "a build in progress": _a_build_in_progress,
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_what_is_left_anywhere_is_named(home: Path, purged: tuple[Path, Receipt], plant: Plant) -> None:
    copy, receipt = purged
    place = plant(copy, home)
    found = Store(home).check_receipts("toy", [receipt])
    assert place in [problem.path for problem in found.problems]
    assert found.residue is not None and found.residue.files == len([p for p in home.rglob("*") if p.is_file()])
    innocent = scan_files(
        [path for path in list_files(home) if "toy" in path.parts and path != place], ResidueTargets(hashes({1}))
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
    assert found.problems == () and found.residue is not None
    assert list(found.residue.equal_embeddings.values()) == [2]


def test_links_are_told_and_unreadable_files_are_wrong(
    home: Path, purged: tuple[Path, Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, receipt = purged
    (home / "elsewhere").symlink_to(copy)
    found = Store(home).check_receipts("toy", [receipt])
    assert found.residue is not None and found.residue.unread == (home / "elsewhere",)
    monkeypatch.setattr("asif.anchorset.receipts.residue_scan.try_read_block", _refuse)
    assert any("cannot be read" in problem.what for problem in Store(home).check_receipts("toy", [receipt]).problems)


def _refuse(path: Path) -> None:
    raise PermissionError(13, "Permission denied")
