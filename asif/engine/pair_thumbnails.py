"""Thumbnails of the pairs of anchors, made from the files that the anchors were built from: anchors store no pixels."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from asif.anchorset import AnchorSet, OpenAnchors, Store, View, default_home
from asif.encoders.images import make_webp_thumbnail, read_image_bytes
from asif.engine.snapshots import LruCache
from asif.errors import AsifError, BadMedia
from asif.modality import find_modality
from asif.pairs import Pair, PairRecord, PairSource, Reject, open_pairs
from asif.pairs.columns import Columns
from asif.vectors import Int64

_log = logging.getLogger(__name__)

_MANY_ROWS = 100_000  # people wait long enough to be told why
_MOST_ROWS = 1 << 20  # of a source; pairs of later rows have no thumbnail
_MOST_PLACES = 8  # rows that are tried for one pair
_THUMBNAILS_KEPT = 1024
_Made = TypeVar("_Made")


class PairFiles(Generic[_Made]):
    """Make something of the files of pairs, such as thumbnails of images; safe for threads.

    The source that a build recorded is opened if it is on this machine, and its rows are found by id, or by caption if
    it has no ids. Only a file with the sha256 of the pair's record is used: none if its source is gone, remote or
    changed, was opened with columns or a split of its own, or was added to the set later. What was made last is kept in
    memory, and 16 bytes for each row of the sources.
    """

    def __init__(
        self,
        anchors: OpenAnchors,
        make: Callable[[Pair, bytes], _Made],
        home: Path | None = None,
        most_places: int = _MOST_PLACES,
    ) -> None:
        self._anchors = anchors
        self._make, self._most_places = make, most_places
        self._home = home or default_home()
        self._kept: LruCache[str, _Made] = LruCache(_THUMBNAILS_KEPT)
        self._lock = Lock()

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Where the sources of the pairs are, or were, as the builds recorded it."""
        members = self._anchors.members if isinstance(self._anchors, View) else (self._anchors,)
        found = (_list_places(one, Store(self._home), set()) for one in members if isinstance(one, AnchorSet))
        return tuple(dict.fromkeys(chain.from_iterable(found)))

    @cached_property
    def _sources(self) -> list[_IndexedSource]:
        modality = find_modality(self._anchors, "image")
        opened = (_open_source(place, modality) for place in self.places)
        return [_IndexedSource(source) for source in opened if source is not None and source.dims is None]

    def read(self, records: Iterable[PairRecord]) -> dict[str, _Made]:
        """Return what is made of pairs that have a file, by the sha256 of it; reads each source in its order."""
        wanted = {record.image_sha256: record for record in records}
        with self._lock:
            found = {sha256: kept for sha256 in wanted if (kept := self._kept.get(sha256)) is not None}
            for source in self._sources:
                missing = {sha256: record for sha256, record in wanted.items() if sha256 not in found}
                found |= source.read(missing, self._make, self._most_places)
            for sha256, made in found.items():
                self._kept.put(sha256, made)
        return found


class PairThumbnails(PairFiles[bytes]):
    """Make thumbnails of the images of pairs, WebP of at most 128 pixels a side."""

    def __init__(self, anchors: OpenAnchors, home: Path | None = None) -> None:
        super().__init__(anchors, lambda pair, content: make_webp_thumbnail(content), home)

    def read_thumbnail(self, record: PairRecord) -> bytes | None:
        """Return the thumbnail of one pair; None if there is none."""
        return self.read([record]).get(record.image_sha256)


def make_wanted_thumbnails(
    items: Iterable[Pair | Reject], wanted: Set[str], make: Callable[[bytes], bytes]
) -> dict[str, bytes]:
    """Return what `make` makes of the wanted images, by the sha256 of the file; stops once all are read.

    Images that are missing, cannot be decoded, or changed since their sha256 was taken are left out.
    """
    return _make_wanted(items, wanted, lambda pair, content: make(content))


