"""Builds on Ray whose actors, drivers and raylets are killed at random times, until one comes to its end.

After each kill there is no set, or the whole one. At the end it is that of a local build: no row is lost, none is there
twice. What is encoded more than once is at most what was in flight at the kills.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from support.build_fakes import build_set, some_rows, write_parquet
from support.ray_builds import count_encoded, describe, describe_set, list_actors, list_marked, start_build

from asif.pairs import open_pairs

ROWS, SHARD_ROWS, ACTORS, PAUSE = 400, 8, 2, 0.1
_MOST_RUNS = 4
_BATCH = 4
"""Images that an actor encodes at a time: they may be encoded, but not logged, when it dies."""


def has_ray() -> bool:
    """Tell whether Ray is installed."""
    return find_spec("ray") is not None


def play(rng: random.Random, folder: Path, counts: Counter[str]) -> None:
    """Build one set, and kill until it is there."""
    ids, images, captions = zip(*some_rows(ROWS), strict=True)
    pairs = write_parquet(folder / "pairs.parquet", list(images), list(map(list, captions)), id=list(ids))
    expected = describe_set(build_set(open_pairs(pairs), folder / "local").anchors)
    home, log, flying = folder / "home", folder / "log", 0
    for run in range(_MOST_RUNS):
        is_last = run == _MOST_RUNS - 1
        flying += run_once(rng, folder, pairs, counts, kill=not is_last)
        seen = describe(home)
        assert seen in ("NotFound", expected), "half a set"
        counts["sets read"] += 1
        if seen == expected:
            break
    assert describe(home) == expected, "the set is not that of a local build"
    again = count_encoded(log) - ROWS
    assert again <= flying, f"{again} rows were encoded again, of {flying} in flight"
    counts["rows encoded again"] += max(0, again)
    counts["sets equal"] += 1


def run_once(rng: random.Random, folder: Path, pairs: Path, counts: Counter[str], *, kill: bool) -> int:
    """Run the build with a Ray of its own, and kill; return how many rows were in flight at kills."""
    mark, flying, home, log = f"{rng.getrandbits(64):016x}", 0, folder / "home", folder / "log"
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary,
        start_build(mark, Path(temporary), pairs, home, log, PAUSE, ACTORS, SHARD_ROWS) as child,
    ):
        victims = [*["actor"] * rng.randrange(2, 6), rng.choice(["driver", "raylet", "driver"])] if kill else []
        before = count_encoded(log)
        for victim in victims:
            while count_encoded(log) == before and child.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 1.5))
            if child.poll() is not None:
                break
            before = count_encoded(log)
            flying += kill_one(rng, mark, child.pid, victim, counts)
            assert describe(home) in ("NotFound", describe(folder / "local")), "half a set"
            counts["sets read"] += 1
        if not victims or victims[-1] != "driver" or child.poll() is not None:
            child.communicate(timeout=300)
    return flying


def kill_one(rng: random.Random, mark: str, driver: int, victim: str, counts: Counter[str]) -> int:
    """Kill a process of a build; return how many rows may have been in flight."""
    processes = list_marked(mark)
    found = {
        "actor": list_actors(processes),
        "raylet": [pid for pid, command in processes.items() if command.split(" ")[0].endswith("/raylet")],
        "driver": [driver],
    }[victim]
    if not found:
        return 0
    with suppress(ProcessLookupError):
        os.kill(rng.choice(found), signal.SIGKILL)
    counts[f"kills of {victim}s"] += 1
    return (1 if victim == "actor" else ACTORS) * (SHARD_ROWS + _BATCH)
