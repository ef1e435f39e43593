"""Where a source lies: here, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from asif.errors import UsageError
from asif.pairs.redaction import redacted
from asif.pairs.remote import RemotePath, connect

Place: TypeAlias = Path | RemotePath
"""A file or folder here, or in a store elsewhere."""
ASKED_AT_ONCE = 16
T = TypeVar("T")


def place_of(path: str | Path) -> Place:
    """Return the place of a path or URL; nothing is opened, and for a path here fsspec is not imported.

    >>> place_of("a/b.parquet"), place_of("file:///data/a%20b.tar")
    (PosixPath('a/b.parquet'), PosixPath('/data/a b.tar'))
    """
    if isinstance(path, Path) or "://" not in path:
        return Path(path)
    if not path.startswith("file://"):
        return connect(path)
    parts = urlsplit(path)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{redacted(path)} names another machine", "file:///…, on this one", "give the whole path")
    return Path(url2pathname(parts.path))


def entries(folder: Place) -> dict[str, Place]:
    """List a folder: {name: place}, sorted by name."""
    places: Iterable[Place] = folder.iterdir()
    return {place.name: place for place in sorted(places, key=lambda place: place.name)}


def each(work: Callable[[Place], T], places: Sequence[Place]) -> list[T]:
    """Return work(place) for each place, in order; many at once where every question is a journey."""
    if not any(isinstance(place, RemotePath) for place in places):
        return [work(place) for place in places]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return list(pool.map(work, places))
