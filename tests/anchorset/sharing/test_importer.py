"""Import into a store: existing sets, names, links, full disks, killed imports."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from support.anchorset_kills import needs_fork, run_killed_builds
from support.anchorset_sets import build, files, pairs, short_blocks
from support.bundles import exported, imported, left
from support.edited_sets import EVERY, IDS, assert_same_set
from support.running import Cli

from asif.anchorset import Store
from asif.anchorset.format.locks import acquire_lock
from asif.errors import Busy, Conflict, EncoderMismatch, InputRefused, IntegrityError, OutOfSpace, UsageError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be short."""
    short_blocks(monkeypatch, 16)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("small")
    build(home, pairs(5))
    return exported(home)


def test_an_existing_set_is_touched_with_consent_alone(home: Path, tmp_path: Path) -> None:
    first = build(home, EVERY[:30])
    build(tmp_path, EVERY)
    data = exported(tmp_path)
    with pytest.raises(UsageError, match="already"):
        imported(home, data)
    assert Store(home).open("toy").version == first.version
    second = imported(home, data, "toy")
    assert (second.ref, second.manifest.parent) == ("toy@2", first.version)
    assert_same_set(Store(home).open("toy"), Store(tmp_path).open("toy"))
    assert imported(home, data, "toy").version == imported(home, data).version == second.version
    Store(home).verify("toy").raise_if_bad()
    Store(home).rollback("toy")
    assert_same_set(Store(home).open("toy"), first)


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
    held = acquire_lock(place / ".lock", lambda: Busy("", "", ""))
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

    monkeypatch.setattr("asif.anchorset.sharing.importer.os.rename", made_first)
    with pytest.raises(Conflict, match="meanwhile"):
        imported(home, archive)
    assert Store(home).open("toy").count == 3


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
    with pytest.raises(OutOfSpace, match="5,000 are free") as caught:
        imported(home, archive)
    assert "room for all of it" in caught.value.expected and caught.value.exit_code == 6
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


@pytest.mark.slow
@needs_fork
def test_an_import_that_is_killed_leaves_nothing_half(tmp_path: Path) -> None:
    results = run_killed_builds(tmp_path, "imports")
    for kind in ("new", "version"):
        some = [result for result in results if result["import"] == kind]
        assert [result["killed"] for result in some] == [-9] * (len(some) - 1) + [0] and len(some) > 6
        for result in some:
            assert result["again"] == 0 and result["left"] == [], result
            assert all("stray" in problem for problem in result["seen"][1:]), result
            assert len(result["after"]) == 1 and result["after"] == some[-1]["after"], result
        assert len({result["seen"][0] for result in some}) == 2  # the old state, and the new one
