"""The source of a gallery: open, and how it is found again by an update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asif.pairs import PairSource, redact_url
from asif.pairs.item import make_file_uri
from asif.pairs.items import locate_source, open_items
from asif.vectors import Side


@dataclass(frozen=True)
class GallerySource:
    """Hold an open source of items, and by which paths, columns and split it was opened.

    Paths are absolute; credentials in URLs are left out.
    """

    pairs: PairSource
    sources: tuple[str, ...]
    columns: Mapping[str, str]
    split: str | None

    @classmethod
    def open(
        cls,
        sources: Sequence[str | Path],
        side: Side,
        columns: Mapping[str, str] | None = None,
        split: str | None = None,
        modality: str | None = None,
    ) -> GallerySource:
        """Open paths, URLs or globs; see `asif.pairs.items.open_items`."""
        pairs = open_items(sources, side, columns=columns, split=split, modality=modality)
        return cls(pairs, tuple(name_source(each) for each in sources), dict(columns or {}), split)

    @classmethod
    def of(cls, pairs: PairSource) -> GallerySource:
        """Return a source that is open already."""
        return cls(pairs, (name_source(str(pairs.path)),), {}, None)

    def describe_origin(self, limit: int | None, where: str | None, thumbnails: bool) -> dict[str, Any]:
        """Return how the items are found, as a manifest keeps it."""
        return {
            "sources": list(self.sources),
            "columns": dict(self.columns),
            "split": self.split,
            "limit": limit,
            "where": where,
            "thumbnails": thumbnails,
        }


def name_source(source: str | Path) -> str:
    """Return a path, URL or glob in a form that means the same from every working folder, and is UTF-8."""
    place = locate_source(str(source))
    return redact_url(place) if "://" in place else make_file_uri(Path(place))
