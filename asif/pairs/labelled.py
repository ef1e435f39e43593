"""Open evaluation data: labelled images, and images with captions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asif.errors import InputRefused
from asif.pairs.benchmark_folder import BenchmarkFolder
from asif.pairs.class_folders import ClassFolders
from asif.pairs.columns import Columns, TextRole
from asif.pairs.label_values import is_unlabelled, parse_number
from asif.pairs.location import Place, parse_place
from asif.pairs.open import open_source
from asif.pairs.pair import Pair, Reject
from asif.pairs.parquet import ParquetSource
from asif.pairs.parquet_file import open_parquet_file, read_intact
from asif.pairs.source import PairSource
from asif.pairs.splits import unknown_split
from asif.pairs.webdataset import open_webdataset


@dataclass(frozen=True)
class LabelledImages:
    """Hold a source of labelled images and the names of its labels.

    `names` are the names of the labels 0, 1, 2 … if labels are numbers and the source names them; `templates` are
    the prompts that come with the data; `literal` tells whether names are used in prompts as they are.
    """

    source: PairSource
    names: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ()
    literal: bool = False

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """All labels, also of rows that are not evaluated; without a list of names, in one pass over the labels.

        Marks of images without a label, such as -1, are no class.
        """
        if self.names is not None:
            return _number_duplicates(self.names)
        if isinstance(self.source, ClassFolders):
            return tuple(label for label in self.source.classes if not is_unlabelled(label))
        labels = replace(self.source, columns=Columns(label=self.source.columns.label)).read()
        found = {item.label for item in labels if isinstance(item, Pair) and item.label is not None}
        found = {label for label in found if not is_unlabelled(label)}
        return tuple(sorted(found, key=lambda label: (not label.isdecimal(), len(label) * label.isdecimal(), label)))

    def read_labels(self) -> Iterator[str | None]:
        """Yield the class of each row, None if it has none; images are not read."""
        source = self.source
        if not isinstance(source, ClassFolders):
            source = replace(source, columns=Columns(label=source.columns.label), dims=None)
        for item in source.read():
            named = item if isinstance(item, Reject) else self._name_label(item)
            yield None if isinstance(named, Reject) else named.label

    def read(self) -> Iterator[Pair | Reject]:
        """Yield one item for each row, its label among `classes`.

        A number without a name, and the mark of an image without a label, are a Reject.
        """
        for item in self.source.read():
            yield item if isinstance(item, Reject) else self._name_label(item)

    def _name_label(self, item: Pair) -> Pair | Reject:
        label = str(item.label)
        if self.names is None:
            return Reject(item.row, item.id, f"label is {label!r}: unlabelled") if is_unlabelled(label) else item
        classes = self.classes
        number = None if label in classes and not label.isdecimal() else parse_number(label)
        if number is not None and number < len(classes) and number.is_integer():
            return replace(item, label=classes[int(number)])
        if label in classes:
            return item
        return Reject(item.row, item.id, f"label {label[:80]} is not among the {len(classes)} classes")


def open_labelled(
    path: str | Path, *, columns: Mapping[str, str] | None = None, split: str | None = None
) -> LabelledImages:
    """Open labelled images: parquet, tars, metadata.csv|jsonl, class folders, or a CLIP_benchmark folder.

    The path may be a URL, as for `open_pairs`. Labels are texts, or numbers whose names are in Hugging Face's metadata
    or in classnames.txt. `columns` {role: column} wins over what is found, `split` chooses one of several splits.
    Raises UsageError for a path, column or split that is not there, InputRefused for what cannot be read.
    """
    place = parse_place(path)
    folder = _find_benchmark(place, "label", split)
    if folder is not None:
        source = open_webdataset(place, folder.files, {"label": "cls", **(columns or {})}, "label")
        source = replace(source, unused=source.unused + folder.unread)
        return LabelledImages(source, folder.classes, folder.templates, literal=True)
    found = open_source(place, dict(columns or {}), "label", split)
    return LabelledImages(found, _read_class_names(found) if isinstance(found, ParquetSource) else None)


def open_captioned(
    path: str | Path, *, columns: Mapping[str, str] | None = None, split: str | None = None
) -> PairSource:
    """Open images with captions: anything `open_pairs` reads, or a CLIP_benchmark folder, with one caption a line."""
    place = parse_place(path)
    folder = _find_benchmark(place, "captions", split)
    if folder is not None:
        overrides = {"captions": "txt", **(columns or {})}
        source = open_webdataset(place, folder.files, overrides)
        return replace(source, by_line=True, unused=source.unused + folder.unread)
    return open_source(place, dict(columns or {}), "captions", split)


def _find_benchmark(place: Place, text_role: TextRole, split: str | None) -> BenchmarkFolder | None:
    """Find a CLIP_benchmark folder, which is read as its split test; raises UsageError for another split of it."""
    folder = BenchmarkFolder.find(place, text_role)
    if folder is not None and split not in (None, "test"):
        raise unknown_split(place, str(split), ["test"])
    return folder


def _number_duplicates(names: Sequence[str]) -> tuple[str, ...]:
    """Append their number to names that occur more than once.

    >>> _number_duplicates(["crane", "heron", "crane"])
    ('crane #0', 'heron', 'crane #2')
    """
    times = Counter(names)
    return tuple(f"{name} #{number}" if times[name] > 1 else name for number, name in enumerate(names))


def _read_class_names(source: ParquetSource) -> tuple[str, ...] | None:
    """Read the names of a ClassLabel from the metadata that Hugging Face datasets writes."""
    file = source.files[0]
    with open_parquet_file(file) as opened:
        metadata = read_intact(lambda: opened.schema_arrow, f"{file}: the schema").metadata or {}
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
