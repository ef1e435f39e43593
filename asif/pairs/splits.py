"""Splits of a data set, as its file and folder names tell them: one of several is read, never all as one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from asif.errors import InputRefused, UsageError
from asif.pairs.location import Place
from asif.pairs.source import SPLIT_NAMES

_SAME_SPLIT = {"val": "validation", "valid": "validation", "dev": "validation"}


def find_split(name: str) -> str | None:
    """Return the split that a name has as one of its words, or None.

    >>> find_split("train-00000-of-00001.parquet"), find_split("flickr_Val_0.tar"), find_split("trains.tar")
    ('train', 'val', None)
    """
    return next((word for word in re.split(r"[-_. ]", name.lower()) if word in SPLIT_NAMES), None)


def choose_split(path: Place, files: Sequence[Place], split: str | None) -> list[Place]:
    """Return the files of one split; without `split` all of them, which must not be of several splits.

    Raises InputRefused for several splits, UsageError for a split that is not there.
    """
    found = {file: name for file in files if (name := find_split(file.name)) is not None}
    names = sorted(set(found.values()))
    if split is None:
        if len({_SAME_SPLIT.get(name, name) for name in names}) > 1:
            example = next(file for file, name in found.items() if name == names[0])
            raise _several_splits(path, names, example)
        return list(files)
    chosen = [file for file, name in found.items() if is_split(name, split)]
    if not chosen:
        raise unknown_split(path, split, names)
    return chosen


def choose_split_folder(path: Place, inside: Mapping[str, Place], split: str | None) -> Place | None:
    """Return the folder of a split among folders that are all named by splits; None for other folders.

    Raises InputRefused if there are several and `split` is None, UsageError for a split that is not there.
    """
    folders = {name: place for name, place in inside.items() if name[0] not in "._" and place.is_dir()}
    if not folders or not {name.lower() for name in folders} <= SPLIT_NAMES:
        return None
    if split is not None:
        chosen = [place for name, place in folders.items() if is_split(name.lower(), split)]
        if not chosen:
            raise unknown_split(path, split, sorted(folders))
        return chosen[0]
    if len(folders) > 1:
        raise _several_splits(path, sorted(folders), next(iter(folders.values())))
    return next(iter(folders.values()))


def is_split(name: str, split: str) -> bool:
    """Tell whether two names mean one split.

    >>> is_split("val", "validation"), is_split("train", "test")
    (True, False)
    """
    return _SAME_SPLIT.get(name, name) == _SAME_SPLIT.get(split.lower(), split.lower())


def unknown_split(path: Place, split: str, names: Sequence[str]) -> UsageError:
    """Return the error for a split that a path does not have."""
    return UsageError(
        f"the split {split!r} of {path}",
        f"one of {', '.join(names)}" if names else "a folder whose files or folders are named by split, as train-0",
        "choose one of them" if names else "leave --split out, or give the path of the split",
    )


def _several_splits(path: Place, names: Sequence[str], example: Place) -> InputRefused:
    return InputRefused(
        f"{path} holds the splits {', '.join(names)}",
        "one split: what is measured on must not be among the anchors",
        f"choose one with --split {names[-1]} (split= in Python), or give the path of one, such as {example}",
    )
