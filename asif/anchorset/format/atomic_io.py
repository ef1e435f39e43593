"""Atomic and durable file operations: write a temporary file, flush it to disk, then rename it."""

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
from typing import BinaryIO

from asif.anchorset.format.own_store import close_to_others
from asif.errors import AsifError, IntegrityError, OutOfSpace

TEMPORARY_PREFIX = ".tmp-"
RESTORE_ADVICE = "restore the set from a copy, or build it again"
_DISK_FULL_ERRORS = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PERMISSION_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS}
_OTHER_REMEDIES = {
    errno.EMFILE: ("fewer open files", "raise the limit of open files (ulimit -n), or close some"),
    errno.ENFILE: ("fewer open files", "close other programs"),
    errno.EXDEV: ("a store on one file system", "mount nothing inside the folder of a set"),
    errno.ENOTDIR: ("a folder", "check the path: a part of it is a file"),
    errno.ENOENT: ("a path that exists", "check the path, and where a link in it leads"),
    errno.EIO: ("a disk that works", "check the disk and its connection, then run the same command again"),
}  # what is expected, and what to do


@contextmanager
def translate_write_errors(path: Path, needed: int) -> Iterator[None]:
    """Translate the error of a full disk into OutOfSpace, and any other of the system into AsifError.

    `needed` is the number of bytes to be written at `path`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRORS:
            raise OutOfSpace(
                f"no room left while writing {path}: {needed:,} bytes needed, {_free_bytes(path):,} free",
                "room for what is being written",
                "free some space, or point ASIF_HOME at a larger disk, then run the same command again",
            ) from error
        if error.errno in _PERMISSION_ERRORS:
            raise AsifError(
                f"cannot write {path}: {error.strerror}",
                "a store that may be written",
                "point ASIF_HOME at a folder of yours, or ask its owner",
            ) from error
        raise _make_system_error(f"cannot write {path}", error) from error


@contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Translate errors of the system: no memory into OutOfSpace, a failing disk or a missing file into IntegrityError.

    Other errors become AsifError; errors of libraries, which have no number, are raised as they are.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        if error.errno == errno.ENOENT:
            raise _missing_file(path) from error
        if error.errno in _PERMISSION_ERRORS:
            raise AsifError(
                f"cannot read {path}: {error.strerror}", "a file that may be read", "ask its owner for the permission"
            ) from error
        if error.errno == errno.EIO:
            raise IntegrityError(
                f"cannot read {path}: {error.strerror}", "a disk that works", RESTORE_ADVICE
            ) from error
        raise _make_system_error(f"cannot read {path}", error) from error


def _missing_file(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} is missing", "the file that was written", RESTORE_ADVICE)


def _make_system_error(what: str, error: OSError) -> AsifError:
    came = f"{what}: {error.strerror or error}"
    if error.errno == errno.ENOMEM:
        return OutOfSpace(came, "memory for it", "close other programs, or raise the memory limit of this one")
    return AsifError(came, *_OTHER_REMEDIES.get(error.errno or 0, ("a file system that can do it", "check the path")))


def _free_bytes(path: Path) -> int:
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def check_free_space(path: Path, needed: int, what: str, fix: str) -> None:
    """Raise OutOfSpace unless `needed` bytes are free on the disk of `path`, which need not exist yet."""
    free = _free_bytes(path)
    if free < needed:
        raise OutOfSpace(
            f"{what} will take about {needed:,} bytes more, and {free:,} are free", "room for all of it", fix
        )


def atomic_write(path: Path, write: Callable[[Path], None], needed: int) -> None:
    """Call `write` with the path of a temporary file, then replace `path` by that file, durably."""
    with translate_write_errors(path, needed), temporary_path(path.parent) as temporary:
        write(temporary)
        close_to_others(temporary)
        fsync_path(temporary)
        os.replace(temporary, path)
    _flush_replaced(path, needed)


def _flush_replaced(path: Path, needed: int) -> None:
    """Flush the folder of a file that was just put in its place; an error says that the file is there already."""
    try:
        fsync_path(path.parent)
    except OSError as error:
        full = error.errno in _DISK_FULL_ERRORS
        room = f" ({needed:,} bytes needed, {_free_bytes(path):,} free)" if full else ""
        raise (OutOfSpace if full else AsifError)(
            f"{path} is written, and in effect, but its folder could not be flushed to disk: {error.strerror}{room}",
            "a change that also survives a loss of power",
            "check the disk, look at what is there now (asif anchors log), then run the same command again",
        ) from error


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write data to `path` durably; a reader sees the old file or the new one, never a part."""
    atomic_write(path, lambda temporary: _write_all(temporary, data), len(data))


