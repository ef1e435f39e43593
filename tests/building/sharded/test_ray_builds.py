"""Sharded builds on Ray: processes are killed, and the set is that of a local build."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.build_fakes import build_set, reject_lines, some_rows, write_parquet
from support.ray_builds import (
    build_on_ray,
    count_encoded,
    describe,
    describe_set,
    list_actors,
    list_marked,
    start_build,
    wait_until,
)

from asif.building.bad_rows import Tolerance
from asif.pairs import open_pairs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of 120 pairs, of which one is bad."""
    rows = some_rows(120)
    rows[30] = ("bad", b"bad 30", ("caption",))
    ids, images, captions = zip(*rows, strict=True)
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    return write_parquet(path, list(images), list(map(list, captions)), id=list(ids))


@pytest.fixture(scope="module")
def expected(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    tolerant = Tolerance(number=9)
    return describe_set(build_set(open_pairs(pairs), tmp_path_factory.mktemp("local"), max_bad_rows=tolerant).anchors)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a folder for a Ray, whose path is short: those of its sockets may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_set_equals_local_when_an_actor_is_killed(ray_here: str, pairs: Path, expected: str, tmp_path: Path) -> None:
    killed = list[int]()

    def kill_one(rows: int) -> None:
        if rows >= 24 and not killed:
            killed.append(list_actors(list_marked(ray_here))[0])
            os.kill(killed[0], signal.SIGKILL)

    log = tmp_path / "log"
    built = build_on_ray(pairs, tmp_path / "home", log, pause=0.02, progress=kill_one)
    assert killed
    assert describe(tmp_path / "home") == expected
    assert built.rows == 120
    assert count_encoded(log) <= 119 + 8  # one shard again at most


def test_row_that_kills_actors_is_quarantined(ray_here: str, pairs: Path, tmp_path: Path) -> None:
    built = build_on_ray(pairs, tmp_path / "home", tmp_path / "log", shard_rows=60, deadly=b"image 50")
    assert dict(reject_lines(tmp_path / "home", built.anchors))[50] == "killed its worker 3 times"
    assert built.anchors.count == 118


@pytest.mark.parametrize("victim", ["driver", "raylet", "Ctrl-C"])
def test_killed_build_is_resumed(
    ray_here: str, pairs: Path, expected: str, tmp_path: Path, temporary: Path, victim: str
) -> None:
    """Kill a process of a build with a Ray of its own; then the same build goes on, on the Ray of this process."""
    home, log, mark = tmp_path / "home", tmp_path / "log", secrets.token_hex(8)
    with start_build(mark, temporary, pairs, home, log, 0.15, 2, 8) as child:
        wait_until(lambda: count_encoded(log) >= 30)
        if victim == "raylet":
            (raylet,) = [pid for pid, command in list_marked(mark).items() if command.split()[0].endswith("/raylet")]
            os.kill(raylet, signal.SIGKILL)
        else:
            child.send_signal(signal.SIGKILL if victim == "driver" else signal.SIGINT)
        printed, errors = child.communicate(timeout=90)
    assert describe(home) in ("NotFound", expected)  # never half a set
    if victim == "raylet" and child.returncode == 0:  # actors outlive it, and finish
        assert json.loads(printed)["seen"] == expected
    if victim == "Ctrl-C":
        assert child.returncode == 130
        assert "run the same command again to resume" in errors
    before = count_encoded(log)
    built = build_on_ray(pairs, home, log)
    assert describe(home) == expected
    if victim != "raylet":
        assert built.resumed_at >= 24 - 8
        assert before + (119 - built.resumed_at) - count_encoded(log) in range(-1, 2)
        assert (
            count_encoded(log) <= 119 + 2 * 8 + 2 * 4
        )  # the shards in flight, and a batch of each that was not logged


def test_command_builds_on_ray(ray_here: str, cli: Any, home: Path, vectors: Path) -> None:
    """Build precomputed vectors by the command, on two actors."""
    local = cli("build-anchors", vectors, "--name", "local", "--json")
    ran = cli(
        *("build-anchors", vectors, "--name", "many", "--json"),
        *("--engine", "ray", "--actors", 2, "--shard-rows", 100),
    )
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["digest"] == json.loads(local.out)["digest"]
    again = cli("build-anchors", vectors, "--name", "many", "--json", "--engine", "ray")
    assert json.loads(again.out)["already_built"]


def test_commands_build_and_update_galleries_on_ray(ray_here: str, cli: Any, home: Path, vectors: Path) -> None:
    on_ray = ("--engine", "ray", "--actors", 2, "--shard-rows", 100, "--json")
    local = cli("gallery", "build", vectors, "--name", "local", "--json").json
    built = cli("gallery", "build", vectors, "--name", "many", *on_ray)
    assert built.code == 0, built.err
    assert built.json["digest"] == local["digest"]
    updated = cli("gallery", "update", "many", *on_ray)
    assert updated.code == 0, updated.err
    assert (updated.json["unchanged"], updated.json["version"]) == (500, built.json["version"])


def test_options_of_workers_need_the_engine(cli: Any, home: Path, vectors: Path) -> None:
    for command in (("build-anchors", vectors, "--name", "a"), ("gallery", "build", vectors, "--name", "g")):
        ran = cli(*command, "--shard-rows", 100)
        assert ran.code == 2
        assert "--shard-rows without --engine ray" in ran.err
    ran = cli("search", "g", "--text", "x", "--actors", 2)
    assert ran.code == 2
