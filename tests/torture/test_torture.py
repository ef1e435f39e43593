"""The torture in short: processes really killed, disks really full, files really damaged. See docs/reliability.md.

Elsewhere than in CI the seed is another one each time; when a promise is broken the output says how to play it again.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT, TESTS

from torture.disks import can_mount

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes; this system cannot fork"),
]


def torture(folder: Path, scenario: str, rounds: int) -> dict[str, Any]:
    seed = 1 if os.environ.get("CI") else random.SystemRandom().randrange(1 << 32)
    path = os.pathsep.join([str(TESTS), str(ROOT)])
    run = [
        sys.executable,
        "-m",
        "torture",
        scenario,
        "--brief",
        "--rounds",
        rounds,
        "--seed",
        seed,
        "--out",
        "found.json",
    ]
    done = subprocess.run(
        list(map(str, run)),
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)},
        cwd=folder,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts: dict[str, Any] = json.loads((folder / "found.json").read_text())["scenarios"][scenario]
    return counts


@pytest.mark.parametrize(("scenario", "rounds"), [("kills", 2), ("points", 2), ("commands", 1)])
def test_kills(tmp_path: Path, scenario: str, rounds: int) -> None:
    """P1, P16, P27."""
    found = torture(tmp_path, scenario, rounds)
    assert (found["rounds"], found["broken"]) == (rounds, 0)
    assert found.get("half-sets", 0) == found.get("sets lost", 0) == 0
    assert scenario == "commands" or found["kills"] > 0
    assert found["done again, equal"] > 0


@pytest.mark.skipif(not can_mount(), reason="only root may mount a small disk")
def test_full_disks(tmp_path: Path) -> None:
    """P2."""
    found = torture(tmp_path, "disks", 2)
    assert found["broken"] == 0 and found["disks"] >= found.get("full", 0) and found["full below a cache"] == 2


def test_damage(tmp_path: Path) -> None:
    """P10, P11, P15."""
    found = torture(tmp_path, "damage", 1)
    assert found["broken"] == 0 and found["damages"] > 0


def test_readers(tmp_path: Path) -> None:
    """P15, P27."""
    found = torture(tmp_path, "readers", 1)
    assert (found["broken"], found["half-sets"], found["edits"]) == (0, 0, 10) and found["reads"] > 0


def test_writers(tmp_path: Path) -> None:
    """P14."""
    found = torture(tmp_path, "writers", 1)
    assert (found["broken"], found["edits"], found["races for an alias"]) == (0, 32, 4)
