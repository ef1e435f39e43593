"""What was changed, swapped, linked, missing or made by strangers: found, named, never executed (P9-P11, P15, P27)."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.anchorset_files import reseal
from support.anchorset_sets import build, files, pairs
from support.examples import examples

from asif.anchorset import Manifest, Store, verify
from asif.anchorset.format.atomic_io import hash_file
from asif.anchorset.format.blocks import build_block, read_block, sum_rows, write_block
from asif.anchorset.format.row_hash import hash_records
from asif.errors import IntegrityError, NotFound
from asif.pairs.records import read_records, write_records
from asif.vectors import dump_checksummed


def test_the_pristine_store_is_sound(root: Path) -> None:
    assert Store(root).verify("toy").problems == ()
    assert len(files(root)) == 9
    Store(root).verify("toy").raise_if_bad()


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_found(pristine: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(pristine)))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    try:
        path.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        report = Store(pristine).verify("toy")
        assert any(problem.path == path for problem in report.problems), (path, at, flip)
        with pytest.raises(IntegrityError):
            report.raise_if_bad()
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("spoil", ["cut", "grow", "empty", "remove", "link", "folder", "fifo"])
def test_any_spoiled_file_is_found(root: Path, spoil: str) -> None:
    for number, path in enumerate(files(root)):
        content = path.read_bytes()
        path.unlink()
        if spoil == "link":
            (root / "real").write_bytes(content)
            path.symlink_to(root / "real")
        elif spoil == "folder":
            path.mkdir()
        elif spoil == "fifo":
            os.mkfifo(path)
        elif spoil != "remove":
            path.write_bytes({"cut": content[:-1], "grow": content + b"\n", "empty": b""}[spoil])
        problems = Store(root).verify("toy").problems
        missing_manifest = spoil == "remove" and path.parent.name == "versions"
        assert missing_manifest or any(problem.path == path for problem in problems), (number, path)
        assert problems
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert Store(root).verify("toy").problems == ()


@pytest.mark.parametrize("spoil", ["cut", "remove", "link"])
def test_opening_sees_missing_links_and_sizes(root: Path, spoil: str) -> None:
    store = Store(root)
    opened = store.open("toy")
    for path in files(root):
        content = path.read_bytes()
        path.unlink()
        if spoil == "link":
            (root / "real").write_bytes(content)
            path.symlink_to(root / "real")
        elif spoil == "cut":
            path.write_bytes(content[:-1])
        belongs = any(path.stem in (entry.sha256, entry.pairs.sha256) for entry in opened.manifest.blocks)
        rejected = opened.manifest.rejects
        belongs = belongs or path.stem in (opened.version, "aliases") or (rejected and path.stem == rejected.sha256)
        if belongs:
            with pytest.raises((IntegrityError, NotFound)):
                store.open("toy")
        else:
            assert store.open("toy").digest == opened.digest
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def test_swapped_files_are_found(tmp_path: Path) -> None:
    build(tmp_path, pairs(5))
    build(tmp_path, pairs(5, start=100))
    for kind in ("blocks", "pairs", "versions"):
        first, second = files(tmp_path / "anchors/toy" / kind)
        contents = first.read_bytes(), second.read_bytes()
        first.write_bytes(contents[1])
        second.write_bytes(contents[0])
        assert {problem.path for problem in Store(tmp_path).verify("toy").problems} >= {first, second}
        if kind == "pairs":
            with pytest.raises(IntegrityError):
                Store(tmp_path).open("toy").records([0])
        first.write_bytes(contents[0])
        second.write_bytes(contents[1])
    assert Store(tmp_path).verify("toy").problems == ()


def test_strays_and_linked_folders_are_found(root: Path) -> None:
    folder = root / "anchors/toy"
    for stray in (
        "x",
        "blocks/x",
        "pairs/.tmp-1-2",
        f"rejects/{'0' * 64}.jsonl",
        "versions/000009-0.json",
        "blocks/x/y",
    ):
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).write_bytes(b"")
        (problem,) = Store(root).verify("toy").problems
        assert "stray" in str(problem)
        assert problem.path in ((folder / stray), (folder / stray).parent)
        (folder / stray).unlink()
        if stray.endswith("x/y"):
            (folder / "blocks/x").rmdir()
    for inner in ("blocks", "pairs", "rejects", "versions", "journal"):
        real = root / "real"
        if (folder / inner).exists():
            (folder / inner).rename(real)
        else:
            real.mkdir()
        (folder / inner).symlink_to(real)
        with pytest.raises(IntegrityError, match="symlink"):
            Store(root).open("toy")
        with pytest.raises(IntegrityError, match="symlink"):
            Store(root).journal("toy", {"dtype": "float16"})
        assert any("symlink" in str(problem) for problem in verify(folder).problems)
        (folder / inner).unlink()
        real.rename(folder / inner)
    (folder / "journal").rmdir()
    folder.rename(root / "real")
    folder.symlink_to(root / "real")
    for use in (Store(root).open, Store(root).verify, lambda name: Store(root).journal(name, {"dtype": "float16"})):
        with pytest.raises(IntegrityError, match="symlink"):
            use("toy")
    (entry,) = Store(root).sets()
    assert entry.error is not None
    assert "symlink" in entry.error


def forge(folder: Path, spoil: str) -> None:
    """Spoil the meaning of the newest version while every sha256 fits."""
    path = files(folder / "versions")[-1]
    manifest = Manifest.from_bytes(path.read_bytes(), "here")
    (entry,) = manifest.blocks
    old = read_block(folder / f"blocks/{entry.sha256}.safetensors", entry.rows, manifest.dims, manifest.dtype)
    records = read_records(folder / f"pairs/{entry.pairs.sha256}.parquet")
    image, text, hashes = old.side("image").copy(), old.side("text").copy(), old.row_hash
    if spoil in ("nan", "zero"):
        image[3] = np.nan if spoil == "nan" else 0
    if spoil == "order":
        image, text, records = image[::-1], text[::-1], records[::-1]
        hashes = hash_records(records)
    if spoil == "pairs":
        records[2] = dataclasses.replace(records[2], captions=("forged",))
    if spoil == "forged hashes":
        records[2] = dataclasses.replace(records[2], captions=("forged",))
        hashes = hash_records(records)
    block = build_block({"image": image, "text": text}, hashes)
    if spoil == "sum":
        block = dataclasses.replace(block, sums={**block.sums, "image": block.sum("image") + 1e-6})
    if spoil == "count":
        records = records[:-1]
    write_block(folder / "block", block, manifest.dtype)
    write_records(folder / "pairs.parquet", records)
    for name, kind, suffix, was in (
        ("block", "blocks", "safetensors", entry.sha256),
        ("pairs.parquet", "pairs", "parquet", entry.pairs.sha256),
    ):
        (folder / kind / f"{was}.{suffix}").unlink()
        sha256, size = hash_file(folder / name)
        (folder / name).rename(folder / kind / f"{sha256}.{suffix}")
        found = {"sha256": sha256, "size": size}
        reseal(folder, lambda m, kind=kind, found=found: (  # type: ignore[misc]
            m["blocks"][0] if kind == "blocks" else m["blocks"][0]["pairs"]
        ).update(found))  # fmt: skip


FORGED = {
    "nan": "not finite",
    "zero": "is zero",
    "order": "not in order",
    "pairs": "not those of the block",
    "forged hashes": "set digest",
    "sum": "sum of the image",
    "count": "holds 8 pairs",
}


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("spoil", FORGED)
def test_meaning_is_checked_where_every_sha256_fits(root: Path, spoil: str) -> None:
    forge(root / "anchors/toy", spoil)
    problems = [str(problem) for problem in Store(root).verify("toy").problems]
    assert any(FORGED[spoil] in problem for problem in problems), problems
    assert Store(root).verify("toy@1").problems == ()


def test_forging_nothing_is_sound(root: Path) -> None:
    forge(root / "anchors/toy", "nothing")
    assert Store(root).verify("toy").problems == ()


@pytest.mark.parametrize("aliases", [{"current": "000009-0123456789ab"}, {"current": "../x"}, {"current": 3}, []])
def test_dangling_aliases(root: Path, aliases: Any) -> None:
    (root / "anchors/toy/aliases.json").write_bytes(dump_checksummed({"aliases": aliases}))
    with pytest.raises(IntegrityError):
        Store(root).open("toy")
    assert Store(root).open("toy@1").count == 6 if isinstance(aliases, dict) else True
    assert any(problem.path.name == "aliases.json" for problem in Store(root).verify("toy").problems)
    if not isinstance(aliases, dict):
        with pytest.raises(IntegrityError):  # before hours of work, not after
            Store(root).journal("toy", {"dtype": "float16"})


def test_one_broken_set_never_stops_the_others(root: Path) -> None:
    sets = root / "anchors"
    for name in ("dangling", "future", "garbage", "empty", "linked", "Bad Name", "cut"):
        shutil.copytree(sets / "toy", sets / name)
    (sets / "dangling/aliases.json").write_bytes(dump_checksummed({"aliases": {"current": "000009-0123456789ab"}}))
    reseal(sets / "future", lambda m: m.update(format=2))
    (sets / "garbage/aliases.json").write_bytes(b"\x80garbage")
    shutil.rmtree(sets / "empty")
    (sets / "empty").mkdir()
    shutil.rmtree(sets / "linked")
    (sets / "linked").symlink_to(sets / "toy")
    files(sets / "cut/versions")[-1].write_bytes(b"{")
    (sets / "a-file").write_text("x")
    build(root, pairs(3), name="zebra")
    entries = {entry.name: entry for entry in Store(root).sets()}
    assert {name for name, entry in entries.items() if entry.error is None} == {"toy", "zebra"}
    assert {name for name, entry in entries.items() if entry.error} == {
        "dangling", "future", "garbage", "empty", "linked", "Bad Name", "cut",
    }  # fmt: skip
    assert Store(root).open("zebra").count == 3
    assert entries["toy"].version == Store(root).open("toy").version


def test_sums_are_exact_in_float64(root: Path) -> None:
    opened = Store(root).open("toy@1")
    (image,) = opened.blocks("image")
    slow = [float(sum(float(value) for value in column)) for column in image.T]
    assert sum_rows(image).tolist() == slow
    assert (opened.mean("image") * opened.count).tolist() == pytest.approx(slow, abs=1e-15)
