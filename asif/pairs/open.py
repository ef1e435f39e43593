"""Detect the format of a path, and open it as a source of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from asif.errors import InputRefused, UsageError
from asif.pairs.class_folders import ClassFolders, has_class_folders, open_class_folders
from asif.pairs.columns import TextRole
from asif.pairs.folder_captions import caption_folders
from asif.pairs.image_files import (
    SUFFIXES,
    classify_file,
    find_suffix_modality,
    has_images,
    name_suffix,
    summarise_unread,
    walk_images,
)
from asif.pairs.image_tree import list_image_files, open_image_tree
from asif.pairs.location import Place, list_folder, parse_place
from asif.pairs.metadata_folder import TABLE_SUFFIXES, open_metadata
from asif.pairs.npy import has_npy, open_npy
from asif.pairs.parquet import open_parquet
from asif.pairs.remote import RemotePath
from asif.pairs.source import PairSource, natural_sort_key
from asif.pairs.splits import choose_split, choose_split_folder, find_split, is_split, unknown_split
from asif.pairs.text_lines import open_text_lines
from asif.pairs.webdataset import open_webdataset


def open_pairs(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    captions_from: Literal["folders"] | None = None,
    template: str | None = None,
    modality: str | None = None,
) -> PairSource:
    """Detect the format and the columns of `path`, reading only its head.

    A parquet, tar, .csv or .jsonl file, or a folder of parquet shards, of tars, of images with metadata.csv|jsonl,
    or of clip-retrieval's .npy parts; local, or at a URL that fsspec knows. `columns` {role: column} wins over what is
    found; an empty column means none, and several of captions are separated by commas. `split` chooses one of several
    splits, such as "train". With `captions_from` "folders", the path is a folder with a folder of images for each
    class, and captions are made from the folders' names with `template`, by default "a photo of a {}.". `modality` is
    "image" or "audio" where a source has both; by default it is images, or sounds where there are no images.
    Raises UsageError for a path or column that is not there, InputRefused for what cannot be read, Unreachable for a
    store that does not answer, MissingDependency for a protocol whose package is not installed.
    """
    place = parse_place(path)
    if captions_from is None:
        if template is not None:
            raise UsageError(
                "a template without captions from folders", "both or neither", "add --captions-from folders"
            )
        return open_source(place, dict(columns or {}), "captions", split, modality)
    found = open_source(place, dict(columns or {}), "label", split, modality)
    if not isinstance(found, ClassFolders):
        raise InputRefused(
            f"{place} is no folder of class folders but {found.kind}",
            "a folder with a folder of images for each class",
            "leave --captions-from folders out",
        )
    return caption_folders(found, template)


def open_source(
    place: Place,
    overrides: Mapping[str, str],
    text_role: TextRole,
    split: str | None = None,
    modality: str | None = None,
) -> PairSource:
    """Open a place in any known format, for its captions or for its labels; `split` is one of several in a folder.

    `modality` is that of `open_pairs`.
    """
    try:
        if place.is_dir():
            return _open_folder(place, overrides, text_role, split, modality)
        if place.is_file():
            if split is not None and not is_split(find_split(place.name) or "", split):
                raise unknown_split(place, split, [])
            return _open_file(place, overrides, text_role, modality)
    except OSError as error:
        raise InputRefused(f"{place} cannot be read: {error}", "a readable path", "check its permissions") from error
    nouns = {"captions": "image-text pairs", "label": "labelled images", "item": "images", "text": "texts"}
    what = nouns[text_role].replace("image", modality or "image")
    raise UsageError(f"{place} does not exist", f"a file or folder of {what}", "check the path")


def _open_file(path: Place, overrides: Mapping[str, str], text_role: TextRole, modality: str | None) -> PairSource:
    if path.suffix.lower() in TABLE_SUFFIXES:
        return open_metadata(path, path, overrides, text_role, modality)
    if path.suffix.lower() == ".tar":
        return open_webdataset(path, [path], overrides, text_role, modality)
    if path.suffix.lower() in (".parquet", ".pq"):
        return open_parquet(path, [path], overrides, text_role, modality)
    if text_role == "text" and path.suffix.lower() == ".txt":
        return open_text_lines(path)
    kind = modality or find_suffix_modality(path.name) or "image"
    if text_role == "item" and classify_file(path.name, kind) is None:
        return list_image_files(path.parent, [path], modality=kind)
    slash = " (the URL of a folder ends in a slash)" if isinstance(path, RemotePath) and path.is_url else ""
    raise _unknown_input(f"{path} is a {path.suffix or 'nameless'} file{slash}", text_role)


def _open_folder(
    path: Place, overrides: Mapping[str, str], text_role: TextRole, split: str | None, modality: str | None
) -> PairSource:
    inside = list_folder(path)
    names = {f"metadata{suffix}" for suffix in TABLE_SUFFIXES}
    tables = [file for name, file in inside.items() if name.lower() in names and file.is_file()]
    data = list_folder(inside["data"]) if "data" in inside and inside["data"].is_dir() else {}
    tars, shards = _list_files(inside, ".tar"), _list_files(inside, ".parquet") or _list_files(data, ".parquet")
    if not tables and not tars and not shards:
        kind = _find_modality(path, modality, has_images) if text_role == "item" and split is None else None
        if kind is not None and not has_npy(path):
            return open_image_tree(path, kind)
        folder = choose_split_folder(path, inside, split) or choose_split_folder(path, data, split)
        if folder is not None:
            return _open_folder(folder, overrides, text_role, None, modality)
    if split is not None and (tables or not (tars or shards)):
        raise unknown_split(path, split, [])
    tars, shards = (choose_split(path, files, split) if files else [] for files in (tars, shards))
    if len(tables) > 1:
        raise _ambiguous_input(path, *tables)
    if tables:
        return open_metadata(path, tables[0], overrides, text_role, modality)
    if text_role in ("captions", "item") and has_npy(path):
        return open_npy(path, overrides)
    if tars and {file.stem for file in shards} <= {file.stem for file in tars}:
        # img2dataset writes a parquet of metadata and a JSON of statistics next to each tar
        known = {f"{tar.stem}{ending}" for tar in tars for ending in (".parquet", "_stats.json")}
        return _name_unread(open_webdataset(path, tars, overrides, text_role, modality), inside, known)
    if tars:
        raise _ambiguous_input(path, tars[0], shards[0])
    if shards:
        opened = open_parquet(path, shards, overrides, text_role, modality)
        return _name_unread(opened, inside, {"data"} if data else set())
    kind = _find_modality(path, modality, has_class_folders) if text_role == "label" else None
    if kind is not None:
        return open_class_folders(path, overrides, kind)
    flat = text_role in ("captions", "text")
    unread = summarise_unread(_list_kinds(inside, set()) if flat else _list_inner_kinds(path))
    raise _unknown_input(
        f"{path} holds no file that is known here{' but ' * bool(unread)}{', '.join(unread)}", text_role
    )


def _find_modality(path: Place, modality: str | None, has_files: Callable[[Place, str], bool]) -> str | None:
    """Return the modality of the files that are looked for in a folder, or of those that it has; None without any."""
    return next((each for each in SUFFIXES if modality in (None, each) and has_files(path, each)), None)


def _name_unread(source: PairSource, inside: Mapping[str, Place], known: set[str]) -> PairSource:
    """Return the source with a text for the files of its folder that are neither read nor `known`."""
    read = known | {file.name for file in source.files}
    return replace(source, unused=source.unused + summarise_unread(_list_kinds(inside, read)))


def _list_kinds(inside: Mapping[str, Place], known: set[str]) -> Iterator[str]:
    for name, place in inside.items():
        if name not in known:
            yield "folder" if place.is_dir() else classify_file(name) or _name_image(name)


def _list_inner_kinds(path: Place) -> Iterator[str]:
    for file, kind in walk_images(path):
        yield kind or _name_image(file.name)


def _name_image(name: str) -> str:
    return name_suffix(name.lower())


def _list_files(inside: Mapping[str, Place], suffix: str) -> list[Place]:
    found = [
        file
        for name, file in inside.items()
        if name.lower().endswith(suffix) and name[0] not in "._" and file.is_file()
    ]
    return sorted(found, key=natural_sort_key)


def _ambiguous_input(path: Place, *files: Place) -> UsageError:
    names = " and ".join(file.name for file in files)
    return UsageError(f"{path} holds both {names}", "one kind of input", "give the path of the file to be read")


def _unknown_input(came: str, text_role: TextRole) -> InputRefused:
    if text_role == "item":
        return InputRefused(
            came,
            "images (.jpg, .png, .webp, …) in it or below, or parquet, tar, metadata.csv or metadata.jsonl with images",
            "check the path",
        )
    if text_role == "text":
        return InputRefused(
            came,
            "a .txt file with one text a line, or parquet, .csv, .tsv or .jsonl with a column of texts",
            "bring the texts into one of these forms",
        )
    if text_role == "label":
        return InputRefused(
            came,
            "parquet, tar, metadata.csv or metadata.jsonl with labels, or a folder with a folder of images per class",
            "bring the labelled images into one of these forms",
        )
    return InputRefused(
        came,
        "parquet, tar, metadata.csv, metadata.tsv or metadata.jsonl, or img_emb_*.npy with text_emb_*.npy",
        "bring the pairs into one of these forms, for instance with img2dataset or Hugging Face datasets; for a folder "
        "of images for each class, add --captions-from folders",
    )
