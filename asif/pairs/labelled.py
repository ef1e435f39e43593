"""Data sets to evaluate on: labelled images, and images with their captions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asif.errors import InputRefused
from asif.pairs.benchmark import BenchmarkFolder
from asif.pairs.class_folders import ClassFolders
from asif.pairs.columns import Columns
from asif.pairs.location import place_of
from asif.pairs.open import open_source
from asif.pairs.pair import Pair, Reject
from asif.pairs.parquet import ParquetSource
from asif.pairs.parquet_file import intact, open_file
from asif.pairs.source import SPLITS, PairSource
from asif.pairs.webdataset import open_webdataset


@dataclass(frozen=True)
class Labelled:
    """Hold a source of labelled images with what its labels stand for.

    `names` are what the numbers 0, 1, 2 … mean, where labels are numbers and the source says so; `templates` are the
    prompts that come with the data. `literal` tells whether names were written as prompts.
    """

    source: PairSource
    names: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ()
    literal: bool = False

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """All labels, those of rows that are not read later too: in one pass over the labels, if need be."""
        if self.names is not None:
            return told_apart(self.names)
        if isinstance(self.source, ClassFolders):
            return self.source.classes
        labels = replace(self.source, columns=Columns(label=self.source.columns.label)).read()
        found = {item.label for item in labels if isinstance(item, Pair) and item.label is not None}
        return tuple(sorted(found, key=lambda label: (not label.isdecimal(), len(label) * label.isdecimal(), label)))

    def read(self) -> Iterator[Pair | Reject]:
        """Yield one item for each row, its label among `classes`; a number without a name is a Reject."""
        if self.names is None:
            yield from self.source.read()
            return
        classes = self.classes
        for item in self.source.read():
            if isinstance(item, Reject):
                yield item
            elif (label := str(item.label)).isdecimal() and int(label) < len(classes):
                yield replace(item, label=classes[int(label)])
            elif label in classes:
                yield item
            else:
                yield Reject(item.row, item.id, f"label {label} is not among the {len(classes)} classes")


def open_labelled(path: str | Path, *, columns: Mapping[str, str] | None = None) -> Labelled:
    """Open labelled images: parquet, tars, metadata.csv|jsonl, class folders, or a CLIP_benchmark folder.

    The path may be a URL, as for `open_pairs`. Labels are texts, or numbers whose names are in Hugging Face's metadata
    or in classnames.txt. `columns` {role: column} goes before what is found. Raises UsageError for a path or column
    that is not there, InputRefused for what cannot be read.
    """
    place = place_of(path)
    folder = BenchmarkFolder.find(place, "label")
    if folder is not None:
        source = open_webdataset(place, folder.files, {"label": "cls", **(columns or {})}, "label")
        return Labelled(source, folder.classes, folder.templates, literal=True)
    found = one_split(open_source(place, dict(columns or {}), "label"))
    return Labelled(found, _names(found) if isinstance(found, ParquetSource) else None)


def open_captioned(path: str | Path, *, columns: Mapping[str, str] | None = None) -> PairSource:
    """Open images with captions: whatever `open_pairs` reads, or a CLIP_benchmark folder, with one caption a line."""
    place = place_of(path)
    folder = BenchmarkFolder.find(place, "captions")
    if folder is not None:
        chosen = {"captions": "txt", **(columns or {})}
        return replace(open_webdataset(place, folder.files, chosen), by_line=True)
    return one_split(open_source(place, dict(columns or {}), "captions"))


def one_split(source: PairSource) -> PairSource:
    """Refuse shards of several splits, such as train-0.parquet and test-0.parquet, as one data set."""
    shards = (
        {} if isinstance(source, ClassFolders) else {re.split(r"[-_.]", f.name)[0].lower(): f for f in source.files}
    )
    splits = sorted(SPLITS & set(shards))
    if len(splits) > 1:
        raise InputRefused(
            f"{source.path} holds the splits {', '.join(splits)}",
            "one split to evaluate on",
            f"give its path, such as {shards[splits[0]]}, or a folder with its shards alone",
        )
    return source


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Give names that come twice their number.

    >>> told_apart(["crane", "heron", "crane"])
    ('crane #0', 'heron', 'crane #2')
    """
    times = Counter(names)
    return tuple(f"{name} #{number}" if times[name] > 1 else name for number, name in enumerate(names))


def _names(source: ParquetSource) -> tuple[str, ...] | None:
    """Read the names of a ClassLabel from the metadata that Hugging Face datasets writes."""
    file = source.files[0]
    with open_file(file) as opened:
        metadata = intact(lambda: opened.schema_arrow, f"{file}: the schema").metadata or {}
    try:
        features: Any = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = (features.get(source.columns.label) or {}).get("names")
    except (ValueError, AttributeError) as error:
        raise InputRefused(
            f"{file}: its Hugging Face metadata cannot be read ({error})",
            "the JSON that datasets writes",
            "write the file again, or without its metadata",
        ) from error
    return tuple(map(str, names)) if isinstance(names, list) and names else None
