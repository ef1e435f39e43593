"""What was changed, swapped, linked, missing or made by strangers: found, named, never executed (P9-P11, P15, P27)."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, dense, files, pairs
from support.paths import ROOT

from asif.anchorset import Manifest, Store
from asif.anchorset.format import verify
from asif.anchorset.format.atomic_io import hash_file
from asif.anchorset.format.blocks import make_block, read_block, sum_rows, write_block
from asif.anchorset.format.checksummed_json import seal
from asif.anchorset.format.row_hash import hash_rows
from asif.errors import IntegrityError, NotFound, UnknownFormat
from asif.pairs.pair import Reject
from asif.pairs.records import read_records, write_records


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold two versions with rejects, one of them in float32."""
    root = tmp_path_factory.mktemp("pristine")
    build(root, [*pairs(6), Reject(6, "x", "image is null")])
    build(root, [*pairs(9), Reject(9, None, "caption is empty")], dtype="float32")
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """Hold a copy to spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "store"))


def test_the_pristine_store_is_sound(root: Path) -> None:
    assert Store(root).verify("toy").problems == ()
    assert len(files(root)) == 9
    Store(root).verify("toy").raise_if_bad()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_any_changed_byte_of_a_manifest_is_found(root: Path) -> None:
    (data, *_) = [path.read_bytes() for path in files(root / "anchors/toy/versions")]
    for at in range(len(data)):
        for flip in (1, 0x20):
            with pytest.raises(IntegrityError):
                Manifest.from_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], "here")


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


def reseal(folder: Path, change: Callable[[dict[str, Any]], Any], version: str = "") -> Path:
    """Rewrite the newest manifest with a change and a checksum that fits."""
    path = files(folder / "versions")[-1]
    fields = json.loads(path.read_bytes())
    fields.pop("checksum")
    change(fields)
    path.write_bytes(seal(fields))
    return path


STRANGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "count": lambda m: m.update(count=8),
    "rows_in": lambda m: m.update(rows_in=99),
    "a boolean": lambda m: m.update(rejected=True),
    "a float": lambda m: m.update(count=9.0),
    "rejects": lambda m: m.update(rejects=None),
    "dtype": lambda m: m.update(dtype="object"),
    "captions": lambda m: m.update(captions="median"),
    "dims": lambda m: m["dims"].update(image=0),
    "huge dims": lambda m: m["dims"].update(image=1 << 70),
    "other dims": lambda m: m["dims"].update(image=7),
    "name": lambda m: m.update(name="../x"),
    "another name": lambda m: m.update(name="other"),
    "parent": lambda m: m.update(parent="../../x"),
    "a path for a block": lambda m: m["blocks"][0].update(sha256="../../../../etc/passwd"),
    "a path for pairs": lambda m: m["blocks"][0]["pairs"].update(sha256="/etc/passwd"),
    "a path for rejects": lambda m: m["rejects"].update(sha256="../aliases"),
    "rows": lambda m: m["blocks"][0].update(rows=0),
    "size": lambda m: m["blocks"][0].update(size=-1),
    "no blocks": lambda m: m.update(blocks=[], count=0),
    "blocks": lambda m: m.update(blocks={}),
    "block": lambda m: m.update(blocks=["x"]),
    "encoders": lambda m: m.update(encoders=[]),
    "fingerprint": lambda m: m["encoders"]["text"].update(fingerprint="x"),
    "seq": lambda m: m.update(seq=7),
    "digest": lambda m: m.update(digest="0" * 64),
    "missing": lambda m: m.pop("operation"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_manifest_is_refused(root: Path, name: str) -> None:
    path = reseal(root / "anchors/toy", STRANGE[name])
    with pytest.raises(IntegrityError) as caught:
        Store(root).open("toy")
    assert not isinstance(caught.value, UnknownFormat)
    assert caught.value.exit_code == 5
    assert any(problem.path in (path, *files(root)) for problem in Store(root).verify("toy").problems)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"nul", b'{"format":1', b"\xff", b"[" * 100_000, b'{"format":NaN}', b'{"a":"\\ud800"}', b"{}"]
)
def test_what_is_no_manifest_is_refused(root: Path, data: bytes) -> None:
    files(root / "anchors/toy/versions")[-1].write_bytes(data)
    with pytest.raises(IntegrityError):
        Store(root).open("toy")
    assert Store(root).verify("toy").problems


FUTURE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda m: (m.clear(), m.update(format=2, whatever=[1])),
    "feature": lambda m: (m.update(features=["holograms"]), m.pop("blocks")),
}


@pytest.mark.parametrize("name", FUTURE)
def test_a_newer_format_or_feature_is_refused_before_anything_else(root: Path, name: str) -> None:
    reseal(root / "anchors/toy", FUTURE[name])
    with pytest.raises(UnknownFormat, match="upgrade asif") as caught:
        Store(root).open("toy")
    assert caught.value.exit_code == 5
    assert Store(root).open("toy@1").count == 6  # the older version is readable still
    (entry,) = Store(root).sets()
    assert entry.error is not None
    assert "upgrade asif" in entry.error


def test_fields_of_a_later_asif_do_not_matter(root: Path) -> None:
    digest = Store(root).open("toy").digest
    reseal(root / "anchors/toy", lambda m: m.update(later={"field": 1}))
    assert Store(root).open("toy").digest == digest
    assert Store(root).verify("toy").problems == ()


def forge(folder: Path, spoil: str) -> None:
    """Spoil the meaning of the newest version while every sha256 fits."""
    path = files(folder / "versions")[-1]
    manifest = Manifest.from_bytes(path.read_bytes(), "here")
    (entry,) = manifest.blocks
    old = read_block(folder / f"blocks/{entry.sha256}.safetensors", entry.rows, manifest.dims, manifest.dtype)
    records = read_records(folder / f"pairs/{entry.pairs.sha256}.parquet")
    image, text, hashes = old.image.copy(), old.text.copy(), old.row_hash
    if spoil in ("nan", "zero"):
        image[3] = np.nan if spoil == "nan" else 0
    if spoil == "order":
        image, text, records = image[::-1], text[::-1], records[::-1]
        hashes = hash_rows(records)
    if spoil == "pairs":
        records[2] = dataclasses.replace(records[2], captions=("forged",))
    if spoil == "forged hashes":
        records[2] = dataclasses.replace(records[2], captions=("forged",))
        hashes = hash_rows(records)
    block = make_block(image, text, hashes)
    if spoil == "sum":
        block = dataclasses.replace(block, image_sum=block.image_sum + 1e-6)
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
    (root / "anchors/toy/aliases.json").write_bytes(seal({"aliases": aliases}))
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
    (sets / "dangling/aliases.json").write_bytes(seal({"aliases": {"current": "000009-0123456789ab"}}))
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


def test_a_pickle_in_place_of_a_block_is_refused(root: Path, tmp_path: Path) -> None:
    """Let its size, sha256 and manifest fit, as a malicious archive would."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    folder = root / "anchors/toy"
    opened = Store(root).open("toy")
    (entry,) = opened.manifest.blocks
    size = entry.size
    payload = pickle.dumps(Evil())
    for name, data in {"pickle": payload, "padded": payload + b"\0" * (size - len(payload)), "zip": b"PK\3\4"}.items():
        (folder / "block").write_bytes(data)
        sha256, length = hash_file(folder / "block")
        (folder / "block").rename(folder / f"blocks/{sha256}.safetensors")
        reseal(folder, lambda m, found=(sha256, length): m["blocks"][0].update(sha256=found[0], size=found[1]))  # type: ignore[misc]
        with pytest.raises(IntegrityError, match="begins with"):
            Store(root).open("toy")
        assert any("begins with" in str(problem) for problem in Store(root).verify("toy@2").problems), name
    assert not (tmp_path / "executed").exists()


