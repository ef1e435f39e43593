"""Read a remote file by ranges, each retried when the connection fails."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from asif.errors import InputRefused
from asif.pairs.retry import with_retries

if TYPE_CHECKING:
    from asif.pairs.remote import RemotePath

_BLOCK_BYTES = 2 << 20
"""Bytes of one request."""
_CACHED_BLOCKS = 16
"""Blocks cached per open file: the columns of a parquet file are stored apart and read in turn."""


class RemoteFile(io.RawIOBase):
    """Read a file of known size; raises InputRefused if its size has changed."""

    def __init__(self, place: RemotePath) -> None:
        self._place = place
        self._size = place.size
        self._position = 0
        self._file: Any = with_retries(str(place), place.query, self._open)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        # never across blocks: fsspec would fill a short response from the next block
        want = min(len(view), self._size - self._position, _BLOCK_BYTES - self._position % _BLOCK_BYTES)
        if want <= 0:
            return 0
        data = with_retries(str(self._place), self._place.query, lambda: self._read(want))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()

    def _open(self) -> Any:
        options = {
            "block_size": _BLOCK_BYTES,
            "cache_type": "blockcache",
            "cache_options": {"maxblocks": _CACHED_BLOCKS},
        }
        file = self._place.fs.open(self._place.where, "rb", **options)
        size = getattr(file, "size", None)
        if size is not None and size != self._size:
            file.close()
            raise InputRefused(
                f"{self._place} had {self._size:,} bytes and now has {size:,}",
                "a file that does not change while it is read",
                "start again when it is complete",
            )
        return file

    def _read(self, want: int) -> bytes:
        """Read at the current position; a failure reopens the file, which drops an incomplete cached block."""
        if self._file is None:
            self._file = self._open()
        file, self._file = self._file, None
        try:
            file.seek(self._position)
            data: bytes = file.read(want)
        except ValueError as error:
            if not self._place.is_url:
                raise
            raise InputRefused(  # what fsspec raises for a server without ranges
                f"the server of {self._place} sends complete files only",
                "a server that supports range requests",
                f"download the file first, or have it copied while it is read: simplecache::{self._place}",
            ) from error
        if not data:
            raise ConnectionError(f"the response ends at byte {self._position:,} of {self._size:,}")
        self._file = file
        return data
