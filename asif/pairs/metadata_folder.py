"""Read pairs from a folder of images with metadata.csv or metadata.jsonl."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from asif.errors import InputRefused
from asif.pairs.columns import ColumnShape, TextRole, find_columns, infer_value_shape
from asif.pairs.location import Place
from asif.pairs.pair import Pair, Reject
from asif.pairs.row_parser import Flaw, parse_row
from asif.pairs.source import PairSource, find_file_size

HEAD_ROWS = 64
RowFields = dict[str, Any]


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

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on; a line that cannot be parsed is a Reject."""
        names = self.columns.by_role()
        for row, record in enumerate(islice(_read_rows(self.files[0]), start, None), start):
            if isinstance(record, Flaw):
                yield Reject(row, None, record.reason)
            else:
                cells = {role: record.get(name) for role, name in names.items()}
                yield parse_row(row, cells, self.files[0].parent)


def open_metadata(
    path: Place, file: Place, overrides: Mapping[str, str], text_role: TextRole = "captions"
) -> MetadataSource:
    """Open a .csv or .jsonl file, reading only its head."""
    if find_file_size(file) == 0:
        raise InputRefused(f"{file} is empty (0 bytes)", "rows with file_name and a caption", "write the file again")
    shapes = _read_csv_shapes(file) if file.suffix == ".csv" else infer_shapes(islice(_read_rows(file), HEAD_ROWS))
    columns = find_columns(shapes, overrides, str(file), text_role)
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


def parse_json_row(line: str | bytes) -> RowFields | Flaw:
    """Parse one JSON object.

    >>> parse_json_row('{"a": 1}'), parse_json_row("{oops")
    ({'a': 1}, Flaw(reason='not JSON: Expecting property name enclosed in double quotes at column 2'))
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return Flaw(f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Flaw(f"not JSON: {error}")
    return record if isinstance(record, dict) else Flaw(f"not a JSON object but a {type(record).__name__}")


def _read_rows(path: Place) -> Iterator[RowFields | Flaw]:
    # surrogateescape lets a row with broken UTF-8 through, so that only this row is rejected
    try:
        with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if path.suffix == ".csv":
                yield from _read_csv_rows(file)
            else:
                yield from (parse_json_row(line) for line in file if line.strip())
    except OSError as error:
        raise InputRefused(f"{path} cannot be read: {error}", "a readable file", "check the file") from error


def _read_csv_rows(file: Any) -> Iterator[RowFields | Flaw]:
    reader = csv.reader(file, strict=True)
    names = next(reader, [])
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Flaw(f"not CSV: {error}")
            continue
        if fields and len(fields) != len(names):
            yield Flaw(f"row has {len(fields)} fields instead of {len(names)}")
        elif fields:
            yield dict(zip(names, fields, strict=True))


def _read_csv_shapes(path: Place) -> dict[str, ColumnShape]:
    with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            names = next(csv.reader(file, strict=True), [])
        except csv.Error as error:
            raise InputRefused(
                f"the first line of {path} cannot be read: {error}", "a CSV header", "write the file again"
            ) from error
    return {name: "text" if times == 1 else "other" for name, times in Counter(names).items()}
