"""Builds and updates of galleries that are killed: what readers see is whole, and the next run finishes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.build_fakes import FakeImages
from support.galleries import build, check_vectors, galleries, some_files, update, write_files
from support.paths import SUPPORT
from support.running import environment, wait_for

DRIVER = SUPPORT / "gallery_driver.py"
MANY = 240
"""Files of an update, more than it can encode in three runs before it is killed."""


def kill(command: str, folder: Path, home: Path, after: float) -> None:
    """Run a command, and kill it some time after its model has run three times."""
    mark = home / "mark"
    mark.unlink(missing_ok=True)
    arguments = [sys.executable, str(DRIVER), command, str(folder), str(home), str(mark), "0.05"]
    process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE, text=True)
    wait_for(mark, process)
    time.sleep(after)
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals as Unix has them")
def test_a_build_and_an_update_are_killed(tmp_path: Path) -> None:
    drawn, photos = random.Random(7), tmp_path / "photos"
    files = some_files(40)
    write_files(photos, files)
    kill("build", photos, tmp_path, drawn.uniform(0, 0.3))
    encoder = FakeImages()
    built = build(photos, tmp_path, encoder)
    assert built.resumed_at > 0 and len(encoder.seen) < 40
    check_vectors(built.opened, files)
    changed = {f"more/{row}.jpg": b"more %d" % row for row in range(MANY)}
    write_files(photos, changed)
    (photos / "even/000.jpg").unlink()
    for _ in range(3):
        kill("update", photos, tmp_path, drawn.uniform(0, 0.15))
        with galleries(tmp_path).open("g") as seen:
            check_vectors(seen, files)
    encoder = FakeImages()
    changes = update(photos, tmp_path, encoder)
    assert len(encoder.seen) < MANY and (changes.added, changes.removed) == (MANY, 1)
    check_vectors(changes.opened, _without(files, "even/000.jpg") | changed)
    assert galleries(tmp_path).verify("g").problems == ()
    assert changes.opened.digest == build(photos, tmp_path / "new").opened.digest


def _without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {other: content for other, content in files.items() if other != name}
