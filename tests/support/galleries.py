"""Galleries for tests: folders of files, and builds and updates with fake encoders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from support.build_fakes import FakeImages, FakeTexts, draw_vector, unit

from asif.anchorset import AnchorSet, Gallery, Store
from asif.anchorset.format.kinds import GALLERY
from asif.building.gallery import (
    GalleryChanges,
    GalleryOptions,
    GalleryResult,
    GallerySource,
    build_gallery_version,
    update_gallery_version,
)

AN_HOUR_AGO = 1_700_000_000


def write_files(folder: Path, contents: Mapping[str, bytes], age: int = 0) -> None:
    """Write files that were changed long ago, so that their times can be trusted."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (AN_HOUR_AGO - age, AN_HOUR_AGO - age))


def some_files(count: int) -> dict[str, bytes]:
    return {f"{'even' if row % 2 == 0 else 'odd'}/{row:03}.jpg": b"image %d" % row for row in range(count)}


def galleries(home: Path) -> Store:
    return Store(home, GALLERY)


def build(
    folder: Any, home: Path, encoder: Any = None, name: str = "g", side: Any = "image", **options: Any
) -> GalleryResult:
    source, chosen = GallerySource.open([folder], side), GalleryOptions(**options)
    origin = source.describe_origin(chosen.limit, chosen.where, chosen.thumbnails)
    fake = encoder or (FakeImages() if side == "image" else FakeTexts())
    return build_gallery_version(source.pairs, galleries(home), name, side, fake, chosen, origin)


def update(
    folder: Any, home: Path, encoder: Any = None, ref: str = "g", side: Any = "image", **options: Any
) -> GalleryChanges:
    steps = {name: options.pop(name) for name in ("receipt", "purge") if name in options}
    source, chosen = GallerySource.open([folder], side), GalleryOptions(**options)
    origin = source.describe_origin(chosen.limit, chosen.where, chosen.thumbnails)
    fake = encoder or (FakeImages() if side == "image" else FakeTexts())
    return update_gallery_version(source.pairs, galleries(home), ref, fake, chosen, origin, **steps)


def stored_vectors(opened: AnchorSet | Gallery) -> dict[str, Any]:
    """Return {id: stored vector}."""
    gallery = opened if isinstance(opened, Gallery) else None
    blocks = gallery.vectors if gallery else opened.blocks(opened.manifest.sides[0])  # type: ignore[union-attr]
    ids = gallery.ids if gallery else [record.id for record in opened]
    return dict(zip(ids, np.concatenate(blocks), strict=True))


def check_vectors(opened: AnchorSet, contents: Mapping[str, bytes], side: str = "image") -> None:
    """Compare a gallery with its definition: the unit vector of each content, rounded to float16."""
    stored = stored_vectors(opened)
    assert sorted(stored) == sorted(contents)
    for name, content in contents.items():
        np.testing.assert_allclose(stored[name], unit(draw_vector(content, side)), atol=1e-3)
