"""The interface of every source of pairs, independent of its format."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from asif.pairs.columns import Columns
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.remote import RemotePath
from asif.vectors import Int64, canonical_json

SPLIT_NAMES = {"train", "dev", "val", "valid", "validation", "test"}
"""The usual names of a data set's splits; reading several as one is refused."""
_MOST_PASSED = 512  # rows that are read on the way to the next one, rather than starting there


@dataclass(frozen=True)
class PairSource(ABC):
    """Read pairs in a fixed order from `files`; `unused` names the columns that are not read.

    `dims` is (image, text) if vectors were precomputed; 0 if no row has a vector of that side, or for labels.
    """

    path: Place
    kind: str
    columns: Columns
    unused: tuple[str, ...]
    files: tuple[Place, ...]
    dims: tuple[int, int] | None

    @property
    @abstractmethod
    def rows(self) -> int:
        """Count the rows."""

    @abstractmethod
    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield exactly one item for each row from `start` on, in source order.

        Raises InputRefused, naming the file and the place, if the source is damaged.
        """

    def read_rows(self, rows: Sequence[int]) -> Iterator[Pair | Reject]:
        """Yield the items at rows, ascending; begins again at a row that is far from the one before."""
        items: Iterator[Pair | Reject] = iter(())
        at = -_MOST_PASSED
        for row in rows:
            if row - at >= _MOST_PASSED:
                items, at = self.read(row), row
            yield from islice(items, row - at, row - at + 1)
            at = row + 1

    @property
    def modality(self) -> str:
        """Return what the first half of pairs is: image, audio, or what vectors are named after."""
        return self.columns.modality

    def hash_ids(self, rows: int) -> Int64 | None:
        """Return a hash of the id of each of the first `rows` rows, for this process; None if it would read images.

        Rows without an id have hashes of their own.
        """
        return None

    @property
    def bytes(self) -> int:
        """Sum the sizes of the files."""
        return sum(find_file_size(file) for file in self.files)

    @property
    def identity(self) -> str:
        """Hash what identifies the input: paths, sizes, modification times, columns in use.

        For a remote file: its URL without credentials, which may change, and the store's own tag.
        """
        stamps = [stamp_file(file) for file in self.files]
        forms = [dict(self.columns.forms)] if self.columns.forms else []
        return hashlib.sha256(canonical_json([stamps, self.columns.by_role(), *forms])).hexdigest()

    @property
    def sha256(self) -> str:
        """Hash the content: that of the file, or of the list of files, by name, with the hash of each."""
        hashes = [_hash_file(file) for file in self.files]
        if len(hashes) == 1:
            return hashes[0]
        root: Any = self.path if self.path.is_dir() else self.path.parent  # of the same kind as the files
        names = [file.relative_to(root).as_posix() for file in self.files]
        return hashlib.sha256(canonical_json(list(zip(names, hashes, strict=True)))).hexdigest()

    def locate_row(self, row: int) -> tuple[Place, int]:
        """Return the file that a row comes from, and its number in there, from 0."""
        return self.path, row

    def describe(self) -> str:
        """Return a few lines that describe what will be read."""
        files = f"{len(self.files):,} file{'s' * (len(self.files) != 1)}"
        lines = [f"{self.path}: {self.kind}", f"  {self.rows:,} rows, {self.bytes:,} bytes in {files}"]
        forms = {
            role.replace("image", self.modality): f" ({form} in each cell, parsed)"
            for role, form in self.columns.forms.items()
        }
        lines += [f"  {role}: {column}{forms.get(role, '')}" for role, column in self.columns.by_name().items()]
        if self.columns.missing:
            texts = " or ".join(map(repr, self.columns.missing))
            lines.append(f"  remark: some captions are {texts}; if these are missing values, leave their rows out")
        if self.dims:
            text = f", {self.dims[1]} ({self.columns.text_modality})" if self.columns.text_embedding else ""
            lines.append(f"  vectors: {self.dims[0]} ({self.modality}){text}")
        if self.unused:
            lines.append(f"  not read: {', '.join(self.unused)}")
        return "\n".join(lines)


def hash_id_column(source: PairSource, rows: int) -> Int64 | None:
    """Hash the ids of the first rows of a table, reading no other column; None if it has no ids."""
    if source.columns.id is None:
        return None
    items = islice(replace(source, columns=Columns(id=source.columns.id), dims=None).read(), rows)
    return np.fromiter((hash(item.row if item.id is None else item.id) for item in items), np.int64)


def find_file_size(file: Place) -> int:
    """Return the bytes of a file."""
    return file.size if isinstance(file, RemotePath) else file.stat().st_size


def stamp_file(file: Place) -> list[Any]:
    """Return what tells whether a file changes: its path, size and modification time, or the tag of its store."""
    if isinstance(file, RemotePath):
        return [str(file), file.size, file.tag]
    stat = file.stat()
    return [str(file.absolute()), stat.st_size, stat.st_mtime_ns]


def _hash_file(path: Place) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def natural_sort_key(path: Place) -> list[tuple[int, str]]:
    """Return the sort key that puts `part-10` after `part-2`.

    >>> from pathlib import Path
    >>> sorted([Path("part-10"), Path("part-2")], key=natural_sort_key)[0].name
    'part-2'
    """
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", path.name)]
