"""A parcel as one tar. Equal versions give equal bytes, so that reading one parses nothing but its manifest.

The manifest comes first: it lists all that follows with sizes and hashes, and has a checksum over itself. From it
follow the bytes of every header, which are compared, not interpreted: a link, a device, a path that leads elsewhere, a
file twice or too many cannot be expressed.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import BinaryIO

from asif.anchorset.format.atomic_io import flush, open_regular, replace_file
from asif.anchorset.format.manifest import FileEntry, Manifest
from asif.anchorset.sharing.bundle import MANIFEST, Parcel, listed
from asif.anchorset.sharing.verified_copy import Progress, copy
from asif.errors import InputRefused, IntegrityError, UsageError

FOLDER = "anchors/"  # in which all files of the tar lie, for whoever unpacks it by hand
UNIT = 512
END = bytes(2 * UNIT)
LARGEST = 64 << 20  # bytes of a manifest
AGAIN = "get the archive again from where it came, or export it anew"


def archive_size(manifest: Manifest) -> int:
    """Return the size of the tar in bytes."""
    sizes = [len(manifest.to_bytes()), *(entry.size for entry in listed(manifest).values())]
    return sum(UNIT + size + -size % UNIT for size in sizes) + len(END)


def write_archive(out: BinaryIO, parcel: Parcel, progress: Progress) -> None:
    """Write a parcel as a tar; raises IntegrityError where a file of the set is not as it was written."""
    manifest = parcel.manifest.to_bytes()
    out.write(_header(MANIFEST, len(manifest)) + manifest + bytes(-len(manifest) % UNIT))
    for path, entry in listed(parcel.manifest).items():
        out.write(_header(path, entry.size))
        place = parcel.places[path]
        with open_regular(place) as file:
            wrong = copy(file, out, entry, progress)
        if wrong:
            raise IntegrityError(
                f"{place} {wrong}", f"{entry.size:,} bytes with sha256 {entry.sha256}", "verify the set"
            )
        out.write(bytes(-entry.size % UNIT))
    out.write(END)


def put_archive(path: Path, parcel: Parcel, progress: Progress) -> None:
    """Write the tar to a new file, durably, whole or not at all; raises UsageError where there is one already."""
    refuse_existing(path)

    def write(temporary: Path) -> None:
        with open(temporary, "xb") as out:
            write_archive(out, parcel, progress)

    replace_file(path, write, archive_size(parcel.manifest))


def refuse_existing(path: Path) -> None:
    """Raise UsageError where the file is there, or cannot be."""
    if path.is_symlink() or path.exists():
        raise UsageError(f"{path} exists", "a file that is not there yet", "name another, or remove it first")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"{path.absolute().parent} is no folder", "a folder to write the archive into", "make it first"
        )


class Archive:
    """Read a tar that anyone may have made, from a file or a pipe; trusts nothing, seeks never.

    Raises InputRefused for what is no such archive, IntegrityError for one that is damaged or holds anything else.
    """

    again = AGAIN
    in_order = True

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file = file
        self.origin = where

    def begin(self, scratch: Path) -> bytes:
        """Read the manifest; the rest is read in the order in which it lists files. Nothing is laid down."""
        first = self._file.read(UNIT)
        name = _header(MANIFEST, 0)[:100]
        if not first.startswith(name[: max(1, len(first))]):
            raise InputRefused(
                f"{self.origin} {'is empty' if not first else 'is no archive of an anchor set'}",
                f"a tar that begins with {FOLDER}{MANIFEST}",
                "make one with: asif anchors export",
            )
        size = _size(first)
        if len(first) < UNIT or size is None or size > LARGEST or first != _header(MANIFEST, size):
            raise self._damaged(f"is damaged, or ends, within the header of {MANIFEST}")
        data = self._file.read(size)
        if len(data) < size:
            raise self._damaged(f"ends within {MANIFEST}: all else is missing")
        self._check_padding(MANIFEST, size)
        return data

    def fetch(self, path: str, entry: FileEntry, to: Path, progress: Progress) -> None:
        """Read the next file, which must be this one, into a new file."""
        header = self._file.read(UNIT)
        if header != _header(path, entry.size):
            raise self._damaged(_other(header, path))
        with open(to, "xb") as out:
            wrong = copy(self._file, out, entry, progress)
        if wrong:
            raise self._damaged(f"holds {path}, which {wrong}")
        flush(to)
        self._check_padding(path, entry.size)

    def finish(self) -> None:
        """Check that the archive ends here."""
        if self._file.read(len(END) + 1) != END:
            raise self._damaged("does not end after the last file of its manifest")

    def _check_padding(self, path: str, size: int) -> None:
        if self._file.read(-size % UNIT) != bytes(-size % UNIT):
            raise self._damaged(f"is damaged, or ends, right after {path}")

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self.origin} {what}", "the archive as it was exported, byte for byte", AGAIN)


def _header(path: str, size: int) -> bytes:
    """Return the header of a plain file: no owner, no time, ustar."""
    described = tarfile.TarInfo(FOLDER + path)
    described.size, described.mode = size, 0o644
    return described.tobuf(tarfile.USTAR_FORMAT)


def _size(header: bytes) -> int | None:
    digits = header[124:135]
    return int(digits, 8) if len(digits) == 11 and set(digits) <= set(b"01234567") else None


def _other(header: bytes, path: str) -> str:
    """Say what a header that is not the expected one stands for."""
    if len(header) < UNIT or header == bytes(UNIT):
        return f"ends too early: {path} is missing, and all that should follow it"
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return f"is damaged in the header of {path}"
    kind = "a link" if found.issym() or found.islnk() else "a file" if found.isreg() else "something else"
    return f"holds {found.name[:80]!a} ({kind} of {found.size:,} bytes) in place of {path}"
