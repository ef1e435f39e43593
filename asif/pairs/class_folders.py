"""Read labelled images from a folder of class folders, whose names are the labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asif.errors import InputRefused, UsageError
from asif.modality import name_many
from asif.pairs.columns import Columns
from asif.pairs.image_files import list_loose_files, summarise_unread, walk_images
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.row_parser import parse_row
from asif.pairs.source import SPLIT_NAMES, PairSource

_MAX_LISTED = 5


@dataclass(frozen=True)
class ClassFolders(PairSource):
    """Read `cat/1.jpg`, `cat/more/2.png`, `dog/3.jpg` as labelled images, in the order of their names."""

    classes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Count the images."""
        return len(self.files)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each image from `start` on."""
        root: Any = self.path  # of the same kind as the files
        for row, file in enumerate(self.files[start:], start):
            name = file.relative_to(root)
            yield parse_row(
                row, {"id": str(name), "image": str(name), "label": name.parts[0]}, self.path, modality=self.modality
            )


def has_class_folders(path: Place, modality: str = "image") -> bool:
    """Tell whether a folder contains folders with images, or with files of another modality."""
    return any(kind is None for folder in _list_class_folders(path) for _, kind in walk_images(folder, modality))


def open_class_folders(path: Place, overrides: Mapping[str, str], modality: str = "image") -> ClassFolders:
    """Open a folder of class folders; an empty folder is a class too, a hidden one is not.

    Raises UsageError for named columns, InputRefused if the folders are splits rather than classes.
    """
    if overrides:
        raise UsageError(
            f"columns ({', '.join(overrides)}) of {path}", "no columns", "leave them out: folders are labels"
        )
    folders = _list_class_folders(path)
    names = tuple(folder.name for folder in folders)
    if set(map(str.lower, names)) <= SPLIT_NAMES:
        raise InputRefused(
            f"{path} holds the folders {', '.join(names)}, which are splits",
            "a folder with a folder of images for each class",
            f"give one of them, such as {path / names[-1]}",
        )
    found = [item for folder in folders for item in walk_images(folder, modality)]
    files = tuple(file for file, kind in found if kind is None)
    unread = _name_unread(path, found, modality)
    return ClassFolders(path, "folder of class folders", Columns(modality=modality), unread, files, None, names)


def _name_unread(path: Place, found: Iterable[tuple[Place, str | None]], modality: str) -> tuple[str, ...]:
    """Name the files that are not read: images outside of class folders, and the others by kind."""
    outside = list_loose_files(path, modality)
    loose = tuple(file.name for file, kind in outside if kind is None)
    if len(loose) >= _MAX_LISTED:
        loose = (f"{len(loose)} {name_many(modality)} outside of class folders",)
    return loose + summarise_unread(kind for _, kind in (*found, *outside) if kind is not None)


def _list_class_folders(path: Place) -> list[Place]:
    found = [folder for folder in path.iterdir() if folder.is_dir() and folder.name[0] not in "._"]
    return sorted(found, key=lambda folder: folder.name)
