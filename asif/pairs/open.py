"""Tell what a path holds, and open it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from asif.errors import InputRefused, UsageError
from asif.pairs.class_folders import has_classes, open_classes
from asif.pairs.columns import Words
from asif.pairs.location import Place, entries, place_of
from asif.pairs.metadata_folder import open_table
from asif.pairs.npy import has_npy, open_npy
from asif.pairs.parquet import open_parquet
from asif.pairs.remote import RemotePath
from asif.pairs.source import PairSource, natural
from asif.pairs.webdataset import open_webdataset


def open_pairs(path: str | Path, *, columns: Mapping[str, str] | None = None) -> PairSource:
    """Find out what `path` is and which columns it has, reading only its head.

    A parquet, tar, .csv or .jsonl file, or a folder of parquet shards, of tars, of images with metadata.csv|jsonl,
    or of clip-retrieval's .npy parts; here, or at the URL of a store elsewhere that fsspec knows. `columns` {role:
    column} goes before what is found.
    Raises UsageError for a path or column that is not there, InputRefused for what cannot be read, Unreachable for a
    store that does not answer, MissingDependency for a protocol whose package is not installed.
    """
    return open_source(place_of(path), dict(columns or {}), "captions")


def open_source(place: Place, chosen: Mapping[str, str], words: Words) -> PairSource:
    """Open whatever form of `place` is known, for its captions or for its labels."""
    try:
        if place.is_dir():
            return _open_folder(place, chosen, words)
        if place.is_file():
            return _open_file(place, chosen, words)
    except OSError as error:
        raise InputRefused(f"{place} cannot be read: {error}", "a readable path", "check its permissions") from error
    what = "image-text pairs" if words == "captions" else "labelled images"
    raise UsageError(f"{place} does not exist", f"a file or folder of {what}", "check the path")


def _open_file(path: Place, chosen: Mapping[str, str], words: Words) -> PairSource:
    if path.suffix in (".csv", ".jsonl"):
        return open_table(path, path, chosen, words)
    if path.suffix == ".tar":
        return open_webdataset(path, [path], chosen, words)
    if path.suffix in (".parquet", ".pq"):
        return open_parquet(path, [path], chosen, words)
    slash = " (the URL of a folder ends in a slash)" if isinstance(path, RemotePath) and path.is_url else ""
    raise _unknown(f"{path} is a {path.suffix or 'nameless'} file{slash}", words)


def _open_folder(path: Place, chosen: Mapping[str, str], words: Words) -> PairSource:
    inside = entries(path)
    tables = [inside[name] for name in ("metadata.csv", "metadata.jsonl") if name in inside and inside[name].is_file()]
    data = entries(inside["data"]) if "data" in inside and inside["data"].is_dir() else {}
    tars, shards = _files(inside, ".tar"), _files(inside, ".parquet") or _files(data, ".parquet")
    if len(tables) > 1:
        raise _either(path, *tables)
    if tables:
        return open_table(path, tables[0], chosen, words)
    if words == "captions" and has_npy(path):
        return open_npy(path, chosen)
    if tars and {file.stem for file in shards} <= {file.stem for file in tars}:
        return open_webdataset(path, tars, chosen, words)  # img2dataset leaves a parquet of metadata beside each tar
    if tars:
        raise _either(path, tars[0], shards[0])
    if shards:
        return open_parquet(path, shards, chosen, words)
    if words == "label" and has_classes(path):
        return open_classes(path, chosen)
    raise _unknown(f"{path} holds no file that is known here", words)


def _files(inside: Mapping[str, Place], suffix: str) -> list[Place]:
    found = [file for name, file in inside.items() if name.endswith(suffix) and name[0] not in "._" and file.is_file()]
    return sorted(found, key=natural)


def _either(path: Place, *files: Place) -> UsageError:
    names = " and ".join(file.name for file in files)
    return UsageError(f"{path} holds both {names}", "one kind of input", "give the path of the file to be read")


def _unknown(came: str, words: Words) -> InputRefused:
    if words == "label":
        return InputRefused(
            came,
            "parquet, tar, metadata.csv or metadata.jsonl with labels, or a folder with a folder of images per class",
            "bring the labelled images into one of these forms",
        )
    return InputRefused(
        came,
        "parquet, tar, metadata.csv or metadata.jsonl, or img_emb_*.npy with text_emb_*.npy",
        "bring the pairs into one of these forms, for instance with img2dataset or Hugging Face datasets",
    )
