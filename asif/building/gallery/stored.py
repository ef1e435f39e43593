"""Compare what a source has now with the items of a gallery's version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

from asif.anchorset import AnchorSet
from asif.building.gallery.build import GalleryOptions
from asif.building.gallery.known import KnownVectors
from asif.building.gallery.prepare import ItemReader
from asif.encoders.precomputed import PrecomputedEncoder
from asif.errors import BadMedia
from asif.pairs import PairSource, Reject, join_repeated_ids
from asif.pairs.item import ItemRecord


@dataclass
class StoredItems:
    """Compare records of the source with those of the current version; about 300 bytes for each item."""

    leaves_out: Callable[[ItemRecord], bool]
    stamps: dict[str, int] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, current: AnchorSet, leaves_out: Callable[[ItemRecord], bool]) -> StoredItems:
        stored = cls(leaves_out)
        for block in range(len(current.manifest.blocks)):
            for record in current.pairs(block):
                assert isinstance(record, ItemRecord)
                stored.stamps[record.id] = _stamp(record)
                stored.contents[record.id] = bytes.fromhex(record.sha256)
        return stored

    def skips(self, record: ItemRecord) -> bool:
        """Tell whether a record needs no reading: left out, or a file with the path, size and time that it had."""
        if self.leaves_out(record):
            return True
        same = self.stamps.get(record.id) == _stamp(record)
        if same and (record.mtime_ns is not None or self._has_content(record)):
            self.seen.add(record.id)
            return True
        return False

    def is_stored(self, record: ItemRecord) -> bool:
        """Tell whether a complete record is stored as it is."""
        if self.stamps.get(record.id) == _stamp(record) and self._has_content(record):
            self.seen.add(record.id)
            return True
        return False

    def _has_content(self, record: ItemRecord) -> bool:
        return bool(record.sha256) and self.contents.get(record.id) == bytes.fromhex(record.sha256)


def _stamp(record: ItemRecord) -> int:
    """Hash all of a record but its content and thumbnail, for comparison in this process."""
    return hash(
        (
            record.uri,
            record.size,
            record.mtime_ns,
            record.captions,
            record.source,
            record.licence,
            record.url,
            record.label,
        )
    )


def count_changes(source: PairSource, current: AnchorSet, options: GalleryOptions) -> dict[str, int]:
    """Count the rows that an update would read, and the items that are gone; runs no encoder and opens no image file.

    `new` items may be renamed or copied files, and `changed` ones may have the content that they had.
    """
    stored = StoredItems.of(current, options.leaves_out())
    (side,) = current.manifest.sides
    reader = ItemReader(source, side, PrecomputedEncoder(side, current.dims[side]), KnownVectors([], side), False)
    counts, kept = {"new": 0, "changed": 0, "unchanged": 0, "gone": 0, "unreadable": 0}, set[str]()
    for item in join_repeated_ids(islice(source.read(), options.count_rows(source))):
        try:
            if isinstance(item, Reject):
                raise BadMedia(item.reason, "a row", "mend it")
            records = reader.describe(item)
            names = reader.name_item(item)
        except BadMedia:
            counts["unreadable"] += 1
            continue
        for name, record in zip(names, records, strict=True):
            if not stored.leaves_out(record):
                kept.add(name)
                same = stored.skips(replace(record, id=name))
                counts["unchanged" if same else "changed" if name in stored.stamps else "new"] += 1
    counts["gone"] = len(stored.stamps.keys() - kept)
    return counts
