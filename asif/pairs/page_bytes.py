"""Read the bytes of a parquet page one after another, decompressed on the way: memory does not grow with the page."""

from __future__ import annotations

from collections.abc import Iterator
from io import RawIOBase
from typing import IO, Any, Protocol

PIECE_BYTES = 1 << 20


class DamagedPage(ValueError):
    """A page is not as its header says; raised to the caller that knows the file."""


class PageBytes(Protocol):
    """Read or skip what is left of a page; both raise DamagedPage where there is less."""

    @property
    def left(self) -> int:
        """Count the bytes that follow."""

    def read(self, length: int) -> bytes:
        """Return the next bytes."""

    def skip(self, length: int) -> None:
        """Leave the next bytes out."""


class FileBytes:
    """Read bytes `begin` to `end` of a file, which other readers may use in between."""

    def __init__(self, file: IO[bytes], begin: int, end: int) -> None:
        self.file, self.at, self.end = file, begin, end

    @property
    def left(self) -> int:
        """Count the bytes that follow."""
        return self.end - self.at

    def read(self, length: int) -> bytes:
        """Return the next bytes; raises DamagedPage where there are fewer, in the page or in the file."""
        self.skip(length)
        self.file.seek(self.at - length)
        data = self.file.read(length)
        if len(data) != length:
            raise DamagedPage(f"the file ends before byte {self.at:,}")
        return data

    def skip(self, length: int) -> None:
        """Leave the next bytes out."""
        if not 0 <= length <= self.left:
            raise DamagedPage(f"{length:,} bytes are expected at byte {self.at:,}, the page has {self.left:,}")
        self.at += length


class DecodedBytes:
    """Read `size` bytes that come in pieces."""

    def __init__(self, pieces: Iterator[bytes | memoryview], size: int) -> None:
        self._pieces, self.left = pieces, size
        self._piece = memoryview(b"")

    def read(self, length: int) -> bytes:
        """Return the next bytes; raises DamagedPage where there are fewer."""
        return b"".join(self._take(length))

    def skip(self, length: int) -> None:
        """Leave the next bytes out; they are decompressed all the same."""
        for _ in self._take(length):
            pass

    def _take(self, length: int) -> Iterator[memoryview]:
        if not 0 <= length <= self.left:
            raise DamagedPage(f"{length:,} bytes are expected where the page has {self.left:,}")
        self.left -= length
        while length:
            self._piece = self._piece or memoryview(next(self._pieces, b""))
            if not self._piece:
                raise DamagedPage(f"the page ends {self.left + length:,} bytes before its size")
            part, self._piece = self._piece[:length], self._piece[length:]
            length -= len(part)
            yield part


def decompress_stream(compressed: FileBytes, codec: str) -> Iterator[bytes]:
    """Yield what pyarrow's decompressor of gzip, zstd or brotli makes of the bytes, in pieces."""
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(_Readable(compressed), mode="r"), codec) as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece


class _Readable(RawIOBase):
    """Offer bytes to pyarrow as a file."""

    def __init__(self, source: FileBytes) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(min(len(buffer), self._source.left))
        buffer[: len(data)] = data
        return len(data)
