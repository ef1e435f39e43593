"""Open what a gallery is made from: tables of images or texts, folders of images, globs, and lists of image files."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from asif.errors import InputRefused, UsageError
from asif.pairs.columns import TextRole
from asif.pairs.image_files import (
    SUFFIXES,
    classify_file,
    describe_suffixes,
    find_suffix_modality,
    has_images,
    walk_images,
)
from asif.pairs.image_tree import list_image_files
from asif.pairs.location import Place, parse_place
from asif.pairs.open import open_source
from asif.pairs.parquet import open_parquet
from asif.pairs.source import PairSource, natural_sort_key
from asif.pairs.webdataset import open_webdataset
from asif.vectors import Side

_ROLES: dict[Side, TextRole] = {"image": "item", "text": "text"}


def open_items(
    sources: Sequence[str | Path],
    side: Side = "image",
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    modality: str | None = None,
) -> PairSource:
    """Open the images or texts that a gallery is made from; reads only heads of files.

    A single source is anything that `asif.pairs.open_pairs` reads, where captions may be missing; for images also a
    folder with images below it, for texts a file with one text a line. Several sources, and a glob, are image files and
    folders of images; shards of one table, if they are all parquet files or all tars. Raises UsageError for a path,
    column or split that is not there, InputRefused for what cannot be read, and for sources without an image.
    `modality` is that of `open_pairs`: with "audio" sounds are looked for in place of images.
    """
    overrides, role = dict(columns or {}), _ROLES[side]
    if len(sources) == 1 and _is_place(str(sources[0])):
        return open_source(parse_place(locate_source(str(sources[0]))), overrides, role, split, modality)
    roots, found = zip(*(_expand(str(source)) for source in sources), strict=True)
    root, files = Path(os.path.commonpath(roots)), [file for some in found for file in some]
    suffixes = {file.suffix.lower() for file in files}
    if suffixes in ({".parquet"}, {".tar"}):
        shards: list[Place] = sorted(dict.fromkeys(files), key=natural_sort_key)
        opened = open_parquet if suffixes == {".parquet"} else open_webdataset
        return opened(root, shards, overrides, role, modality)
    if side == "text" or overrides or split is not None:
        what = "texts in several files" if side == "text" else "columns, or a split, of image files"
        raise UsageError(what, "one table, or shards of one", "give the table alone")
    return _list_images(root, files, sources, modality or _find_modality(files))


def _find_modality(files: Sequence[Path]) -> str:
    """Return the modality of the first file with a known suffix, or else of what is in the folders."""
    named = (find_suffix_modality(file.name) for file in files if not file.is_dir())
    inside = (each for each in SUFFIXES for file in files if file.is_dir() and has_images(file, each))
    return next((each for each in named if each is not None), None) or next(inside, "image")


def _list_images(root: Path, files: Sequence[Path], sources: Sequence[str | Path], modality: str) -> PairSource:
    images: list[Place] = []
    unread: list[str] = []
    for file in files:
        for each, kind in (
            walk_images(file, modality) if file.is_dir() else [(file, classify_file(file.name, modality))]
        ):
            images += [each] if kind is None else []
            unread += [] if kind is None else [kind]
    if not images:
        raise InputRefused(
            f"{', '.join(map(str, sources))[:200]} holds no {modality}, but {len(unread):,} other files",
            describe_suffixes(modality),
            "check the path",
        )
    return list_image_files(root, images, unread, modality)


def _is_place(source: str) -> bool:
    """Tell whether a source names one place; else it is a glob."""
    return "://" in source or os.path.lexists(source) or not glob.has_magic(source)


def locate_source(source: str) -> str:
    """Return a source in a form that means the same from every working folder."""
    return source if "://" in source else os.path.abspath(source)


def _expand(source: str) -> tuple[str, list[Path]]:
    """Expand one of several sources: the folder that its ids start from, and the files and folders that it names."""
    path = os.path.abspath(source)
    if os.path.isdir(path):
        return path, [Path(path)]
    if os.path.lexists(path):
        return os.path.dirname(path), [Path(path)]
    fixed = path
    while glob.has_magic(fixed):
        fixed = os.path.dirname(fixed)
    matches = sorted(glob.glob(path, recursive=True)) if fixed != path else []
    opened = {os.path.dirname(match.rstrip(os.sep)) for match in matches}  # `**/*` matches what is in them, too
    files = [Path(match) for match in matches if match.rstrip(os.sep) not in opened]
    if not files:
        raise UsageError(f"{source!a} is no file, and matches none", "files, folders, or a glob", "check the path")
    return fixed, files
