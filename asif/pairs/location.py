"""The location of a source: on this machine, or in a remote store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

from asif.errors import UsageError
from asif.pairs.redaction import redact_url
from asif.pairs.remote import RemotePath, connect

Place: TypeAlias = Path | RemotePath
"""A local file or folder, or one in a remote store."""
_MAX_REQUESTS = 16
T = TypeVar("T")


def parse_place(path: str | Path) -> Place:
    """Parse a path or URL; opens nothing, and imports fsspec for remote URLs only.

    >>> parse_place("a/b.parquet"), parse_place("file:///data/a%20b.tar")
    (PosixPath('a/b.parquet'), PosixPath('/data/a b.tar'))
    """
    if isinstance(path, Path) or "://" not in path:
        return Path(path)
    if not path.startswith("file://"):
        return connect(path)
    parts = urlsplit(path)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{redact_url(path)} names another machine", "file:///…, on this one", "give the whole path")
    if os.name == "nt":
        from urllib.request import url2pathname  # it imports http and ssl

        return Path(url2pathname(parts.path))
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))  # names of files need not be UTF-8


def list_folder(folder: Place) -> dict[str, Place]:
    """List a folder: {name: place}, sorted by name."""
    places: Iterable[Place] = folder.iterdir()
    return {place.name: place for place in sorted(places, key=lambda place: place.name)}


def map_places(work: Callable[[Place], T], places: Sequence[Place]) -> list[T]:
    """Return work(place) for each place, in order; remote places are processed concurrently."""
    if not any(isinstance(place, RemotePath) for place in places):
        return [work(place) for place in places]
    with ThreadPoolExecutor(_MAX_REQUESTS) as pool:
        return list(pool.map(work, places))
