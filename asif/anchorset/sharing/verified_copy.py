"""Copy a file of known size and hash, and betray any changed byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import BinaryIO

from asif.anchorset.format.manifest import FileEntry

CHUNK = 1 << 20
Progress = Callable[[int], None]
"""Is told how many bytes were done since it was last told."""


def copy(source: BinaryIO, out: BinaryIO, entry: FileEntry, progress: Progress) -> str | None:
    """Copy as many bytes as `entry` says, no more; return what is wrong with them, or None."""
    digest, left = hashlib.sha256(), entry.size
    while left and (chunk := source.read(min(CHUNK, left))):
        digest.update(chunk)
        out.write(chunk)
        progress(len(chunk))
        left -= len(chunk)
    if left:
        return f"ends {left:,} bytes before its end"
    return None if digest.hexdigest() == entry.sha256 else f"has sha256 {digest.hexdigest()}"
