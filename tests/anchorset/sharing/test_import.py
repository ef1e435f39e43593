"""Export and import: what comes back is what left, without what was removed; anything else is refused whole (P20)."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anchorset.edit.test_transaction import same
from anchorset.write.test_crash import killed_builds, needs_fork
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.anchorset_sets import build, files, pairs, short_blocks
from support.running import Cli

from asif.anchorset import AnchorSet, Manifest, Store
from asif.anchorset.format.atomic_io import claim
from asif.anchorset.format.row_hash import row_hash
from asif.anchorset.sharing.tar_archive import Archive, archive_size, write_archive
from asif.errors import Busy, Conflict, EncoderMismatch, InputRefused, IntegrityError, OutOfSpace, UsageError
from asif.pairs.pair import PairRecord, Reject
from asif.pairs.records import write_records

EVERY = sorted(pairs(60), key=lambda pair: pair.id)
IDS = [pair.id for pair in EVERY]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


def exported(home: Path, ref: str = "toy") -> bytes:
    out = io.BytesIO()
    with Store(home).packed(ref) as parcel:
        write_archive(out, parcel, lambda done: None)
        assert len(out.getvalue()) == archive_size(parcel.manifest)
    return out.getvalue()


def imported(home: Path, data: bytes, name: str | None = None) -> AnchorSet:
    return Store(home).receive(Archive(io.BytesIO(data), "a.tar"), name).anchors


def left(home: Path) -> list[str]:
    """Return what lies in a store but the folder in which things come in, which is empty."""
    assert files(home / "anchors" / ".incoming") == []
    return [path.name for path in sorted(home.glob("anchors/[!.]*"))]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("small")
    build(home, pairs(5))
    return exported(home)


# ---- what leaves comes back


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gone=st.lists(st.sampled_from(IDS), max_size=25), dtype=st.sampled_from(["float16", "float32", "bfloat16"]))
def test_a_set_comes_back_without_what_was_removed(gone: list[str], dtype: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        home, other = Path(place) / "home", Path(place) / "other"
        made = build(home, [*EVERY, Reject(60, "bad", "image is null")], dtype=dtype)
        if gone:
            made = Store(home).remove("toy", gone)
        data = exported(home)
        assert data == exported(home) == exported(home, f"toy@{made.version}")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            content = b"".join(tar.extractfile(one).read() for one in tar)  # type: ignore[union-attr]
        for pair in EVERY:
            assert (row_hash(pair) in content) == (pair.id not in gone)
        found = imported(other, data)
        same(found, made)
        assert [found.manifest.encoders, found.manifest.captions] == [made.manifest.encoders, made.manifest.captions]
        assert (found.manifest.rows_in, found.manifest.rejected, found.manifest.parent) == (found.count, 0, None)
        assert found.manifest.operation["made_by"] == made.manifest.operation
        Store(other).verify("toy").raise_if_bad()
        assert left(other) == ["toy"]
        assert Store(other).open("toy").records(range(found.count)) == [pair for pair in EVERY if pair.id not in gone]


def test_the_command_line(home: Path, cli: Cli, tmp_path: Path) -> None:
    made = build(home, EVERY)
    file = tmp_path / "toy.tar"
    ran = cli("anchors", "export", "toy", file, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json == {
        "name": "toy", "version": made.version, "digest": made.digest, "anchors": 60, "file": str(file),
        "bytes": file.stat().st_size,
    }  # fmt: skip
    assert file.read_bytes() == exported(home)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    other = tmp_path / "other"
    ran = cli("anchors", "import", file, "--home", other, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert (ran.json["published"], ran.json["digest"], ran.json["operation"]["from"]) == (True, made.digest, "toy.tar")
    ran = cli("anchors", "import", file, "--home", other, "--json")
    assert ran.code == 0 and ran.json["published"] is False
    ran = cli("anchors", "import", "-", "--home", other, "--name", "piped", stdin=file.read_bytes())
    assert ran.code == 0 and ran.out.startswith("piped@1: 60 anchors from stdin")
    ran = cli("anchors", "list", "--home", other, "--json")
    assert [line["name"] for line in ran.lines] == ["piped", "toy"]
    assert "one of: piped, toy\n" in cli("anchors", "info", "none", "--home", other).err
    ran = cli("anchors", "log", "toy", "--home", other, "--json")
    assert [line["operation"]["kind"] for line in ran.lines] == ["import"]
    ran = cli("anchors", "export", "toy", file)
    assert ran.code == 2 and "exists" in ran.err
    assert cli("anchors", "export", "toy", tmp_path / "none" / "x.tar").code == 2
    assert cli("anchors", "export", "toy", "-", "--json").code == 2
    assert cli("anchors", "import", tmp_path / "none.tar").code == 2
    assert cli("anchors", "import", tmp_path).code == 2


def test_where_the_pairs_lay_is_nobodys_business(home: Path) -> None:
    made = build(home, EVERY[:3])
    operation = {"kind": "build", "source": "/home/ann/private/pets.parquet", "input": "0" * 64}
    manifest = replace(made.manifest, operation=operation, seq=2, parent=made.version)
    (home / "anchors/toy/versions" / f"{manifest.version}.json").write_bytes(manifest.to_bytes())
    data = exported(home, "toy@2")
    assert b"ann" not in data and b"pets.parquet" in data and made.version.encode() not in data


def test_profiles_come_along(home: Path, tmp_path: Path) -> None:
    build(home, EVERY)
    Store(home).keep_profile("toy", "classify", {"aligner": "cca(lambda=3)"}, "0")
    assert imported(tmp_path, exported(home)).profiles == {"classify": {"aligner": "cca(lambda=3)"}}


def test_a_damaged_set_is_not_exported(home: Path, cli: Cli, tmp_path: Path) -> None:
    made = build(home, EVERY)
    block = home / "anchors/toy/blocks" / f"{made.manifest.blocks[1].sha256}.safetensors"
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    ran = cli("anchors", "export", "toy", tmp_path / "toy.tar")
    assert ran.code == 5 and block.name in ran.err
    assert [path for path in tmp_path.iterdir() if path != home] == []


# ---- sets that are there


def test_an_existing_set_is_touched_with_consent_alone(home: Path, tmp_path: Path) -> None:
    first = build(home, EVERY[:30])
    build(tmp_path, EVERY)
    data = exported(tmp_path)
    with pytest.raises(UsageError, match="already"):
        imported(home, data)
    assert Store(home).open("toy").version == first.version
    second = imported(home, data, "toy")
    assert (second.ref, second.manifest.parent) == ("toy@2", first.version)
    same(Store(home).open("toy"), Store(tmp_path).open("toy"))
    assert imported(home, data, "toy").version == imported(home, data).version == second.version
    Store(home).verify("toy").raise_if_bad()
    Store(home).rollback("toy")
    same(Store(home).open("toy"), first)


def test_other_encoders_are_refused(home: Path, tmp_path: Path) -> None:
    from support.engine_sets import make_set

    build(home, EVERY)
    make_set(tmp_path / "x", "toy").close()
    with pytest.raises(EncoderMismatch):
        imported(home, exported(tmp_path / "x"), "toy")
    build(tmp_path / "y", EVERY, dtype="float32")
    with pytest.raises(InputRefused, match="dtype"):
        imported(home, exported(tmp_path / "y"), "toy")
    assert len(Store(home).log("toy")) == 1 and left(home) == ["toy"]


def test_one_comes_in_at_a_time(home: Path, archive: bytes) -> None:
    place = home / "anchors" / ".incoming"
    place.mkdir(parents=True)
    (place / "set").mkdir()
    (place / "set" / "left by a killed one").write_bytes(b"x")
    held = claim(place / ".lock", lambda: Busy("", "", ""))
    with pytest.raises(Busy, match="another anchor set"):
        imported(home, archive)
    assert [path.name for path in files(home)] == ["left by a killed one"]  # it may be at work
    held.release()
    imported(home, archive)
    assert left(home) == ["toy"]


def test_a_set_that_was_made_meanwhile(home: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_first(old: Path, new: Path) -> None:
        monkeypatch.undo()
        build(home, pairs(3))
        os.rename(old, new)

    monkeypatch.setattr("asif.anchorset.sharing.import_.os.rename", made_first)
    with pytest.raises(Conflict, match="meanwhile"):
        imported(home, archive)
    assert Store(home).open("toy").count == 3


# ---- what is not as it was


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused(archive: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(archive) - 1))
    bit = data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as home:
        changed = archive[:at] + bytes([archive[at] ^ 1 << bit]) + archive[at + 1 :]
        with pytest.raises((IntegrityError, InputRefused)) as caught:
            imported(Path(home), changed)
        assert caught.value.exit_code == (3 if at < 100 else 5)  # within the name of the first file
        assert left(Path(home)) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_archive_says_what_is_missing(archive: bytes, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        for end in (1, 511, 513, len(archive) - 1, data.draw(st.integers(1, len(archive) - 1))):
            with pytest.raises(IntegrityError) as caught:
                imported(Path(home), archive[:end])
            assert any(word in caught.value.came for word in ("ends", "not end"))
            assert left(Path(home)) == []
        with pytest.raises(InputRefused, match="is empty"):
            imported(Path(home), b"")


def members(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar.getmembers()]  # type: ignore[union-attr]


def packed(items: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    for info, content in items:
        out.write(info.tobuf(form))
        out.write(content + bytes(-len(content) % 512))
    out.write(bytes(1024))
    return out.getvalue()


def member(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content if kind == tarfile.REGTYPE else b""


STRANGERS = {
    "dots": member("../../x"),
    "dots within": member("anchors/../../x"),
    "absolute": member("/tmp/x"),
    "a symlink": member("anchors/blocks", kind=tarfile.SYMTYPE, link="/tmp"),
    "a hard link": member("anchors/blocks/x", kind=tarfile.LNKTYPE, link="/etc/passwd"),
    "a device": member("anchors/x", kind=tarfile.CHRTYPE),
    "a pipe": member("anchors/x", kind=tarfile.FIFOTYPE),
    "a folder": member("anchors/blocks", kind=tarfile.DIRTYPE),
    "a sparse file": member("anchors/x", kind=tarfile.GNUTYPE_SPARSE),
    "a pax header": member("anchors/x", kind=tarfile.XHDTYPE),
    "a long name": member("x" * 99),
    "a look-alike": member("\u0430nchors/x"),
    "one file more": member("anchors/notes.txt"),
    "NUL": member("anchors/blocks/x\0.safetensors"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("place", ["first", "second", "in place of a block", "last"])
def test_archives_of_strangers(home: Path, archive: bytes, stranger: str, place: str) -> None:
    items = members(archive)
    assert packed(items) == archive
    added: list[Any] = {
        "first": [STRANGERS[stranger], *items],
        "second": [items[0], STRANGERS[stranger], *items[1:]],
        "in place of a block": [items[0], STRANGERS[stranger], *items[2:]],
        "last": [*items, STRANGERS[stranger]],
    }[place]
    with pytest.raises((IntegrityError, InputRefused)) as caught:
        imported(home, packed(added, tarfile.GNU_FORMAT))
    assert caught.value.exit_code == (3 if place == "first" else 5)
    assert left(home) == []
    assert sorted(path.name for path in home.parent.iterdir()) == [home.name]


def test_other_forms_of_the_same_tar(home: Path, archive: bytes) -> None:
    items = members(archive)
    double, swapped = [*items, items[-1]], [items[0], *items[:0:-1]]
    later = [(replace_info(items[0][0], mtime=1), items[0][1]), *items[1:]]
    for other in (double, swapped, later, items[:-1], items[1:]):
        with pytest.raises((IntegrityError, InputRefused)):
            imported(home, packed(other))
    for data in (
        archive + b"x",
        archive + bytes(512),
        archive[:-512],
        b"\x1f\x8b" + archive,
        b"PK" + archive,
        b"no tar",
    ):
        with pytest.raises((IntegrityError, InputRefused)):
            imported(home, data)
    assert left(home) == []


def replace_info(info: tarfile.TarInfo, **changes: Any) -> tarfile.TarInfo:
    return info.replace(**changes, deep=True)


# ---- manifests that lie


def resealed(archive: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Change what the manifest says, and seal it again, as a stranger would."""
    from asif.anchorset.format.checksummed_json import seal

    (info, data), *rest = members(archive)
    fields = json.loads(data)
    del fields["checksum"]
    change(fields)
    sealed = seal(fields)
    return packed([(replace_info(info) if len(sealed) == info.size else member(info.name, sealed)[0], sealed), *rest])


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a name that leads out": lambda m: m.update(name="../x"),
    "a path for a block": lambda m: m["blocks"][0].update(sha256="../../../../etc/passwd"),
    "a huge block": lambda m: m["blocks"][0].update(size=1 << 62),
    "huge dimensions": lambda m: m["dims"].update(image=1 << 40),
    "a table of another size": lambda m: m["blocks"][0]["pairs"].update(size=7),
    "hidden rows": lambda m: (
        m["blocks"][0].update(deleted=[0, 1]),
        m.update(count=4, rows_in=4, features=["deletions"]),
    ),
    "rejects": lambda m: m.update(rejects={"sha256": "0" * 64, "size": 3}, rejected=1, rows_in=6),
    "another digest": lambda m: m.update(digest="0" * 64),
    "another count": lambda m: m.update(count=6, rows_in=6),
    "a block twice": lambda m: (m["blocks"].append(m["blocks"][0]), m.update(count=10, rows_in=10)),
    "other encoders": lambda m: m["encoders"]["image"]["fingerprint"].update(model="evil"),
    "a future format": lambda m: m.update(format=2),
    "an unknown feature": lambda m: m.update(features=["thumbs"]),
}


