"""Read files of labels or class names: text lines, `label<TAB>name`, CSV with a header, JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asif.errors import UsageError

_ID_COLUMNS = ("id", "class_id", "label_id", "category_id", "class_index", "index", "idx", "synset", "wnid")
_LABEL_COLUMNS = ("label", "labels", "class", "category")
_NAME_COLUMNS = ("name", "names", "class_name", "classname", "label_name", "category_name", "display_name", "text")
_COLUMNS = (*_ID_COLUMNS, *_LABEL_COLUMNS, *_NAME_COLUMNS)
_NAME_SEPARATOR = " | "
_DELIMITERS = ",;"


@dataclass(frozen=True)
class LabelEntry:
    """Hold a label of a file, its names in prompts, () if the file gives none, and its place, such as `line 3`."""

    label: str
    names: tuple[str, ...]
    place: str


def read_label_file(path: Path) -> list[LabelEntry]:
    """Read the labels of a file, in its order; either all have names or none has.

    The content decides the format: a JSON list or object; lines with tabs, `label<TAB>name[ | name ...]`; CSV, whose
    header names a column such as label or name; else one label per line. Blank lines, and in text files lines that
    begin with `#`, are skipped. Raises UsageError, which names file and line, for anything else, for a file without
    labels, and for a label with names that comes twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _build_error(f"{path} cannot be read ({error})") from error
    entries = _parse_json(path, text) if text.lstrip()[:1] in ("{", "[") else _parse_text(path, text)
    if not entries:
        raise _build_error(f"{path} is empty")
    for entry in entries:
        if "\0" in entry.label:
            raise _build_error(f"{entry.place} of {path} contains a NUL character: {entry.label[:40]!a}")
        if not entry.label:
            raise _build_error(f"{entry.place} of {path} has an empty label")
        if bool(entry.names) != bool(entries[0].names):
            raise _build_error(f"{path} gives names in some places, and none in {entry.place}")
    if entries[0].names:
        check_repetitions(path, entries)
    return entries


def check_repetitions(path: Path, entries: Sequence[LabelEntry]) -> None:
    """Raise UsageError if a label comes twice, with both places."""
    places: dict[str, str] = {}
    for entry in entries:
        if entry.label in places:
            where = f"{places[entry.label]} and {entry.place}"
            raise _build_error(f"{path} names {entry.label[:80]!r} twice, in {where}")
        places[entry.label] = entry.place


def split_names(names: str) -> tuple[str, ...]:
    """Split names that are separated by ` | ` or tabs."""
    return tuple(name.strip() for name in names.replace("\t", _NAME_SEPARATOR).split(_NAME_SEPARATOR))


def _parse_text(path: Path, text: str) -> list[LabelEntry]:
    lines = [
        (number, line)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if any("\t" in line for _, line in lines):
        return _parse_tabs(path, lines)
    is_csv = path.suffix.lower() == ".csv"
    delimiter = _find_delimiter(lines[0][1], 1 if is_csv else 2) if lines else None
    if delimiter is not None:
        return _parse_csv(path, text, lines[0][0], delimiter)
    if is_csv and lines:
        raise UsageError(
            f"line {lines[0][0]} of {path} is {lines[0][1][:80]!r}",
            f"a header with a column {', '.join(_LABEL_COLUMNS[:3])} or {_NAME_COLUMNS[0]}",
            "write one, such as label,name; or give a text file with one label per line",
        )
    return [LabelEntry(line.strip(), (), f"line {number}") for number, line in lines]


def _parse_tabs(path: Path, lines: Sequence[tuple[int, str]]) -> list[LabelEntry]:
    """Parse `label<TAB>name[ | name ...]`; a first line such as `label<TAB>name` is a header."""
    has_header = _find_delimiter(lines[0][1], 2, "\t") is not None
    entries = []
    for number, line in lines[has_header:]:
        label, tab, rest = line.partition("\t")
        if not tab or not label.strip() or not all(split_names(rest)):
            raise _build_error(f"line {number} of {path} is {line[:80]!r}")
        entries.append(LabelEntry(label.strip(), split_names(rest), f"line {number}"))
    return entries


def _find_delimiter(line: str, least: int, delimiters: str = _DELIMITERS) -> str | None:
    """Return the delimiter of a header in which `least` columns or more have known names; None for other lines."""
    for delimiter in delimiters:
        if sum(head in _COLUMNS for head in _read_header(line.split(delimiter))) >= least:
            return delimiter
    return None


def _read_header(cells: Sequence[str]) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in cells]


