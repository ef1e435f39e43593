"""Copy a file of known size and sha256, and detect any changed byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import BinaryIO

from asif.anchorset.format.manifest import FileEntry

_COPY_CHUNK = 1 << 20
ByteProgress = Callable[[int], None]
"""Is called with the number of bytes done since its last call."""


def copy_verified(source: BinaryIO, out: BinaryIO, entry: FileEntry, progress: ByteProgress) -> str | None:
    """Copy the number of bytes that `entry` gives, and no more; return what is wrong with them, or None."""
    digest, remaining = hashlib.sha256(), entry.size
    while remaining and (chunk := source.read(min(_COPY_CHUNK, remaining))):
        digest.update(chunk)
        out.write(chunk)
        progress(len(chunk))
        remaining -= len(chunk)
    if remaining:
        return f"ends {remaining:,} bytes before its end"
    return None if digest.hexdigest() == entry.sha256 else f"has sha256 {digest.hexdigest()}"
