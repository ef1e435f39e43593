"""Read the images of a folder and its folders, or those of a list, as items: no table goes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from asif.modality import name_many
from asif.pairs.columns import Columns
from asif.pairs.image_files import summarise_unread, walk_images
from asif.pairs.item import make_file_uri, name_path
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.source import PairSource, stamp_file
from asif.vectors import canonical_json


@dataclass(frozen=True)
class ImageTree(PairSource):
    """Read image files, sorted within each folder; the id is the path below `path`, the label its first folder."""

    @property
    def rows(self) -> int:
        """Count the images."""
        return len(self.files)

    @property
    def bytes(self) -> int:
        """Sum the sizes of the files."""
        return sum(size for _, size, _ in self._stamps)

    @cached_property
    def _stamps(self) -> list[list[Any]]:
        return [_stamp(file) for file in self.files]

    @property
    def identity(self) -> str:
        """Hash paths, sizes and modification times."""
        return hashlib.sha256(canonical_json(self._stamps)).hexdigest()

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each file from `start` on, without captions."""
        root: Any = self.path  # of the same kind as the files
        for row, file in enumerate(self.files[start:], start):
            below = file.relative_to(root)
            name = name_path(below) if isinstance(below, Path) else str(below)
            folder, slash, _ = name.partition("/")
            yield Pair(row, name, file, (), label=folder if slash else None)


def open_image_tree(path: Place, modality: str = "image") -> ImageTree:
    """Open the images, or sounds, below a folder; hidden ones, and folders behind links, are not read."""
    return _make_tree(path, list(walk_images(path, modality)), modality)


def list_image_files(
    root: Place, files: Iterable[Place], kinds_unread: Sequence[str] = (), modality: str = "image"
) -> ImageTree:
    """Open image files below `root`, each once, in this order."""
    found: list[tuple[Place, str | None]] = [(file, None) for file in dict.fromkeys(files)]
    return _make_tree(root, [*found, *((root, kind) for kind in kinds_unread)], modality)


def _make_tree(root: Place, found: Sequence[tuple[Place, str | None]], modality: str) -> ImageTree:
    files = tuple(file for file, kind in found if kind is None)
    unread = summarise_unread(kind for _, kind in found if kind is not None)
    columns = Columns(needs_captions=False, modality=modality)
    return ImageTree(root, f"folder of {name_many(modality)}", columns, unread, files, None)


def _stamp(file: Place) -> list[Any]:
    """Return path, size and time; of a file that has vanished meanwhile the path, no size and no time."""
    if not isinstance(file, Path):
        return stamp_file(file)
    try:
        stat = file.stat()
    except OSError:
        return [make_file_uri(file), 0, None]
    return [make_file_uri(file), stat.st_size, stat.st_mtime_ns]
