"""What the workers of one service share: the reference of each name, and which version each worker serves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from asif.anchorset.format.atomic_io import atomic_write_bytes

_REFERENCES = "references.json"
_WAIT_SECONDS = 10.0
_LOOK_SECONDS = 0.02


class WorkerBoard:
    """Share references between the workers of a service by way of a folder; None if there is one worker."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._references: dict[str, str] = {}
        self._versions: dict[str, tuple[str, ...]] = {}
        self._stamp: tuple[int, int] | None = None
        self._lock = Lock()

    def find_reference(self, name: str, default: str) -> str:
        """Return the reference that a name means now."""
        with self._lock:
            self._read_references()
            return self._references.get(name, default)

    def set_reference(self, name: str, ref: str) -> None:
        """Make all workers serve another reference under a name; they follow on their own."""
        with self._lock:
            self._read_references()
            self._references[name] = ref
            if self._folder is not None:
                _write(self._folder / _REFERENCES, self._references)

    def _read_references(self) -> None:
        if self._folder is None:
            return
        path = self._folder / _REFERENCES
        with suppress(FileNotFoundError):
            found = path.stat()
            stamp = found.st_ino, found.st_mtime_ns
            if stamp != self._stamp:
                self._references, self._stamp = json.loads(path.read_bytes()), stamp

    def announce(self, name: str, versions: tuple[str, ...]) -> None:
        """Say which versions this worker serves under a name."""
        with self._lock:
            self._versions[name] = versions
            if self._folder is not None:
                _write(self._folder / f"worker-{os.getpid()}.json", self._versions)

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


def _write(path: Path, content: Mapping[str, Any]) -> None:
    atomic_write_bytes(path, json.dumps(content).encode())


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
