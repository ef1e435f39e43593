"""Commands that tests run: in their own process, and in others."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.paths import ROOT, TESTS


@dataclass(frozen=True)
class Ran:
    """What a command came to: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Parse stdout as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Parse stdout as one JSON object per line."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Ran]


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process that imports this checkout and the helpers of its tests."""
    return {**os.environ, **variables, "PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)])}


def open_to_all(folder: Path) -> None:
    """Let other users enter a temporary folder of a test, through all folders of its own that pytest made."""
    for each in (folder, *folder.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)


def wait_for(mark: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a process has written a file that marks where it is."""
    deadline = time.monotonic() + 30
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
