"""Builds that are killed in child processes, for systems that can fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.paths import SUPPORT
from support.running import environment

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked builds; this system cannot fork")


def run_killed_builds(folder: Path, how: str) -> list[dict[str, Any]]:
    run = [sys.executable, "-W", "error", str(SUPPORT / "anchorset_crash.py"), str(folder), how]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
