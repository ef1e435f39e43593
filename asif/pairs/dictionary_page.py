"""Look up values of a parquet dictionary page: ascending without holding any, otherwise in a temporary file."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from asif.errors import OutOfSpace
from asif.pairs.page_bytes import PIECE_BYTES, DamagedPage, FileBytes, PageBytes
from asif.pairs.row_parser import Flaw

MAX_CELL_BYTES = 256 << 20
_HELD_BYTES = 32 << 20  # what is larger goes to the temporary folder


def read_value(page: PageBytes) -> bytes | Flaw:
    """Return the next value of a page; a Flaw for more than 256 MiB."""
    length = read_length(page)
    if length > MAX_CELL_BYTES:
        page.skip(length)
        return Flaw(f"has {length:,} bytes, more than {MAX_CELL_BYTES:,}")
    return page.read(length)


def skip_value(page: PageBytes) -> None:
    """Leave the next value out."""
    page.skip(read_length(page))


def read_length(page: PageBytes) -> int:
    """Return the length that stands before a value."""
    length = int.from_bytes(page.read(4), "little")
    if length > page.left:
        raise DamagedPage(f"a value of {length:,} bytes is longer than its page, which has {page.left:,} more")
    return length


class DictionaryPage:
    """Look up the values of a dictionary page by their indices; `count` is their number.

    A dictionary lists values in the order in which they first occur, so it is usually read once, from start to end. The
    first index that goes back has it copied, decompressed, to a temporary file.
    """

    def __init__(self, open_page: Callable[[], PageBytes], count: int) -> None:
        self.count = count
        self._open_page, self._page = open_page, open_page()
        self._next = 0
        self._last: bytes | Flaw = b""
        self._index: _ValueIndex | None = None

    def read(self, index: int) -> bytes | Flaw:
        """Return a value; raises DamagedPage, and OutOfSpace where a copy is needed and the disk is full."""
        if self._index is None and index < self._next - 1:
            self._index = _ValueIndex(self._open_page(), self.count)
        if self._index is not None:
            return self._index.read(index)
        while self._next < index:
            skip_value(self._page)
            self._next += 1
        if self._next == index:
            self._last = read_value(self._page)
            self._next += 1
        return self._last

    def close(self) -> None:
        """Remove the temporary files."""
        if self._index is not None:
            self._index.close()


class _ValueIndex:
    """Read the values of a page in any order; where they begin is noted in a temporary file too."""

    def __init__(self, page: PageBytes, count: int) -> None:
        self._files = ExitStack()
        with self._files:
            page = page if isinstance(page, FileBytes) else self._copy(page)
            self._file, self._end = page.file, page.end
            self._places = self._open_temporary()
            for _ in range(count):
                _write(self._places, page.at.to_bytes(8, "little"))
                skip_value(page)
            self._files = self._files.pop_all()

    def read(self, index: int) -> bytes | Flaw:
        self._places.seek(index * 8)
        return read_value(FileBytes(self._file, int.from_bytes(self._places.read(8), "little"), self._end))

    def close(self) -> None:
        self._files.close()

    def _open_temporary(self) -> IO[bytes]:
        return cast("IO[bytes]", self._files.enter_context(SpooledTemporaryFile(_HELD_BYTES)))

    def _copy(self, page: PageBytes) -> FileBytes:
        file, size = self._open_temporary(), page.left
        while page.left:
            _write(file, page.read(min(PIECE_BYTES, page.left)))
        return FileBytes(file, 0, size)


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OutOfSpace(
            "there is no room for a decompressed copy of a parquet dictionary",
            "room in the temporary folder",
            "free some space, or set TMPDIR to another folder",
        ) from error