AUDIT = """
import sys
from pathlib import Path
import ml_dtypes, pyarrow.parquet
from asif.anchorset import Store
store = Store(Path(sys.argv[1]))
def read():
    for entry in store.sets():
        for version in ("1", "2"):
            with store.open(f"{entry.name}@{version}") as opened:
                opened.blocks("image")[0].sum(), opened.mean("text"), opened.records(range(opened.count))
        assert store.verify(entry.name).problems == ()
read()  # modules that are opened late are loaded now
events = []
sys.addaudithook(lambda event, _: events.append(event))
read()
bad = ("exec", "compile", "import", "pickle", "marshal", "subprocess", "os.system", "os.exec", "os.posix_spawn",
       "os.fork", "ctypes", "socket", "os.mkdir", "os.rename", "os.remove", "shutil")
print(sorted({event for event in events if event.startswith(bad)}), "open" in events, "mmap.__new__" in events)
"""


def test_reading_executes_nothing(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-W", "error", "-c", AUDIT, str(root)]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[] True True"


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {str(path): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {path: (stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in found.items()}


def read_everything(root: Path) -> None:
    store = Store(root)
    opened = store.open("toy")
    assert dense(opened, "image").shape == (9, 6)
    assert len(opened.records(range(9))) == 9
    assert store.verify("toy").problems == ()
    assert store.sets()[0].count == 9


def test_reading_changes_nothing(root: Path) -> None:
    before = tree(root)
    read_everything(root)
    assert tree(root) == before


@pytest.fixture
def read_only(root: Path, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "read-only"
    place.mkdir()
    mounts = [["mount", "--bind", str(root), str(place)], ["mount", "-o", "remount,bind,ro", str(place)]]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a folder read-only")
    if any(subprocess.run(mount, capture_output=True, check=False).returncode for mount in mounts):
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_store_can_be_read(read_only: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        (read_only / "x").write_text("")
    read_everything(read_only)


def test_sums_are_exact_in_float64(root: Path) -> None:
    opened = Store(root).open("toy@1")
    (image,) = opened.blocks("image")
    slow = [float(sum(float(value) for value in column)) for column in image.T]
    assert sum_rows(image).tolist() == slow
    assert (opened.mean("image") * opened.count).tolist() == pytest.approx(slow, abs=1e-15)
