"""Reading a file that lies elsewhere: by ranges, each asked for again when the connection fails."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from asif.errors import InputRefused
from asif.pairs.retry import asked

if TYPE_CHECKING:
    from asif.pairs.remote import RemotePath

BLOCK = 2 << 20
"""Bytes of one request."""
BLOCKS = 16
"""Blocks kept of an open file: columns of parquet lie apart and are read in turn."""


class RemoteFile(io.RawIOBase):
    """Read a file that was found with a certain size; one that has another now is refused."""

    def __init__(self, place: RemotePath) -> None:
        self._place = place
        self._size = place.size
        self._at = 0
        self._file: Any = asked(str(place), place.query, self._opened)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        # never over the edge of a block: what a short answer lacks would be made up from the next
        want = min(len(view), self._size - self._at, BLOCK - self._at % BLOCK)
        if want <= 0:
            return 0
        data = asked(str(self._place), self._place.query, lambda: self._read(want))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()

    def _opened(self) -> Any:
        kept = {"block_size": BLOCK, "cache_type": "blockcache", "cache_options": {"maxblocks": BLOCKS}}
        file = self._place.fs.open(self._place.where, "rb", **kept)
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
        """Read from where we are; after a failure the file is opened anew, without the block that came short."""
        if self._file is None:
            self._file = self._opened()
        file, self._file = self._file, None
        try:
            file.seek(self._at)
            data: bytes = file.read(want)
        except ValueError as error:
            if not self._place.is_url:
                raise
            raise InputRefused(  # what fsspec raises for a server without ranges
                f"the server of {self._place} sends files as a whole alone",
                "a server that answers requests for ranges",
                f"download the file first, or have it copied while it is read: simplecache::{self._place}",
            ) from error
        if not data:
            raise ConnectionError(f"the answer ends at byte {self._at:,} of {self._size:,}")
        self._file = file
        return data
