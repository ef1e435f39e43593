"""The contents of a gallery's items, read again from where they were found; content that has changed is not used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from asif.anchorset import Gallery
from asif.building.gallery import GalleryOptions
from asif.encoders import ImageEncoder
from asif.encoders.images import read_image_bytes
from asif.encoders.prefetch import prefetch
from asif.errors import AsifError, BadMedia, InputRefused
from asif.modality import name_many
from asif.pairs import Pair, PairSource, Place
from asif.pairs.item import ItemRecord, make_file_uri
from asif.pairs.location import parse_place

_NAMED = 3
"""Items that an error names."""
GONE, CHANGED = "gone", "changed"


@dataclass(frozen=True)
class ItemContent:
    """Hold the content of an item, prepared for the encoder; or in `trouble` why there is none: gone, or changed."""

    number: int
    item: ItemRecord
    ready: Any = None
    trouble: str | None = None


@dataclass
class ItemContents:
    """Read the files, and the rows of tables, that the items of a gallery were made from.

    Content that has another sha256 than the gallery's record of it is not used.
    """

    gallery: Gallery
    troubles: dict[str, list[str]] = field(default_factory=lambda: {GONE: [], CHANGED: []})

    def check(self, items: Iterable[ItemRecord]) -> None:
        """Note the items whose file is gone, or has another size; reads no file."""
        for item in items:
            trouble = self._find_trouble(item)
            if trouble is not None:
                self.troubles[trouble].append(item.id)

    def _find_trouble(self, item: ItemRecord) -> str | None:
        place = self._locate(item)
        if place is None or not isinstance(place, Path):
            return GONE if place is None else None
        try:
            size = place.stat().st_size
        except (OSError, ValueError):
            return GONE
        return CHANGED if item.size is not None and item.size != size else None

    def prepare(self, items: Sequence[ItemRecord], encoder: ImageEncoder) -> Iterator[ItemContent]:
        """Yield the items, by their number among `items`, prepared by threads; what cannot be used is noted."""
        for content in prefetch(partial(_prepare, encoder), self._read(items)):
            if content.trouble is not None:
                self.troubles[content.trouble].append(content.item.id)
            yield content

    def _read(self, items: Sequence[ItemRecord]) -> Iterator[tuple[int, ItemRecord, Any]]:
        """Yield the number of each item, the item, and its file or content; None if it is gone."""
        numbers: dict[int, list[int]] = {}
        for number, item in enumerate(items):
            place = self._locate(item)
            if isinstance(place, int):
                numbers.setdefault(place, []).append(number)
            else:
                yield number, item, place
        if not numbers or self._source is None:
            return
        for pair in self._source.read_rows(sorted(numbers)):
            for number in numbers.pop(pair.row, ()):
                yield number, items[number], pair.image if isinstance(pair, Pair) else None
        for number in (number for some in numbers.values() for number in some):  # the table is shorter now
            yield number, items[number], None

    def _locate(self, item: ItemRecord) -> Place | int | None:
        """Return the file of an item, or its row in the source of the gallery; None if nothing has its name."""
        row = self._rows.get(item.uri) if "#" in item.uri else None
        if row is not None:
            return row
        try:
            return parse_place(item.uri)
        except AsifError:
            return None

    @cached_property
    def _source(self) -> PairSource | None:
        """The source that the gallery records; None if it cannot be opened any more."""
        from asif.engine.gallery import plan_update

        try:
            return plan_update(self.gallery.opened, options=GalleryOptions())[0].pairs
        except (AsifError, OSError, ValueError):
            return None

    @cached_property
    def _rows(self) -> dict[str, int]:
        """The rows of a table by the place that items name."""
        if self._source is None:
            return {}
        places = map(self._source.locate_row, range(self._source.rows))
        files = ((make_file_uri(file) if isinstance(file, Path) else str(file), row) for file, row in places)
        return {f"{file}#{row}": number for number, (file, row) in enumerate(files)}

    def raise_trouble(self, total: int, aligner: str) -> None:
        """Raise InputRefused if the content of an item could not be used; `total` are those that are needed."""
        gone, changed = self.troubles[GONE], self.troubles[CHANGED]
        if not gone and not changed:
            return
        named = [*gone, *changed]
        counts = [f"{len(some):,} {what}" for some, what in ((gone, "are gone"), (changed, "have changed")) if some]
        more = ", …" if len(named) > _NAMED else ""
        raise InputRefused(
            f"of {total:,} {name_many(self.gallery.modality)} of {self.gallery.ref} that {aligner} has to read again, "
            f"{' and '.join(counts)}: {', '.join(named[:_NAMED])}{more}",
            "each where it was found, with the content of which the gallery has the vector: a gallery holds no tokens",
            f"bring them back, or leave them out: asif gallery update {self.gallery.name}",
        )


def _prepare(encoder: ImageEncoder, found: tuple[int, ItemRecord, Any]) -> ItemContent:
    """Read the content of an item, compare its hash, and decode it."""
    number, item, source = found
    try:
        content = b"" if source is None else read_image_bytes(source)
    except BadMedia:
        content = b""
    if not content:
        return ItemContent(number, item, trouble=GONE)
    if hashlib.sha256(content).hexdigest() != item.sha256:
        return ItemContent(number, item, trouble=CHANGED)
    try:
        return ItemContent(number, item, encoder.prepare(content))
    except BadMedia:  # it was decoded once, by an earlier version
        return ItemContent(number, item, trouble=CHANGED)
