"""Read pairs from a folder of images with metadata.csv, metadata.tsv or metadata.jsonl."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from asif.errors import InputRefused
from asif.pairs.cell_forms import find_forms, list_text_roles
from asif.pairs.columns import ColumnShape, TextRole, find_columns, infer_value_shape
from asif.pairs.image_files import list_unnamed, summarise_unread
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.row_parser import Flaw, parse_row
from asif.pairs.source import PairSource, find_file_size, hash_id_column
from asif.vectors import Int64

HEAD_ROWS = 64
_HEAD_CHARACTERS = 64 << 20
_MAX_LINE = 256 << 20  # characters, of a cell too
_MAX_LOOSE = 1 << 17  # characters in a cell's further lines, but for those of base64
_BASE64_LINE = re.compile(r"[A-Za-z0-9+/=_-]+\s*")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
RowFields = dict[str, Any]
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class MetadataSource(PairSource):
    """Read pairs from a CSV or JSON-lines file whose image paths are relative to its folder."""

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in _read_rows(self.files[0]))

    @property
    def rows(self) -> int:
        """Count the rows, in one pass over the file."""
        return self._count

    def describe(self) -> str:
        """Return a few lines that describe what will be read, and how many files of a folder on disk no row names."""
        return "\n".join([super().describe(), *(f"  not read: {text}" for text in self._unread)])

    @cached_property
    def _unread(self) -> tuple[str, ...]:
        """The files of a folder on disk that no row names, in one pass over the rows and one over the folder."""
        if not isinstance(self.path, Path) or not self.path.is_dir() or "image" in self.columns.forms:
            return ()
        if self.columns.image is None and self.columns.image_embedding is None:  # read for its texts alone
            return ()
        column = self.columns.image or ""
        cells = (row.get(column) for row in _read_rows(self.files[0]) if isinstance(row, dict))
        names = (cell for cell in cells if isinstance(cell, str))
        return summarise_unread(list_unnamed(self.path, chain((self.files[0].name,), names), self.modality))

    def hash_ids(self, rows: int) -> Int64 | None:
        """Hash the ids of the first rows."""
        return hash_id_column(self, rows)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on; a line that cannot be parsed is a Reject."""
        names = self.columns.by_role()
        for row, record in enumerate(islice(_read_rows(self.files[0]), start, None), start):
            if isinstance(record, Flaw):
                yield Reject(row, None, record.reason)
            else:
                cells = {role: record.get(name) for role, name in names.items()}
                yield parse_row(
                    row,
                    cells,
                    self.files[0].parent,
                    self.columns.forms,
                    self.columns.needs_captions,
                    self.columns.modality,
                )


def open_metadata(
    path: Place,
    file: Place,
    overrides: Mapping[str, str],
    text_role: TextRole = "captions",
    modality: str | None = None,
) -> MetadataSource:
    """Open a .csv, .tsv or .jsonl file, reading only its head."""
    if find_file_size(file) == 0:
        raise InputRefused(f"{file} is empty (0 bytes)", "rows with file_name and a caption", "write the file again")
    _check_encoding(file)
    named = _read_csv_shapes(file) if file.suffix.lower() in _SEPARATORS else None
    head = list(_read_head(file))
    shapes = infer_shapes(head) if named is None else named
    columns = find_columns(shapes, overrides, str(file), text_role, modality)
    roles = list_text_roles(columns, shapes)
    columns = find_forms(
        columns, ({role: row.get(name) for role, name in roles.items()} for row in head if not isinstance(row, Flaw))
    )
    used = set(columns.by_role().values())
    unused = tuple(name for name in shapes if name not in used)
    return MetadataSource(path, f"folder with {file.name}", columns, unused, (file,), None)


def infer_shapes(records: Iterable[RowFields | Flaw | None]) -> dict[str, ColumnShape]:
    """Return the shape of each column over a few rows; a null takes the shape of a later value."""
    shapes: dict[str, ColumnShape] = {}
    for record in records:
        for name, value in record.items() if isinstance(record, dict) else ():
            if shapes.get(name, "null") == "null":
                shapes[name] = infer_value_shape(value)
    return shapes


