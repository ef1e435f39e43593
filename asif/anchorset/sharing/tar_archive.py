"""A bundle as one tar archive. Equal versions give equal bytes, and a reader parses nothing but the manifest.

The manifest comes first. It lists all files that follow, with sizes and hashes, and has a checksum over itself. It
determines the bytes of every tar header; these are compared, never parsed. So an archive cannot contain a link, a
device, a path out of its folder, or a duplicate or additional file.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import BinaryIO

from asif.anchorset.format.atomic_io import atomic_write, fsync_path, open_plain_file
from asif.anchorset.format.manifest import FileEntry, Manifest
from asif.anchorset.sharing.bundle import MANIFEST_FILE, MAX_MANIFEST_BYTES, Bundle, list_bundle_files
from asif.anchorset.sharing.verified_copy import ByteProgress, copy_verified
from asif.errors import InputRefused, IntegrityError, UsageError

_TAR_FOLDER = "anchors/"  # holds all files of the tar, for a user who unpacks it by hand
_TAR_BLOCK = 512
_TAR_END = bytes(2 * _TAR_BLOCK)
_REMEDY = "download the archive again from its source, or export it again"


def compute_archive_size(manifest: Manifest) -> int:
    """Return the size of the tar in bytes."""
    sizes = [len(manifest.to_bytes()), *(entry.size for entry in list_bundle_files(manifest).values())]
    return sum(_TAR_BLOCK + size + -size % _TAR_BLOCK for size in sizes) + len(_TAR_END)


def write_archive(out: BinaryIO, bundle: Bundle, progress: ByteProgress) -> None:
    """Write a bundle as a tar; raises IntegrityError if a file of the set was changed."""
    manifest = bundle.manifest.to_bytes()
    out.write(_make_header(MANIFEST_FILE, len(manifest)) + manifest + bytes(-len(manifest) % _TAR_BLOCK))
    for path, entry in list_bundle_files(bundle.manifest).items():
        out.write(_make_header(path, entry.size))
        location = bundle.locations[path]
        with open_plain_file(location) as file:
            wrong = copy_verified(file, out, entry, progress)
        if wrong:
            raise IntegrityError(
                f"{location} {wrong}", f"{entry.size:,} bytes with sha256 {entry.sha256}", "verify the set"
            )
        out.write(bytes(-entry.size % _TAR_BLOCK))
    out.write(_TAR_END)


def write_archive_file(path: Path, bundle: Bundle, progress: ByteProgress) -> None:
    """Write the tar to a new file, durably and atomically; raises UsageError if the file exists."""
    check_new_file(path)

    def write(temporary: Path) -> None:
        with open(temporary, "xb") as out:
            write_archive(out, bundle, progress)

    atomic_write(path, write, compute_archive_size(bundle.manifest))


def check_new_file(path: Path) -> None:
    """Raise UsageError if the file exists, or its folder does not."""
    if path.is_symlink() or path.exists():
        raise UsageError(f"{path} exists", "a file that is not there yet", "name another, or remove it first")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"{path.absolute().parent} is no folder", "a folder to write the archive into", "make it first"
        )


class TarSource:
    """Read an untrusted tar from a file or a pipe, sequentially, never seeking.

    Raises InputRefused for anything but such an archive, IntegrityError for one that is damaged or has other content.
    """

    retry_hint = _REMEDY
    sequential = True

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self.origin = where

    def read_manifest(self, scratch: Path) -> bytes:
        """Read the manifest; the files follow in the order in which it lists them. Writes nothing to `scratch`."""
        first = self._file.read(_TAR_BLOCK)
        name = _make_header(MANIFEST_FILE, 0)[:100]
        if not first.startswith(name[: max(1, len(first))]):
            raise InputRefused(
                f"{self.origin} {'is empty' if not first else 'is no archive of an anchor set'}",
                f"a tar that begins with {_TAR_FOLDER}{MANIFEST_FILE}",
                "make one with: asif anchors export",
            )
        size = _parse_size(first)
        if (
            len(first) < _TAR_BLOCK
            or size is None
            or size > MAX_MANIFEST_BYTES
            or first != _make_header(MANIFEST_FILE, size)
        ):
            raise self._damaged(f"is damaged, or ends, within the header of {MANIFEST_FILE}")
        data = self._file.read(size)
        if len(data) < size:
            raise self._damaged(f"ends within {MANIFEST_FILE}: all else is missing")
        self._check_padding(MANIFEST_FILE, size)
        return data

    def fetch_file(self, path: str, entry: FileEntry, to: Path, progress: ByteProgress) -> None:
        """Copy the next file of the archive, which must be this one, into a new file."""
        header = self._file.read(_TAR_BLOCK)
        if header != _make_header(path, entry.size):
            raise self._damaged(_describe_unexpected(header, path))
        with open(to, "xb") as out:
            wrong = copy_verified(self._file, out, entry, progress)
        if wrong:
            raise self._damaged(f"holds {path}, which {wrong}")
        fsync_path(to)
        self._check_padding(path, entry.size)

    def check_end(self) -> None:
        """Check that the archive ends here."""
        if self._file.read(len(_TAR_END) + 1) != _TAR_END:
            raise self._damaged("does not end after the last file of its manifest")

    def _check_padding(self, path: str, size: int) -> None:
        if self._file.read(-size % _TAR_BLOCK) != bytes(-size % _TAR_BLOCK):
            raise self._damaged(f"is damaged, or ends, right after {path}")

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self.origin} {what}", "the archive as it was exported, byte for byte", _REMEDY)


def _make_header(path: str, size: int) -> bytes:
    """Return the ustar header of a plain file, without owner and time."""
    info = tarfile.TarInfo(_TAR_FOLDER + path)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _parse_size(header: bytes) -> int | None:
    digits = header[124:135]
    return int(digits, 8) if len(digits) == 11 and set(digits) <= set(b"01234567") else None


def _describe_unexpected(header: bytes, path: str) -> str:
    """Describe the file of a header other than the expected one, for an error."""
    if len(header) < _TAR_BLOCK or header == bytes(_TAR_BLOCK):
        return f"ends too early: {path} is missing, and all that should follow it"
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return f"is damaged in the header of {path}"
    kind = "a link" if found.issym() or found.islnk() else "a file" if found.isreg() else "something else"
    return f"holds {found.name[:80]!a} ({kind} of {found.size:,} bytes) in place of {path}"
