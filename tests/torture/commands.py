"""The command line itself, `python -m asif`, killed at random times and run again (P1)."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset import Store
from asif.errors import AsifError, NotFound
from torture.children import run

ROWS, SOME = 700, 0


def play(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Run the commands of a set's life, each killed first; compare with a store where none was."""
    for number in range(3):
        vectors(folder / f"pairs-{number}", rng, ROWS if number < 2 else 9)
    commands = [
        ["build-anchors", folder / "pairs-0", "--name", "toy"],
        ["anchors", "alias", "toy", "best", "1"],
        ["anchors", "remove", "toy", "--where", f"id like '{rng.choice('0123456789abcdef')}%'"],
        ["build-anchors", folder / "pairs-1", "--name", "toy", "--dtype", "float32"],
        ["anchors", "add", "toy", folder / "pairs-2"],
        ["anchors", "compact", "toy"],
        ["anchors", "rollback", "toy", "--to", "1"],
        ["anchors", "gc", "toy", "--keep", "1"],
    ]
    commands = commands[: SOME or None]
    plain, store = folder / "plain", folder / "store"
    before: dict[str, Any] = {"versions": {}, "aliases": {}}
    for command in commands:
        started = time.perf_counter()
        asif(plain, command).wait()
        seconds = time.perf_counter() - started
        after = look(plain)
        assert not after["wrong"], (command, after)
        process = asif(store, command)
        time.sleep(rng.uniform(0.3, 1.0) * seconds)
        process.kill()
        if process.wait() == -9:
            counts["kills"] += 1
            check(command, before, look(store), after)
        process = asif(store, command)
        assert process.wait() == 0, (command, process.stderr)
        done = look(store)
        assert done == after, (command, done, after)
        counts["done again, equal"] += 1
        before = after
    shutil.rmtree(plain)


def vectors(folder: Path, rng: random.Random, rows: int) -> None:
    """Write pairs of vectors, as clip-retrieval does."""
    folder.mkdir()
    drawn = np.random.default_rng(rng.randrange(1 << 32))
    for side, dim in (("img", 24), ("text", 16)):
        np.save(folder / f"{side}_emb_0.npy", drawn.standard_normal((rows, dim)).astype(np.float32))


def asif(home: Path, command: list[Any]) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "asif", *map(str, command), "--home", str(home)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)  # type: ignore[call-overload, no-any-return]


def look(home: Path) -> dict[str, Any]:
    """Read a store in a process of its own: the digest of each version, where aliases point, and what is wrong."""
    found: dict[str, Any] = run(lambda say: say(read(home)))
    return found


def read(home: Path) -> dict[str, Any]:
    store = Store(home)
    try:
        entries = store.log("toy")
        problems = [str(problem) for problem in store.verify("toy").problems]
    except NotFound:
        return {"versions": {}, "aliases": {}, "wrong": []}
    wrong = [problem for problem in problems if "stray" not in problem and "aliases.json is missing" not in problem]
    for entry in entries:
        try:
            store.open(f"toy@{entry.version}").close()
        except AsifError as error:
            wrong.append(error.came)
    versions = {entry.version: entry.digest for entry in entries}
    aliases = {alias: entry.version for entry in entries for alias in entry.aliases}
    return {"versions": versions, "aliases": aliases, "wrong": wrong}


def check(command: list[Any], before: dict[str, Any], seen: dict[str, Any], after: dict[str, Any]) -> None:
    """Hold what was seen after a kill to P1: all that stays is there, nothing else but what the command makes."""
    what = json.dumps([list(map(str, command)), before, seen, after])
    assert not seen["wrong"], what
    assert before["versions"].items() & after["versions"].items() <= seen["versions"].items(), what
    assert seen["versions"].items() <= before["versions"].items() | after["versions"].items(), what
    for alias, version in seen["aliases"].items():
        assert version in (before["aliases"].get(alias), after["aliases"].get(alias)), what
    assert before["aliases"].keys() <= seen["aliases"].keys(), what
