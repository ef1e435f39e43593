"""Killed builds and full disks: a reader sees a whole version or none, and running again finishes (P1, P2)."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.anchorset_kills import needs_fork, run_killed_builds
from support.anchorset_sets import build, fill, finish, pairs

from asif.anchorset import Store
from asif.errors import AsifError, OutOfSpace

ORDER = ["opening", "appending", "publishing"]


def check(result: dict[str, Any], old: str, new: str) -> None:
    """Hold one killed build to P1."""
    assert result["again"] == 0, result
    assert result["seen"][0] in (old, new), result  # what was readable was whole
    assert all("stray" in problem for problem in result["seen"][1:]), result
    assert result["after"] == [new], result  # and verify found nothing
    assert result["answers"][-1].split()[0::2] == ["published", new], result
    assert result["answers"][-1].split()[1] == f"000002-{new[:12]}", result  # adopted, never doubled
    assert result["left"] == [], result


def expected(tmp_path: Path) -> tuple[str, str]:
    from support.anchorset_crash import ITEMS

    return build(tmp_path / "old", pairs(3)).digest, build(tmp_path / "new", ITEMS).digest


@pytest.mark.slow
@needs_fork
def test_a_build_killed_at_any_change_to_the_disk_can_be_finished(tmp_path: Path) -> None:
    old, new = expected(tmp_path)
    results = run_killed_builds(tmp_path, "points")
    assert [result["killed"] for result in results[:-1]] == [-9] * (len(results) - 1)
    assert results[-1]["killed"] == 0  # past the last point
    assert len(results) > 60
    for result in results:
        check(result, old, new)
        kept = [int(line.split()[-1]) for line in result["said"] if line.startswith("kept")]
        resumed = int(result["answers"][0].split()[-1])
        if result["seen"][0] == old:  # once it is published the journal may be gone
            assert resumed >= (kept[-1] if kept else 0), result
    assert {result["seen"][0] for result in results} == {old, new}


@pytest.mark.slow
@needs_fork
def test_a_build_killed_again_and_again_can_be_finished(tmp_path: Path) -> None:
    old, new = expected(tmp_path)
    results = run_killed_builds(tmp_path, "times")
    assert len(results) == 4
    for result in results:
        check(result, old, new)


@pytest.mark.slow
def test_a_full_disk_at_any_write_leaves_the_old_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail each fsync in turn, which is where a full disk shows at the latest."""
    new = build(tmp_path / "plain", pairs(20)).digest
    real, left = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for point in itertools.count(1):
        root = tmp_path / str(point)
        old = build(root, pairs(3)).digest
        left = point
        try:
            build(root, pairs(20))
            break
        except OutOfSpace as error:
            caught = error
        assert caught.exit_code == 6
        assert "bytes needed" in caught.came
        assert str(root) in caught.came
        left = 0
        assert [path for path in root.rglob(".tmp-*") if path.is_file()] == []
        assert Store(root).open("toy@1").digest == old
        assert Store(root).open("toy").digest in (old, new)
        assert build(root, pairs(20)).digest == new
        assert Store(root).verify("toy").problems == ()
    assert point > 25


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_small_disk(small_disk: Path) -> None:
    """Leave ever more room on a real disk: the build fails at ever later places, then fits."""
    old, items = build(small_disk, pairs(3)), pairs(400)
    plan = {"dtype": "float32", "rows": len(items)}
    stopped = []
    for room in range(0, 400, 12):
        (small_disk / "other").write_bytes(b"")
        free = shutil.disk_usage(small_disk).free
        (small_disk / "other").write_bytes(b"x" * (free - (room << 10)))
        reached = "opening"
        try:
            with Store(small_disk).journal("toy", plan) as journal:
                reached = "appending"
                fill(journal, items, 40)
                reached = "publishing"
                new = finish(journal)
            break
        except OutOfSpace as error:
            caught = error
        assert caught.exit_code == 6
        assert "bytes needed" in caught.came
        assert str(small_disk) in caught.came
        assert [path for path in small_disk.rglob(".tmp-*") if path.is_file()] == []
        assert Store(small_disk).open("toy").digest == old.digest
        stopped.append(reached)
    assert set(stopped) == {"opening", "appending", "publishing"}
    assert stopped == sorted(stopped, key=ORDER.index)
    assert Store(small_disk).open("toy").digest == new.digest != old.digest
    assert Store(small_disk).verify("toy").problems == ()


def test_a_store_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with Store(tmp_path).journal("toy", {"dtype": "float16"}) as journal:
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(AsifError, match="Read-only") as caught:
            fill(journal, pairs(3), 3)
    assert caught.value.exit_code == 1
    assert "ASIF_HOME" in caught.value.fix
