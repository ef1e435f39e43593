"""Locks that one process holds at a time, by means of a file.

A file system that cannot lock is refused at once. The lock file names its holder, and a wait is announced and ends.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from asif.anchorset.format.atomic_io import temporary_path, translate_write_errors
from asif.anchorset.format.own_store import close_to_others
from asif.errors import AsifError, Busy

NOTICE_SECONDS = 2.0  # before a wait is announced
WAIT_SECONDS = 60.0  # before a wait ends with Busy
_MAX_NOTE_BYTES = 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldLock:
    """A lock that this process holds until `release`; its file names the process meanwhile."""

    _file: Path
    _lock: Any

    @property
    def is_locked(self) -> bool:
        """Tell whether the lock is still held."""
        return bool(self._lock.is_locked)

    def release(self) -> None:
        """Empty the file, and let another process have the lock."""
        with suppress(OSError):
            os.truncate(self._file, 0)
        self._lock.release()


def acquire_lock(lock_file: Path, busy: Callable[[], Busy], wait: float = 0.0) -> HeldLock:
    """Acquire a lock and return it; raises `busy()` if another process still holds it after `wait` seconds.

    Raises AsifError where the file system cannot lock, or the store cannot be written.
    """
    from filelock import FileLock

    with translate_write_errors(lock_file, 4096):
        check_can_lock(lock_file.parent, lock_file)
        lock = FileLock(lock_file, thread_local=False)
        if not (_try_for(lock, min(wait, NOTICE_SECONDS)) or (wait > NOTICE_SECONDS and _wait(lock, lock_file, wait))):
            raise busy()
        _write_note(lock_file)
    return HeldLock(lock_file, lock)


def _try_for(lock: Any, seconds: float) -> bool:
    """Tell whether the lock could be acquired within that time."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True


def _wait(lock: Any, lock_file: Path, wait: float) -> bool:
    """Announce that a lock is waited for, and wait for the rest of the time."""
    _log.warning("waiting for %s, which %s holds, for up to %.0f seconds", lock_file, read_holder(lock_file), wait)
    return _try_for(lock, wait - NOTICE_SECONDS)


def check_can_lock(folder: Path, lock_file: Path | None = None) -> None:
    """Raise AsifError if files in a folder cannot be made, or a new one, which nobody else can hold, cannot be locked.

    On the lock file itself some errors of such file systems look like those of a lock that another process holds; the
    error names who left it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    with translate_write_errors(folder, 4096):
        descriptor = _open_new_file(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _make_unlockable_error(folder, lock_file, error) from error
    finally:
        os.close(descriptor)


def _open_new_file(folder: Path) -> int:
    """Open a new file without a name in a folder; where the system has no such files, its name is removed again."""
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o600)
    except (OSError, AttributeError):
        with temporary_path(folder) as path:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)


def _make_unlockable_error(folder: Path, lock_file: Path | None, error: OSError) -> AsifError:
    left = f"; {lock_file.name} was left by {read_holder(lock_file)}" if lock_file and lock_file.exists() else ""
    return AsifError(
        f"the file system of {folder} cannot lock files: flock fails with {error.strerror}{left}",
        "file locks, without which two edits could destroy each other; reading needs none",
        "move the store to a disk that can lock files, such as a local one, and point ASIF_HOME there",
    )


def is_held(lock_file: Path) -> bool:
    """Tell whether a process holds a lock now; False where that cannot be told. Writes nothing."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        with open(lock_file, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _write_note(lock_file: Path) -> None:
    """Write who holds the lock into its file, for the messages of others; a failure does not matter."""
    since = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with suppress(OSError), open(lock_file, "r+b") as file:
        file.write(json.dumps(note).encode())
        file.truncate()
        close_to_others(lock_file)


def read_holder(lock_file: Path) -> str:
    """Return the process that holds a lock, or was killed while it did, as the file says if it can be read."""
    try:
        with open(lock_file, "rb") as file:
            note = json.loads(file.read(_MAX_NOTE_BYTES))
        pid, host, since = int(note["pid"]), ascii(note["host"])[:80], ascii(note["since"])[:40]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "an unknown process"
    return f"process {pid} on {host} since {since}"
