"""Read one row of a gallery's source: its content and its record, ready for the encoder."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from asif.building.gallery.deferred import DeferredEncoder
from asif.building.gallery.known import KnownVectors
from asif.encoders import ImageEncoder, TextEncoder
from asif.encoders.images import make_webp_thumbnail, read_image_bytes
from asif.errors import BadMedia
from asif.modality import read_modality
from asif.pairs import Pair, PairSource, Place, Reject
from asif.pairs.item import ItemRecord, make_file_uri, name_path
from asif.vectors import Float32, Side

ItemEncoder: TypeAlias = ImageEncoder | TextEncoder | DeferredEncoder
_SKIPPED_PER_GROUP = 4096
_READS = 3  # of a file that changes while it is read
_COARSE_CLOCK, _FINE_CLOCK = 2 * 10**9, 5 * 10**7  # ticks in nanoseconds of file systems, at most


@dataclass(frozen=True)
class PreparedItem:
    """Hold an item of a row: its record, and the stored or precomputed vector [d], or what the encoder is to run on.

    A stored vector is one of the same content, and is used as it is.
    """

    record: ItemRecord
    ready: Any = None
    stored: Float32 | None = None
    precomputed: Float32 | None = None


@dataclass(frozen=True)
class SkippedRows:
    """Hold rows that give no item, or only items that are stored as they are."""

    rows: tuple[int, ...]


@dataclass(frozen=True)
class PreparedRow:
    """Hold the items of one row; none if they are stored as they are.

    If it `waits`, the encoder must be loaded, and the row prepared again.
    """

    pair: Pair
    items: tuple[PreparedItem, ...] = ()
    waits: bool = False


@dataclass(frozen=True)
class ItemReader:
    """Prepare rows of a source for one side; safe to call from several threads.

    Items are skipped whose records, without their content, `skips` is true for, and those whose complete records
    `is_stored` is true for.
    """

    source: PairSource
    side: Side
    encoder: ItemEncoder
    known: KnownVectors
    thumbnails: bool
    skips: Callable[[ItemRecord], bool] = lambda record: False
    is_stored: Callable[[ItemRecord], bool] = lambda record: False

    @property
    def modality(self) -> str:
        """Return what the items are."""
        return read_modality(self.encoder.fingerprint, self.side)

    def group_skipped(self, items: Iterable[Pair | Reject]) -> Iterator[Pair | Reject | SkippedRows]:
        """Yield rows, and in place of those of which all items are skipped, a group of them; opens no file."""
        skipped: list[int] = []
        for item in items:
            if isinstance(item, Pair) and self._skips_row(item):
                skipped += (item.row, *item.joined)
                if len(skipped) < _SKIPPED_PER_GROUP:
                    continue
            if skipped:
                yield SkippedRows(tuple(skipped))
            if not (skipped and skipped[-1] in (item.row, *item.joined)):
                yield item
            skipped = []
        if skipped:
            yield SkippedRows(tuple(skipped))

    def _skips_row(self, pair: Pair) -> bool:
        try:
            return all(list(map(self.skips, self.describe(pair))))  # of each: it marks what is there
        except BadMedia:
            return False  # `prepare` gives the reason

    def prepare(self, item: Pair | Reject | SkippedRows) -> PreparedRow | Reject | SkippedRows:
        """Read, hash and decode the content of a row; a bad image becomes a Reject with its reason."""
        if not isinstance(item, Pair):
            return item
        try:
            records = self.describe(item)
            if self.side == "text":
                texts = tuple(self._prepare_text(record) for record in records if not self.skips(record))
                return PreparedRow(item, texts)
            return self._prepare_image(item, records[0])
        except BadMedia as error:
            return Reject(item.row, item.id, error.came, item.joined)

    def describe(self, pair: Pair) -> list[ItemRecord]:
        """Return the records of a row without its content: sha256 and thumbnail, and the id if it depends on those.

        A text is its content, so its record is complete.
        """
        if self.side == "text":
            return self._describe_texts(pair)
        size, mtime_ns = _stat(pair.image) if isinstance(pair.image, Path) else (None, None)
        place = self._find_uri(pair)
        name = pair.id or self._name_file(pair.image) or ""
        return [
            ItemRecord(
                name, pair.captions, "", pair.source, pair.licence, pair.url, place, size, mtime_ns, label=pair.label
            )
        ]

    def name_item(self, pair: Pair) -> list[str]:
        """Return the ids of the items of a row; reads the content if they depend on it. Raises BadMedia."""
        records = self.describe(pair)
        if all(record.id for record in records):
            return [record.id for record in records]
        return [derive_item_id(hashlib.sha256(_read_content(pair)[0]).hexdigest())]

    def _describe_texts(self, pair: Pair) -> list[ItemRecord]:
        place, several = self._find_uri(pair), len(pair.captions) > 1
        records = []
        for number, text in enumerate(pair.captions):
            content = text.encode()
            sha256 = hashlib.sha256(content).hexdigest()
            name = derive_item_id(sha256) if pair.id is None else f"{pair.id}#{number}" if several else pair.id
            more = pair.source, pair.licence, pair.url, place
            records.append(ItemRecord(name, (text,), sha256, *more, size=len(content), label=pair.label))
        return records

    def _prepare_text(self, record: ItemRecord) -> PreparedItem:
        stored = self.known.find(record.sha256)
        return PreparedItem(record, record.captions[0] if stored is None else None, stored)

    def _prepare_image(self, pair: Pair, record: ItemRecord) -> PreparedRow:
        content, size, mtime_ns = _read_content(pair)
        sha256 = hashlib.sha256(content).hexdigest()
        name = record.id or derive_item_id(sha256)
        record = replace(record, id=name, image_sha256=sha256, size=size, mtime_ns=mtime_ns)
        if self.is_stored(record):
            return PreparedRow(pair)
        if pair.image_embedding is not None:
            return PreparedRow(pair, (PreparedItem(record, precomputed=np.asarray(pair.image_embedding, np.float32)),))
        stored = self.known.find(sha256)
        if stored is None and isinstance(self.encoder, DeferredEncoder) and not self.encoder.is_loaded:
            return PreparedRow(pair, waits=True)
        ready = None if stored is not None else self.encoder.prepare(content)  # type: ignore[union-attr]
        if self.thumbnails and self.modality == "image":
            record = replace(record, thumbnail=self.known.find_thumbnail(sha256) or make_webp_thumbnail(content))
        return PreparedRow(pair, (PreparedItem(record, ready, stored),))

    def _find_uri(self, pair: Pair) -> str:
        if isinstance(pair.image, Path):
            return make_file_uri(pair.image)
        if pair.image is not None and not isinstance(pair.image, bytes):
            return str(pair.image)
        file, row = self.source.locate_row(pair.row)
        return f"{make_file_uri(file) if isinstance(file, Path) else file}#{row}"

    @cached_property
    def _root(self) -> Place:
        return self.source.path if self.source.path.is_dir() else self.source.path.parent

    def _name_file(self, image: Any) -> str | None:
        """Return the path of an image file below the source as its id; None for other images."""
        if isinstance(image, Path) and isinstance(self._root, Path) and image.is_relative_to(self._root):
            return name_path(image.relative_to(self._root))
        return None


def derive_item_id(sha256: str) -> str:
    """Derive an id from the content, for items without one; equal content is one item then."""
    return sha256[:16]


def _read_content(pair: Pair) -> tuple[bytes, int, int | None]:
    """Return the content that an item is hashed over, its size, and the time of its file; raises BadMedia."""
    if pair.image_embedding is not None:
        content = np.ascontiguousarray(pair.image_embedding, np.float32).tobytes()
        return content, len(content), None
    assert pair.image is not None  # or it has a vector
    if not isinstance(pair.image, Path):
        content = read_image_bytes(pair.image)
        return content, len(content), None
    for _ in range(_READS):
        size, mtime_ns = _stat(pair.image)
        started = time.time_ns()
        content = read_image_bytes(pair.image)
        if (size, mtime_ns) == _stat(pair.image) and len(content) == size:
            return content, size, None if _may_change_unseen(mtime_ns, started) else mtime_ns
    raise BadMedia(
        "a file that changes while it is read", "a file at rest", "run asif gallery update once it is complete"
    )


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise BadMedia(f"a file that cannot be read ({error.strerror})", "a readable file", "check it") from error
    return status.st_size, status.st_mtime_ns


def _may_change_unseen(mtime_ns: int, read_at: int) -> bool:
    """Tell whether a file was read so soon after it was written that a later change may leave it with the same time."""
    tick = _COARSE_CLOCK if mtime_ns % 10**9 == 0 else _FINE_CLOCK
    return mtime_ns > read_at - tick