def parse_json(content: str | bytes) -> RowFields | list[Any] | str | Flaw:
    """Parse a JSON object, or the captions of a row: a text or a list.

    >>> parse_json('{"a": 1}'), parse_json('["a", "b"]'), parse_json("{oops")
    ({'a': 1}, ['a', 'b'], Flaw(reason='not JSON: Expecting property name enclosed in double quotes at column 2'))
    """
    try:
        found = json.loads(content)
    except json.JSONDecodeError as error:
        return Flaw(f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Flaw(f"not JSON: {error}")
    return found if isinstance(found, (dict, list, str)) else Flaw(f"not a JSON object but a {type(found).__name__}")


def _parse_json_row(line: str) -> RowFields | Flaw:
    """Parse one JSON object."""
    found = parse_json(line)
    return found if isinstance(found, (dict, Flaw)) else Flaw(f"not a JSON object but a {type(found).__name__}")


def _read_rows(path: Place) -> Iterator[RowFields | Flaw]:
    # surrogateescape lets a row with broken UTF-8 through, so that only this row is rejected
    try:
        with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if path.suffix.lower() in _SEPARATORS:
                yield from _read_csv_rows(_iterate_lines(file), _SEPARATORS[path.suffix.lower()])
            else:
                yield from _read_json_rows(_iterate_lines(file))
    except OSError as error:
        raise InputRefused(f"{path} cannot be read: {error}", "a readable file", "check the file") from error


def _read_head(path: Place) -> Iterator[RowFields | Flaw]:
    """Yield the first rows, fewer if they are large."""
    left = _HEAD_CHARACTERS
    for row in islice(_read_rows(path), HEAD_ROWS):
        yield row
        left -= sum(len(cell) for cell in row.values() if isinstance(cell, str)) if isinstance(row, dict) else 0
        if left < 0:
            return


def _iterate_lines(file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file; of one that is too long, which is skipped, nothing: an empty text."""
    while line := file.readline(_MAX_LINE):
        too_long = len(line) == _MAX_LINE and line[-1] not in "\r\n"
        yield "" if too_long else line
        while too_long:
            line = file.readline(_MAX_LINE)
            too_long = len(line) == _MAX_LINE and line[-1] not in "\r\n"


def _read_json_rows(lines: Iterable[str]) -> Iterator[RowFields | Flaw]:
    for number, line in enumerate(lines, 1):
        if not line:
            yield Flaw(f"line {number} has more than {_MAX_LINE:,} characters")
        elif line.strip():
            row = _parse_json_row(line)
            yield Flaw(f"line {number}: {row.reason}") if isinstance(row, Flaw) else row


class _TableLines(Iterator[str]):
    """Iterate over lines and count them; those of a record that cannot be read are read again, but for the first.

    Raises csv.Error for a line that is too long, and in the further lines of a cell that somebody forgot to close.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE))  # of this process
        self.number = 0
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._loose = 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        if self._record and not _BASE64_LINE.fullmatch(line):
            self._loose += len(line)
        self._record.append(line)
        self.number += 1
        if not line:
            raise csv.Error(f"a line of more than {_MAX_LINE:,} characters")
        if self._loose > _MAX_LOOSE:
            raise csv.Error(f"a cell with more than {_MAX_LOOSE:,} characters in further lines")
        return line

    def begin_record(self) -> int:
        """Return the number of the next line, at which a record begins."""
        self._record, self._loose = [], 0
        return self.number + 1

    def reread(self) -> None:
        """Give back all lines of the record but its first."""
        self._again.extendleft(reversed(self._record[1:]))
        self.number -= len(self._record) - 1


def _read_csv_rows(file: Iterable[str], separator: str) -> Iterator[RowFields | Flaw]:
    """Yield the rows after the header; a line that begins no readable row is a Flaw, and the next line another row."""
    lines = _TableLines(file)
    names = next(csv.reader(lines, strict=True, delimiter=separator), [])
    reader = csv.reader(lines, strict=True, delimiter=separator)
    while True:
        first = lines.begin_record()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.reread()
            reader = csv.reader(lines, strict=True, delimiter=separator)
            yield Flaw(f"line {first}: not CSV in UTF-8: {error}")
            continue
        if fields and len(fields) != len(names):
            lines.reread()
            yield Flaw(f"line {first} has {len(fields)} fields instead of {len(names)}, separated by {separator!r}")
        elif fields:
            yield dict(zip(names, fields, strict=True))


def _read_csv_shapes(path: Place) -> dict[str, ColumnShape]:
    separator = _SEPARATORS[path.suffix.lower()]
    with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            names = next(csv.reader(_TableLines(_iterate_lines(file)), strict=True, delimiter=separator), [])
        except csv.Error as error:
            raise InputRefused(
                f"line 1 of {path} cannot be read: {error}", "a CSV header in UTF-8", "write the file again"
            ) from error
    others = [other for other in _SEPARATOR_NAMES if other != separator and other in "".join(names)]
    if len(names) == 1 and others:
        raise InputRefused(
            f"line 1 of {path} has one field, {names[0][:80]!r}: it looks separated by {_SEPARATOR_NAMES[others[0]]}",
            f"fields separated by {_SEPARATOR_NAMES[separator]}, in UTF-8",
            f"write the file again with {_SEPARATOR_NAMES[separator]} ({separator!r}) as separators",
        )
    return {name: "text" if times == 1 else "repeated" for name, times in Counter(names).items()}


def _check_encoding(path: Place) -> None:
    """Raise InputRefused for UTF-16 and UTF-32."""
    with path.open("rb") as file:
        head = file.read(64)
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    encoding = marked or ("UTF-16 or binary" if b"\0" in head.split(b"\n")[0] else None)
    if encoding:
        raise InputRefused(
            f"line 1 of {path} is encoded as {encoding}", "UTF-8", "write the file again with encoding='utf-8'"
        )
