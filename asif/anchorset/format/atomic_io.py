"""Files that appear whole or not at all: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from asif.errors import AsifError, Busy, IntegrityError, OutOfSpace

TEMPORARY = ".tmp-"
RESTORE = "restore the anchor set from a copy, or build it again"
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_LOCKED_OUT = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def writing(path: Path, needed: int) -> Iterator[None]:
    """Turn a full disk into OutOfSpace, and a store that may not be written into AsifError.

    `needed` is the number of bytes that were to be written at `path`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutOfSpace(
                f"no room left while writing {path}: {needed:,} bytes needed, {_free(path):,} free",
                "room for what is being written",
                "free some space, or point ASIF_HOME at a larger disk, then run the same command again",
            ) from error
        if error.errno in _LOCKED_OUT:
            raise AsifError(
                f"cannot write {path}: {error.strerror}",
                "a store that may be written",
                "point ASIF_HOME at a folder of yours, or ask its owner",
            ) from error
        raise


def claim(lock_file: Path, busy: Callable[[], Busy]) -> Any:
    """Take a lock that one process has at a time, and return it; raises what `busy` says where another has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file, timeout=0, thread_local=False)
    try:
        with writing(lock_file, 4096):
            lock.acquire()
    except Timeout:
        raise busy() from None
    return lock


def _free(path: Path) -> int:
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    return shutil.disk_usage(existing).free


def replace_file(path: Path, write: Callable[[Path], None], needed: int) -> None:
    """Let `write` fill a temporary file, then put it in place of `path`, durably."""
    with writing(path, needed), _temporary(path.parent) as temporary:
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)


def put_bytes(path: Path, data: bytes) -> None:
    """Put data at `path`, durably; a reader sees the old file or the new one."""
    replace_file(path, lambda temporary: _write_all(temporary, data), len(data))


def put_content(folder: Path, suffix: str, write: Callable[[Path], None], needed: int) -> tuple[str, int]:
    """Write a file that is named by its content, `<folder>/<sha256><suffix>`; return its sha256 and size."""
    with writing(folder, needed), _temporary(folder) as temporary:
        write(temporary)
        sha256, size = hash_file(temporary)
        place = folder / f"{sha256}{suffix}"
        if not holds(place, sha256):
            flush(temporary)
            os.replace(temporary, place)
            flush(folder)
    return sha256, size


def move_file(source: Path, place: Path, sha256: str) -> None:
    """Put a flushed file of that content in its place, on the same disk, durably; not where that has it already."""
    if not holds(place, sha256):
        os.replace(source, place)
        flush(place.parent)


def holds(place: Path, sha256: str) -> bool:
    """Tell whether a plain file of that content is there."""
    return place.is_file() and not place.is_symlink() and hash_file(place)[0] == sha256


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    path = folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write_all(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def flush(path: Path) -> None:
    """Force a file, or the entries of a folder, to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle to flush for a folder
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, durably."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with writing(path, 4096):
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            flush(folder.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder so that it is there whole or not at all, even if killed midway."""
    doomed = path.parent / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Remove temporaries of dead processes; the caller holds the lock under which living ones write."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def check_regular(path: Path) -> int:
    """Return the size of a plain file; raises IntegrityError where it is missing, a symlink, or something else."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise IntegrityError(f"{path} is missing", "the file that was written", RESTORE) from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a symlink" if stat.S_ISLNK(found.st_mode) else "not a plain file"
        raise IntegrityError(f"{path} is {kind}", "the plain file that was written", RESTORE)
    return found.st_size


def open_regular(path: Path) -> BinaryIO:
    """Open a plain file for reading; raises IntegrityError like `check_regular`."""
    check_regular(path)
    return open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb")


def read_small(path: Path, limit: int = 64 << 20) -> bytes:
    """Read a whole file of at most `limit` bytes; raises IntegrityError."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise IntegrityError(f"{path} is longer than {limit:,} bytes", "a file of a sane size", RESTORE)
    return data


def check_size(path: Path, size: int) -> None:
    """Raise IntegrityError unless `path` is a plain file of `size` bytes; reads nothing of it."""
    found = check_regular(path)
    if found != size:
        raise IntegrityError(f"{path} has {found:,} bytes", f"{size:,} bytes", RESTORE)


def check_content(path: Path, sha256: str, size: int) -> None:
    """Raise IntegrityError unless `path` is a plain file of that size and sha256."""
    check_size(path, size)
    found = hash_file(path)[0]
    if found != sha256:
        raise IntegrityError(f"{path} has sha256 {found}", f"sha256 {sha256}", RESTORE)


_READ = 1 << 25
"""Bytes at a time: a block at once, so that threads beside others that compute in Python seldom wait for their turn."""


def hash_file(path: Path) -> tuple[str, int]:
    """Return a file's sha256 and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        buffer = bytearray(min(_READ, os.fstat(file.fileno()).st_size) or 1)
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(memoryview(buffer)[:count])
            size += count
    return digest.hexdigest(), size