@pytest.mark.parametrize("lie", LIES)
def test_manifests_that_lie(home: Path, archive: bytes, lie: str) -> None:
    assert resealed(archive, lambda manifest: None) == archive
    with pytest.raises(IntegrityError) as caught:
        imported(home, resealed(archive, LIES[lie]))
    assert ("upgrade" in caught.value.fix) == (lie in ("a future format", "an unknown feature"))
    assert left(home) == []


def with_table(home: Path, write: Callable[[Path], object], change: Callable[[dict[str, Any]], object] = bool) -> bytes:
    """Make an archive whose table of pairs is another file, hashes and all."""
    from asif.anchorset.format.atomic_io import hash_file

    build(home, pairs(5))
    data = exported(home)
    write(home / "table")
    sha256, size = hash_file(home / "table")
    content = (home / "table").read_bytes()
    shutil.rmtree(home)
    lying = resealed(data, lambda m: (m["blocks"][0].update(pairs={"sha256": sha256, "size": size}), change(m)))
    items = members(lying)
    return packed([*items[:2], member(f"anchors/pairs/{sha256}.parquet", content)])


def write_numbers(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    five = list(range(5))
    columns: dict[str, Any] = dict.fromkeys(("id", "image_sha256", "source", "licence", "url"), five)
    pq.write_table(pa.table({**columns, "captions": [[one] for one in five]}), path)


def long(records: list[PairRecord], size: int = 1 << 20) -> list[PairRecord]:
    return [replace(pair, url="x" * size) for pair in records]


TABLES: dict[str, Callable[[Path], object]] = {
    "other pairs": lambda path: write_records(path, pairs(5, start=100)),
    "fewer pairs": lambda path: write_records(path, pairs(4)),
    "no parquet": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n."),
    "columns of numbers": write_numbers,
    "no captions": lambda path: write_records(path, [replace(pair, captions=()) for pair in pairs(5)]),
    "no caption": lambda path: write_records(path, [replace(pair, captions=("a", None)) for pair in pairs(5)]),  # type: ignore[arg-type]
    "one text in all rows": lambda path: write_records(path, long(pairs(5))),
    "a long text": lambda path: write_records(path, [*pairs(4), *long(pairs(1), 3 << 20)]),
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_that_lie(home: Path, tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.pairs.records.LARGEST", 2 << 20)
    data = with_table(tmp_path / "made", TABLES[table])
    assert len(data) < 20_000
    with pytest.raises(IntegrityError):
        imported(home, data)
    assert left(home) == []


# ---- names, links, disks


NAMES = [
    "../../x", "..", "/etc/x", "a/b", "x" * 300, "to\0y", "t\u043ey", "toy\u200b", "TOY", ".incoming", "-", "toy@1",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_cannot_leave_the_store(home: Path, cli: Cli, tmp_path: Path, archive: bytes, name: str) -> None:
    build(home, EVERY)
    (tmp_path / "a.tar").write_bytes(archive)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    commands: list[tuple[str, ...]] = [
        ("anchors", "import", str(tmp_path / "a.tar"), f"--name={name}"),
        ("anchors", "subset", "toy", "--id", IDS[0], f"--name={name}"),
        ("anchors", "merge", "toy", "toy", f"--name={name}"),
        ("anchors", "select", "toy", "--method", "random", "--size", "2", f"--name={name}"),
        ("anchors", "pull", "me/toy", f"--name={name}"),
        ("build-anchors", str(tmp_path), f"--name={name}"),
    ]
    for command in commands:
        ran = cli(*command)
        assert ran.code == 2 and "the anchor set name" in ran.err, (command, ran.err)
    refs: list[tuple[str, ...]] = [
        ("anchors", "export", "--", name, str(tmp_path / "out.tar")),
        ("anchors", "push", "--dry-run", "--", name, "me/toy"),
        ("anchors", "info", "--", name),
        ("anchors", "verify", "--", name),
        ("anchors", "log", "--", name),
        ("anchors", "rollback", "--", name),
        ("anchors", "compact", "--", name),
        ("anchors", "gc", "--keep", "1", "--", name),
        ("anchors", "remove", "--id", IDS[0], "--", name),
        ("anchors", "subset", "--id", IDS[0], "--name", "new", "--", name),
    ]
    for command in refs if name != "toy@1" else []:
        assert cli(*command).code == 2, command
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_links_are_not_followed(home: Path, archive: bytes, tmp_path: Path) -> None:
    (home / "anchors").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (home / "anchors/toy").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="symlink"):
        imported(home, archive)
    (home / "anchors/toy").unlink()
    shutil.rmtree(home / "anchors/.incoming")
    (home / "anchors/.incoming").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="symlink"):
        imported(home, archive)
    assert files(tmp_path / "elsewhere") == []


def test_room_is_looked_for_first(home: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5000))
    with pytest.raises(OutOfSpace, match="5,000 bytes free") as caught:
        imported(home, archive)
    assert "bytes needed" in caught.value.expected and caught.value.exit_code == 6
    assert left(home) == []


def test_a_disk_that_fills_up(home: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail each flush in turn: a new set is there whole or not at all, and nothing else is left."""
    real, count = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        count -= 1
        if count == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for point in range(1, 100):
        count = point
        root = home / str(point)
        try:
            imported(root, archive)
            break
        except OutOfSpace:
            pass
        count = 0
        assert files(root / "anchors" / ".incoming") == []
        if (root / "anchors/toy").exists():
            Store(root).verify("toy").raise_if_bad()
        imported(root, archive)
        Store(root).verify("toy").raise_if_bad()
    assert point > 12


@needs_fork
def test_an_import_that_is_killed_leaves_nothing_half(tmp_path: Path) -> None:
    results = killed_builds(tmp_path, "imports")
    for kind in ("new", "version"):
        some = [result for result in results if result["import"] == kind]
        assert [result["killed"] for result in some] == [-9] * (len(some) - 1) + [0] and len(some) > 6
        for result in some:
            assert result["again"] == 0 and result["left"] == [], result
            assert all("stray" in problem for problem in result["seen"][1:]), result
            assert len(result["after"]) == 1 and result["after"] == some[-1]["after"], result
        assert len({result["seen"][0] for result in some}) == 2  # the old state, and the new one


def test_the_manifest_of_an_archive_is_one(archive: bytes) -> None:
    (info, data), *rest = members(archive)
    manifest = Manifest.from_bytes(data, "here")
    assert [one.name for one, _ in rest] == [
        f"anchors/blocks/{manifest.blocks[0].sha256}.safetensors",
        f"anchors/pairs/{manifest.blocks[0].pairs.sha256}.parquet",
    ]
    assert (info.name, info.mtime, info.uid, info.mode) == ("anchors/manifest.json", 0, 0, 0o644)
    assert isinstance(EVERY[0], PairRecord)