def _make_wanted(
    items: Iterable[Pair | Reject], wanted: Set[str], make: Callable[[Pair, bytes], _Made]
) -> dict[str, _Made]:
    thumbnails: dict[str, _Made] = {}
    missing = set(wanted)
    for item in items if missing else ():
        if not isinstance(item, Pair) or item.image is None:
            continue
        try:
            content = read_image_bytes(item.image)
            digest = hashlib.sha256(content).hexdigest()
            if digest in missing:
                missing.discard(digest)
                thumbnails[digest] = make(item, content)
        except BadMedia:
            continue  # a page shows an empty frame, or nothing, in its place
        if not missing:
            break
    return thumbnails


@dataclass(frozen=True)
class _IndexedSource:
    """Find the rows of pairs in a source, by hashes of their ids or captions."""

    source: PairSource

    @cached_property
    def _index(self) -> tuple[Int64, Int64]:
        """The hashes of all ids, or captions if there are none, ascending, and the row of each; opens no image."""
        columns = self.source.columns
        names = Columns(id=columns.id) if columns.id else replace(columns, image=None, status=None)
        hashes, rows = [], []
        if self.source.rows >= _MANY_ROWS:
            _log.info(
                "looking for the images of anchors among %s rows of %s", f"{self.source.rows:,}", self.source.path
            )
        for item in islice(replace(self.source, columns=names).read(), _MOST_ROWS):
            if isinstance(item, Pair):
                for key in item.captions if item.id is None else (item.id,):
                    hashes.append(hash(key))
                    rows.append(item.row)
        keys = np.array(hashes, np.int64)
        order = np.argsort(keys, kind="stable")
        return keys[order], np.array(rows, np.int64)[order]

    def _find_rows(self, record: PairRecord, most: int) -> list[int]:
        """Return the first rows that may be those of a pair; one of several captions has the id `<id>#<number>`."""
        hashes, rows = self._index
        keys = np.array([hash(key) for key in (record.id, record.id.rpartition("#")[0], *record.captions)], np.int64)
        spans = zip(np.searchsorted(hashes, keys), np.searchsorted(hashes, keys, side="right"), strict=True)
        return sorted({int(row) for begin, end in spans for row in rows[begin:end][:most]})[:most]

    def read(
        self, records: Mapping[str, PairRecord], make: Callable[[Pair, bytes], _Made], most_places: int
    ) -> dict[str, _Made]:
        """Return what is made of the pairs of {sha256: record} that are in this source."""
        if not records:
            return {}
        try:
            rows = sorted({row for record in records.values() for row in self._find_rows(record, most_places)})
            local = (item for item in self.source.read_rows(rows) if _is_local(item))
            return _make_wanted(local, records.keys(), make)
        except (AsifError, OSError):  # the source was damaged or deleted since
            return {}


def _is_local(item: Pair | Reject) -> bool:
    return isinstance(item, Pair) and isinstance(item.image, bytes | Path)


def _list_places(anchors: AnchorSet, store: Store, seen: set[str]) -> Iterator[str]:
    """Yield the sources that builds recorded: that of the set's own build, or those of sets it was copied from."""
    version: str | None = anchors.version
    while version is not None and (exactly := anchors.folder.exactly(version)) not in seen:
        seen.add(exactly)
        try:
            manifest = anchors.folder.manifest(version)
        except AsifError:  # an earlier version was deleted
            return
        operation = manifest.operation
        if "source" in operation:
            of_files = "input" in operation and manifest.encoders["image"].spec != "precomputed"
            yield from [str(operation["source"])] if of_files else []  # neither vectors nor a classifier's head
            return
        if "from" in operation:
            for ref in str(operation["from"]).split(" and "):
                yield from _list_places_of(ref, store, seen)
            return
        version = manifest.parent


def _list_places_of(ref: str, store: Store, seen: set[str]) -> list[str]:
    try:
        with store.open(ref) as origin:
            return list(_list_places(origin, store, seen))
    except AsifError:  # the set was deleted, or renamed
        return []


def _open_source(place: str, modality: str) -> PairSource | None:
    """Open what a build recorded; None if it is remote, gone, or cannot be opened as it is."""
    if "://" in place:
        return None
    for captions_from in (None, "folders"):
        try:
            if Path(place).exists():
                return open_pairs(
                    Path(place), captions_from=captions_from, modality=None if modality == "image" else modality
                )
        except (AsifError, OSError, ValueError):
            continue
    return None
