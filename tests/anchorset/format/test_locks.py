"""Locks: a wait is announced and ends, and a file system that cannot lock is refused at once (P14, P27)."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.anchorset_sets import build, pairs
from support.running import environment

from asif.anchorset import Store
from asif.anchorset.format import locks
from asif.anchorset.format.folder import SetFolder
from asif.errors import AsifError, Busy

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock is of Unix")
UNSUPPORTED = ("ENOSYS", "EACCES", "ENOTSUP", "EINVAL", "ENOLCK", "EAGAIN")
SHIM = """
#include <errno.h>
#include <stdlib.h>
int flock(int descriptor, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""


def fail_flock(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def flock(descriptor: int, operation: int) -> None:
        code = getattr(errno, name)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_file_system_without_locks_is_read_and_refused_for_edits(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (3, 4):
        build(home, pairs(count)).close()
    store, first = Store(home), pairs(1)[0].id
    fail_flock(monkeypatch, name)
    edits = {
        "remove": lambda: store.remove("toy", [first]),
        "purge": lambda: store.purge("toy", [first]),
        "gc": lambda: store.gc("toy", 1),
        "alias": lambda: store.alias("toy", "best", "1"),
        "rollback": lambda: store.rollback("toy"),
        "build": lambda: build(home, pairs(5)),
        "another": lambda: build(home, pairs(5), name="new"),
    }
    for edit in edits.values():
        started = time.monotonic()
        with pytest.raises(AsifError, match=f"cannot lock files: flock fails with {os.strerror(getattr(errno, name))}"):
            edit()
        assert time.monotonic() - started < 1
    with store.open("toy") as opened:
        assert len(opened.records(range(4))) == opened.count == 4
    assert store.verify("toy").problems == ()
    assert [entry.seq for entry in store.log("toy")] == [2, 1]


def test_the_error_names_who_left_the_lock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(home, pairs(3)).close()
    fail_flock(monkeypatch, "ENOSYS")
    (home / "anchors/toy/.lock").write_text('{"pid": 17, "host": "a\\u001b[1m", "since": "2026-01-01T00:00:00Z"}')
    with pytest.raises(AsifError) as raised:
        Store(home).rollback("toy")
    assert ".lock was left by process 17 on 'a\\x1b[1m' since '2026-01-01" in raised.value.came
    for content in (b"", b"123\nhost\n", b"[" * 900, b'{"pid": "x"}', b"\xff"):
        (home / "anchors/toy/.lock").write_bytes(content)
        with pytest.raises(AsifError, match="left by an unknown process"):
            Store(home).rollback("toy")


def test_a_left_lock_file_does_not_matter(home: Path) -> None:
    build(home, pairs(3)).close()
    (home / "anchors/toy/.lock").write_text("999999\nanother-host\n")
    assert build(home, pairs(4)).manifest.seq == 2
    with SetFolder(home / "anchors/toy", "toy").locked():
        assert json.loads((home / "anchors/toy/.lock").read_text())["pid"] == os.getpid()
    assert (home / "anchors/toy/.lock").read_text() == ""


def test_a_wait_is_announced_and_ends(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build(home, pairs(3)).close()
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.05)
    monkeypatch.setattr("asif.anchorset.format.folder.WAIT_SECONDS", 0.2)
    holder = f"process {os.getpid()} on "
    with SetFolder(home / "anchors/toy", "toy").locked(), caplog.at_level(logging.WARNING):
        started = time.monotonic()
        with pytest.raises(Busy, match=f"is locked by {holder}"):
            Store(home).alias("toy", "best", "1")
        assert 0.2 <= time.monotonic() - started < 2
    assert len(caplog.messages) == 1 and f"which {holder}" in caplog.messages[0]
    assert Store(home).alias("toy", "best", "1") == Store(home).resolve("toy").split("@")[1]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="no C compiler")
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_commands_say_so_where_the_system_cannot_lock(name: str, home: Path, tmp_path: Path) -> None:
    build(home, pairs(3)).close()
    (tmp_path / "shim.c").write_text(SHIM)
    shim = tmp_path / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(shim), str(tmp_path / "shim.c")], check=True)
    more = {"LD_PRELOAD": str(shim), "FLOCK_ERRNO": str(getattr(errno, name)), "ASIF_HOME": str(home)}
    for command, code in ((["remove", "toy", "--id", pairs(1)[0].id], 1), (["list"], 0), (["verify", "toy"], 0)):
        run = [sys.executable, "-m", "asif", "anchors", *command]
        ran = subprocess.run(run, env={**environment(), **more}, capture_output=True, text=True, timeout=30)
        assert ran.returncode == code, ran.stderr
        assert ("cannot lock files" in ran.stderr and "ASIF_HOME" in ran.stderr) == (code == 1)
