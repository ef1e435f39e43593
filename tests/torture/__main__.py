"""Play rounds of scenarios for a time, or so many; print what was counted, and write it as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture import commands, damage, disks, kills, ray_kills, readers, writers
from torture.operations import prepare

SCENARIOS: dict[str, tuple[Callable[[random.Random, Path, Counter[str]], None], float]] = {
    "kills": (kills.play, 0.3),
    "points": (kills.play_points, 0.15),
    "commands": (commands.play, 0.1),
    "disks": (disks.play, 0.1),
    "damage": (damage.play, 0.15),
    "readers": (readers.play, 0.1),
    "writers": (writers.play, 0.1),
    "ray": (ray_kills.play, 0.1),
}
"""What is played, and which share of the time it takes."""


def main() -> int:
    given = arguments()
    names = given.scenario or list(SCENARIOS)
    share = sum(SCENARIOS[name][1] for name in names)
    prepare()
    if given.brief:
        kills.STEPS, kills.POINTS, readers.STEPS, damage.DAMAGES, disks.MOST, commands.SOME = 5, 8, 10, 8, 8, 2
    say(f"seed {given.seed}: {', '.join(names)}")
    found: dict[str, Any] = {}
    for name in names:
        seconds = None if given.seconds is None else given.seconds * SCENARIOS[name][1] / share
        if name == "disks" and not disks.can_mount():
            say("disks: SKIPPED, only root may mount a small one")
            continue
        if name == "ray" and not ray_kills.has_ray():
            say("ray: SKIPPED, Ray is not installed")
            continue
        found[name] = rounds(name, given.seed, given.first, given.rounds, seconds)
        say(f"{name}: {json.dumps(found[name])}")
    about = {"seed": given.seed, "commit": commit(), "machine": f"{platform.system()} {os.cpu_count()} cores"}
    if given.out:
        given.out.write_text(json.dumps({**about, "scenarios": found}, indent=1) + "\n")
    return int(any(each["broken"] for each in found.values()))


def rounds(name: str, seed: int, first: int, number: int, seconds: float | None) -> dict[str, Any]:
    """Play rounds of one scenario; a broken promise is printed with what plays the round again, and its store kept."""
    counts: Counter[str] = Counter()
    started, at, broken = time.monotonic(), first, 0
    while at < first + number if seconds is None else time.monotonic() - started < seconds:
        folder = Path(tempfile.mkdtemp(prefix=f"torture-{name}-{at}-"))
        try:
            SCENARIOS[name][0](random.Random(f"{seed}/{name}/{at}"), folder, counts)
            shutil.rmtree(folder)
        except Exception:
            broken += 1
            again = f"python -m torture {name} --seed {seed} --first {at} --rounds 1"
            say(f"BROKEN, play again with: {again}\nits store: {folder}\n{traceback.format_exc()}")
        at += 1
    spent = round(time.monotonic() - started, 1)
    return {"rounds": at - first, "broken": broken, "seconds": spent, **dict(sorted(counts.items()))}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], help="all of them by default")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--seconds", type=float, help="how long, in all")
    parser.add_argument("--rounds", type=int, default=1, help="without --seconds: how many rounds of each")
    parser.add_argument("--first", type=int, default=0, help="the number of the first round")
    parser.add_argument("--brief", action="store_true", help="short rounds, for the tests of every day")
    parser.add_argument("--out", type=Path, help="a file for the counts, as JSON")
    return parser.parse_args()


def commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
