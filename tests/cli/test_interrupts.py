"""Ctrl-C in every phase of add, tune and classify: it stops, says how to go on, and going on works (P29).

For builds see test_build_faults.py.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import build_set, list_source, some_rows, write_parquet
from support.paths import SUPPORT
from support.running import environment, wait_for

from asif.anchorset import Store

DRIVER = SUPPORT / "interrupt_driver.py"
ROWS = 150
SECONDS = 10  # the promise is 2; a machine that does much else may take longer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals as Unix has them"),
]


def start(home: Path, mark: Path, slow: str | None, *arguments: object) -> subprocess.Popen[str]:
    told = json.dumps({"slow": slow, "mark": str(mark)})
    run = [sys.executable, "-W", "error", str(DRIVER), *map(str, arguments), "--home", str(home)]
    return subprocess.Popen(
        run, env=environment(DRIVER=told), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def interrupted(home: Path, slow: str, *arguments: object) -> str:
    """Press Ctrl-C in a phase; return what was said."""
    mark = home.parent / "mark"
    process = start(home, mark, slow, *arguments)
    wait_for(mark, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    pressed = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - pressed < SECONDS
    assert "Traceback" not in err and "  to do:    run " in err
    return err[err.index("error: ") :]


def again(home: Path, *arguments: object) -> Any:
    process = start(home, home.parent / "mark", None, *arguments, "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def parquet(path: Path, rows: list[Any]) -> Path:
    return write_parquet(path, [row[1] for row in rows], [row[2] for row in rows], id=[row[0] for row in rows])


@pytest.fixture
def toy(home: Path) -> Path:
    """Return a store in which the first rows are a set."""
    build_set(list_source(*some_rows(20)), home)
    return home


@pytest.mark.parametrize("phase", ["decoding", "encoding", "publishing"])
def test_add(toy: Path, tmp_path: Path, phase: str) -> None:
    old, every = Store(toy).open("toy").version, some_rows(ROWS)
    path = parquet(tmp_path / "new.parquet", every[20:])
    said = interrupted(toy, phase, "anchors", "add", "toy", path)
    assert said.startswith("error: stopped at row " + ("130 of 130" if phase == "publishing" else "0 of 130"))
    assert Store(toy).open("toy").version == old
    assert again(toy, "anchors", "add", "toy", path)["anchors"] == ROWS
    expected = build_set(list_source(*every), tmp_path / "expected").anchors
    assert Store(toy).open("toy").digest == expected.digest
    Store(toy).gc("toy", 1)
    Store(toy).verify("toy").raise_if_bad()


def test_tune(home: Path) -> None:
    old = build_set(list_source(*some_rows(800)), home).anchors.version
    ask = ("tune", "--anchors", "toy", "--task", "classify", "--seconds")
    interrupted(home, "trying", *ask, 600)
    assert [entry.version for entry in Store(home).log("toy")] == [old]
    assert Store(home).verify("toy").problems == ()
    assert again(home, *ask, 1)["anchors"]["version"] != old


@pytest.mark.parametrize("phase", ["labels", "decoding", "encoding"])
def test_classify(toy: Path, tmp_path: Path, phase: str) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(100):
        (images / f"{number:03}.png").write_bytes(b"image %d" % number)
    interrupted(toy, phase, "classify", images, "--anchors", "toy", "--labels", "a,b")
    assert Store(toy).verify("toy").problems == ()
    assert len(again(toy, "classify", images / "000.png", "--anchors", "toy", "--labels", "a,b")["predictions"]) == 2