def write_content_file(folder: Path, suffix: str, write: Callable[[Path], None], needed: int) -> tuple[str, int]:
    """Write a file that is named by its content, `<folder>/<sha256><suffix>`; return its sha256 and its size."""
    with translate_write_errors(folder, needed), temporary_path(folder) as temporary:
        write(temporary)
        close_to_others(temporary)
        sha256, size = hash_file(temporary)
        path = folder / f"{sha256}{suffix}"
        if not has_content(path, sha256):
            fsync_path(temporary)
            os.replace(temporary, path)
            fsync_path(folder)
    return sha256, size


def move_content_file(source: Path, target: Path, sha256: str) -> None:
    """Move a flushed file to `target` on the same disk, durably; do nothing if that has the content already."""
    if not has_content(target, sha256):
        os.replace(source, target)
        fsync_path(target.parent)


def has_content(path: Path, sha256: str) -> bool:
    """Tell whether `path` is a plain file with that sha256."""
    return path.is_file() and not path.is_symlink() and hash_file(path)[0] == sha256


@contextmanager
def temporary_path(folder: Path) -> Iterator[Path]:
    """Yield the path of a new temporary file in a folder; remove the file if it is left there."""
    path = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write_all(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle to flush for a folder
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, durably."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with translate_write_errors(path, 4096):
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            fsync_path(folder.parent)
        for folder in (path, *missing):
            close_to_others(folder)


def create_file(path: Path) -> None:
    """Create an empty file and its folder unless they are there; closed to others in the user's own store."""
    make_folder(path.parent)
    path.touch()
    close_to_others(path)


def remove_folder(path: Path) -> None:
    """Remove a folder atomically: if killed midway, the folder is complete or does not exist."""
    doomed = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of dead processes; the caller holds the lock under which live ones write."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """Raise AsifError if the path is there but no folder that can be read."""
    if os.path.lexists(path):
        with translate_read_errors(path):
            os.listdir(path)


def _check_plain_file(path: Path) -> int:
    """Return the size of a plain file; raises IntegrityError if it is missing, a symlink, or something else."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing_file(path) from None
    except OSError as error:
        with translate_read_errors(path):
            raise error
    if not stat.S_ISREG(found.st_mode):
        kind = "a symlink" if stat.S_ISLNK(found.st_mode) else "not a plain file"
        raise IntegrityError(f"{path} is {kind}", "the plain file that was written", RESTORE_ADVICE)
    return found.st_size


def open_plain_file(path: Path) -> BinaryIO:
    """Open a plain file for reading; raises IntegrityError like `_check_plain_file`, and AsifError."""
    _check_plain_file(path)
    with translate_read_errors(path):
        return open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb")


def read_small_file(path: Path, limit: int = 64 << 20) -> bytes:
    """Read a file of at most `limit` bytes; raises IntegrityError."""
    with translate_read_errors(path), open_plain_file(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise IntegrityError(f"{path} is longer than {limit:,} bytes", "a file of a sane size", RESTORE_ADVICE)
    return data


def check_file_size(path: Path, size: int) -> None:
    """Raise IntegrityError unless `path` is a plain file of `size` bytes; reads nothing of it."""
    found = _check_plain_file(path)
    if found != size:
        raise IntegrityError(f"{path} has {found:,} bytes", f"{size:,} bytes", RESTORE_ADVICE)


def check_file_content(path: Path, sha256: str, size: int) -> None:
    """Raise IntegrityError unless `path` is a plain file of that size and sha256."""
    check_file_size(path, size)
    found = hash_file(path)[0]
    if found != sha256:
        raise IntegrityError(f"{path} has sha256 {found}", f"sha256 {sha256}", RESTORE_ADVICE)


_CHUNK_BYTES = 1 << 25
"""Bytes read at a time: a whole block, so that a hashing thread seldom has to take the interpreter lock."""


def hash_file(path: Path) -> tuple[str, int]:
    """Return a file's sha256 and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    with translate_read_errors(path), open_plain_file(path) as file:
        buffer = bytearray(min(_CHUNK_BYTES, os.fstat(file.fileno()).st_size) or 1)
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(memoryview(buffer)[:count])
            size += count
    return digest.hexdigest(), size
