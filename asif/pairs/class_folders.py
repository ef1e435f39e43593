"""Read labelled images from a folder of class folders, whose names are the labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asif.errors import InputRefused, UsageError
from asif.pairs.columns import Columns
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.remote import RemotePath
from asif.pairs.row_parser import parse_row
from asif.pairs.source import SPLIT_NAMES, PairSource
from asif.pairs.webdataset import IMAGE_SUFFIXES

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
            yield parse_row(row, {"id": str(name), "image": str(name), "label": name.parts[0]}, self.path)


def has_class_folders(path: Place) -> bool:
    """Tell whether a folder contains folders with images."""
    return any(True for folder in _list_class_folders(path) for _ in _find_images(folder))


def open_class_folders(path: Place, overrides: Mapping[str, str]) -> ClassFolders:
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
    files = tuple(file for folder in folders for file in _find_images(folder))
    loose = tuple(sorted(file.name for file in path.iterdir() if file.is_file() and _is_image(file.name)))
    unused = loose if len(loose) < _MAX_LISTED else (f"{len(loose)} images outside of class folders",)
    return ClassFolders(path, "folder of class folders", Columns(), unused, files, None, names)


def _list_class_folders(path: Place) -> list[Place]:
    found = [folder for folder in path.iterdir() if folder.is_dir() and folder.name[0] not in "._"]
    return sorted(found, key=lambda folder: folder.name)


def _find_images(folder: Place) -> Iterator[Place]:
    for place, inner, names in folder.walk() if isinstance(folder, RemotePath) else os.walk(folder):
        inner.sort()
        for name in sorted(names):
            if _is_image(name):
                yield place / name if isinstance(place, RemotePath) else Path(place, name)


def _is_image(name: str) -> bool:
    return name[0] not in "._" and name.rpartition(".")[2].lower() in IMAGE_SUFFIXES