def _choose_columns(heads: Sequence[str]) -> tuple[int, int | None]:
    """Return the columns of labels and of names: an id or a label, and a name; or an id, and a label as its name."""
    ids, labels, names = (
        [heads.index(column) for column in known if column in heads]
        for known in (_ID_COLUMNS, _LABEL_COLUMNS, _NAME_COLUMNS)
    )
    if names:
        return ([*labels, *ids, *names][0], names[0] if labels or ids else None)
    return (ids[0], labels[0]) if ids and labels else ([*labels, *ids][0], None)


def _parse_csv(path: Path, text: str, header_line: int, delimiter: str) -> list[LabelEntry]:
    """Parse CSV from its header on."""
    rows = _read_cells(path, "\n".join(text.split("\n")[header_line - 1 :]), header_line, delimiter)
    heads = _read_header(next(rows)[1])
    label_at, name_at = _choose_columns(heads)
    entries = []
    for place, row in rows:
        if len(row) != len(heads):
            raise _build_error(f"{place} of {path} has {len(row)} cells, the header {len(heads)}")
        cells = [cell.strip() for cell in row]
        names = () if name_at is None else split_names(cells[name_at])
        if not cells[label_at] or not all(names):
            raise _build_error(f"{place} of {path} has an empty cell")
        entries.append(LabelEntry(cells[label_at], names, place))
    return entries


def _read_cells(path: Path, text: str, first: int, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the cells of each row with its line; blank lines are skipped."""
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True, skipinitialspace=True)
    line = first
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"line {line}", cells
            line = first + reader.line_num
    except csv.Error as error:
        raise _build_error(f"line {line} of {path} is not CSV ({error})") from error


def _parse_json(path: Path, text: str) -> list[LabelEntry]:
    """Parse a list of labels, or an object {label: name or list of names}."""
    try:
        found = json.loads(text, object_pairs_hook=tuple)  # a dict would hide labels that come twice
    except (ValueError, RecursionError) as error:
        raise _build_error(f"{path} is not JSON ({error})") from error
    if isinstance(found, list):
        return [_parse_item(path, f"item {number}", item) for number, item in enumerate(found, start=1)]
    entries = []
    for number, (label, value) in enumerate(found, start=1):
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not several or not all(isinstance(n, str) and n.strip() for n in several):
            raise _build_error(f"{path} has {_shorten(value)} for {label[:80]!r}")
        entries.append(LabelEntry(label.strip(), tuple(name.strip() for name in several), f"item {number}"))
    return entries


def _parse_item(path: Path, place: str, item: Any) -> LabelEntry:
    """Parse an item of a JSON list: a text, a number, or an object with an id or label and a name."""
    if isinstance(item, tuple):
        cells = {key.lower(): value for key, value in item}
        label = next((cells[key] for key in (*_ID_COLUMNS, *_LABEL_COLUMNS) if key in cells), None)
        name = next((cells[key] for key in _NAME_COLUMNS if key in cells), None)
        if isinstance(label, (str, int)) and isinstance(name, str) and name.strip():
            return LabelEntry(str(label).strip(), split_names(name), place)
    elif isinstance(item, (str, int, float)) and str(item).strip():
        return LabelEntry(str(item).strip(), (), place)
    raise _build_error(f"{place} of {path} is {_shorten(item)}")


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _build_error(came: str) -> UsageError:
    return UsageError(
        came,
        "one label per line, lines of 'label<TAB>name[ | other name]', CSV with a header, or JSON, in UTF-8",
        "write a line for each label, once",
    )
