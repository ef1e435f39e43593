"""What the workers of one service share: the reference of each name, and which version each worker serves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from asif.anchorset.format.atomic_io import atomic_write_bytes

_WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.02


class WorkerBoard:
    """Share references between the workers of a service by way of a folder; None if there is one worker."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._references: dict[str, str] = {}
        self._versions: dict[str, tuple[str, ...]] = {}
        self._lock = Lock()

    def find_reference(self, name: str, default: str) -> str:
        """Return the reference that a name means now."""
        if self._folder is None:
            return self._references.get(name, default)
        try:
            return (self._folder / f"reference-{name}").read_text(encoding="utf-8")
        except FileNotFoundError:
            return default

    def set_reference(self, name: str, ref: str) -> None:
        """Make all workers serve another reference under a name; they follow on their own."""
        if self._folder is None:
            self._references[name] = ref
        else:  # a file for each name, so that workers that set different ones do not undo each other
            atomic_write_bytes(self._folder / f"reference-{name}", ref.encode())

    def announce(self, name: str, versions: tuple[str, ...]) -> None:
        """Say which versions this worker serves under a name."""
        with self._lock:
            self._versions[name] = versions
            if self._folder is not None:
                path = self._folder / f"worker-{os.getpid()}.json"
                atomic_write_bytes(path, json.dumps(self._versions).encode())

    def wait_for(self, name: str, versions: tuple[str, ...]) -> bool:
        """Wait until every living worker serves these versions under a name; False if one did not in ten seconds."""
        stop = time.monotonic() + _WAIT_SECONDS
        while not all(each.get(name) == list(versions) for each in self._list_workers()):
            if time.monotonic() > stop:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _list_workers(self) -> list[Mapping[str, Any]]:
        """Return what each living worker announced."""
        if self._folder is None:
            return []
        found = []
        for path in self._folder.glob("worker-*.json"):
            if _is_alive(int(path.stem.partition("-")[2])):
                found.append(json.loads(path.read_bytes()))
            else:
                path.unlink(missing_ok=True)
        return found


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
