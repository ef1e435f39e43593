"""Read pairs from webdataset tars: members that share a key are one row; extracts nothing to disk."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

from asif.errors import InputRefused, UsageError
from asif.pairs.cell_forms import MAX_SAMPLED_CHARACTERS, find_forms, list_text_roles
from asif.pairs.columns import Columns, ColumnShape, TextRole, find_columns
from asif.pairs.image_files import IMAGE_SUFFIXES, SUFFIXES, name_suffix, summarise_unread
from asif.pairs.location import Place, map_places
from asif.pairs.metadata_folder import HEAD_ROWS, RowFields, infer_shapes, parse_json
from asif.pairs.pair import Pair, Reject
from asif.pairs.row_parser import Flaw, parse_row
from asif.pairs.source import PairSource
from asif.pairs.tar_records import TarRecord, TarRecords, show_name

MAX_MEMBER_BYTES = 256 << 20  # of one member, and of all members of a record that are read
_SAMPLED_BYTES = MAX_SAMPLED_CHARACTERS + 1  # of a text; a longer one is not sampled


@dataclass(frozen=True)
class WebdatasetSource(PairSource):
    """Read pairs from tars in which `000001.jpg` goes with `000001.txt` or `000001.json`.

    `by_line` tells whether each line of the text is a caption.
    """

    by_line: bool = False

    @cached_property
    def _counts(self) -> list[tuple[int, Counter[str]]]:
        """The rows of each tar, and its members that are not read and are in no column of `unused`, by kind."""
        return map_places(self._count, self.files)

    @property
    def rows(self) -> int:
        """Count the rows, in one pass over the headers."""
        return sum(rows for rows, _ in self._counts)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on; of the rows before, headers at most are read."""
        row = 0
        for number, file in enumerate(self.files):
            if row < start and row + self._counts[number][0] <= start:
                row += self._counts[number][0]
                continue
            for record in self._open(file):
                if row >= start:
                    yield self._parse(row, record, file.parent)
                row += 1

    def describe(self) -> str:
        """Return a few lines that describe what will be read, and how many members will not."""
        kinds = chain.from_iterable(unread.elements() for _, unread in self._counts)
        return "\n".join([super().describe(), *(f"  not read: {text}" for text in summarise_unread(kinds, "member"))])

    def _open(self, file: Place) -> TarRecords:
        return _open_records(file, self.columns.by_role().values())

    def _count(self, file: Place) -> tuple[int, Counter[str]]:
        records, rows, unread = self._open(file), 0, Counter[str]()
        images = SUFFIXES.get(self.columns.image or "", ())
        known = {*self.columns.by_role().values(), *self.unused, "json", *images}
        for record in records:
            rows += 1
            unread.update(name_suffix(suffix) for suffix, _ in record.members if suffix not in known)
        return rows, records.hidden + unread

    def _parse(self, row: int, record: TarRecord, folder: Place) -> Pair | Reject:
        names = self.columns.by_role()
        fields = _load_fields(record, names.values())
        if isinstance(fields, Flaw):
            return Reject(row, None, fields.reason)
        if record.continues and any(
            names.get(role, "__key__") not in fields for role in ("image", "captions", "label")
        ):
            return Reject(row, None, _describe_continuation(record))
        cells = {role: fields.get(name) for role, name in names.items()}
        captions = cells.get("captions")
        if self.by_line and isinstance(captions, bytes):
            cells["captions"] = captions.splitlines()
        return parse_row(row, cells, folder, self.columns.forms, self.columns.needs_captions, self.columns.modality)

    def locate_row(self, row: int) -> tuple[Place, int]:
        """Return the tar of a row, and the number of the record in there."""
        for file, (count, _) in zip(self.files, self._counts, strict=True):
            if row < count:
                return file, row
            row -= count
        return super().locate_row(row)


def open_webdataset(
    path: Place,
    files: Sequence[Place],
    overrides: Mapping[str, str],
    text_role: TextRole = "captions",
    modality: str | None = None,
) -> WebdatasetSource:
    """Open tars as one source, reading the first rows of the first that has any, and more until all roles are found.

    Of images only headers are read.
    """
    shapes, columns = _find_layout(path, files, overrides, text_role, modality)
    columns = _find_text_forms(columns, shapes, files)
    used = set(columns.by_role().values())
    unused = tuple(name for name in shapes if name not in used and name not in (*IMAGE_SUFFIXES, "audio"))
    return WebdatasetSource(path, "webdataset (tar)", columns, unused, tuple(files), None)


def _open_records(file: Place, columns: Collection[str]) -> TarRecords:
    """Open one tar; where a column's name has a dot, such as `seg.png`, the dots of names are those of columns."""
    return TarRecords(file, not any("." in name for name in columns))


def _find_layout(
    path: Place, files: Sequence[Place], overrides: Mapping[str, str], text_role: TextRole, modality: str | None
) -> tuple[dict[str, ColumnShape], Columns]:
    """Return the shape of each column, and the column of each role."""
    tars = (iter(_open_records(file, overrides.values())) for file in files)
    where, first, records = next(
        ((file, first, tar) for file, tar in zip(files, tars, strict=True) if (first := next(tar, None))),
        (path, None, iter(())),
    )
    if first is None:
        raise InputRefused(f"{path} has no member in {len(files):,} tars", "a tar with members", "write it again")
    shapes = infer_shapes(map(_load_shapes, islice(chain((first,), records), HEAD_ROWS)))
    later = chain(records, chain.from_iterable(tars))
    while True:
        try:
            return shapes, find_columns(shapes, overrides, str(where), text_role, modality)
        except (InputRefused, UsageError) as error:
            incomplete = isinstance(error, InputRefused) or not set(overrides.values()) <= set(shapes)
            if not incomplete or not _find_more_columns(shapes, later, path):
                raise


def _find_text_forms(columns: Columns, shapes: Mapping[str, ColumnShape], files: Sequence[Place]) -> Columns:
    """Return the columns with the forms that their texts have in the first rows."""
    roles = list_text_roles(columns, shapes)
    for role, name in columns.by_role().items():
        is_text = role.split()[0] == "captions" or (
            role == "image" and _find_modality(name) is None and name not in SUFFIXES
        )
        if is_text and shapes.get(name) == "bytes":
            roles[role] = name
    if not roles:
        return columns
    records = islice(
        (record for file in files for record in _open_records(file, columns.by_role().values())), HEAD_ROWS
    )
    rows = (_load_fields(record, roles.values(), _SAMPLED_BYTES) for record in records)
    return find_forms(
        columns,
        (
            {role: _sample_text(role, row.get(name)) for role, name in roles.items()}
            for row in rows
            if not isinstance(row, Flaw)
        ),
    )


def _sample_text(role: str, value: Any) -> Any:
    """Return the text of a member, or its beginning if it is an image; None for a longer text."""
    if isinstance(value, bytes) and (role == "image" or len(value) < _SAMPLED_BYTES):
        return value.decode(errors="replace")
    return None if isinstance(value, bytes) else value


def _find_more_columns(shapes: dict[str, ColumnShape], records: Iterator[TarRecord], path: Place) -> bool:
    """Add the columns of the next record that has new ones; False if there is none.

    Raises InputRefused if they belong to an earlier record.
    """
    for record in records:
        found = infer_shapes([_load_shapes(record)])
        more = {name: shape for name, shape in found.items() if shapes.get(name, "null") == "null" != shape}
        if more and record.continues:
            raise InputRefused(
                f"{path}: {_describe_continuation(record)}",
                "the members of a record next to each other",
                "write the tar again, with its members sorted by name",
            )
        if more:
            shapes.update(more)
            return True
    return False


def _load_shapes(record: TarRecord) -> RowFields | Flaw:
    """Return the fields of a record, with no bytes in place of each member but JSON."""
    return _load_fields(record, ())


def _load_fields(record: TarRecord, columns: Collection[str], most: int = MAX_MEMBER_BYTES) -> RowFields | Flaw:
    """Return the fields of a record: those of its JSON, and its members, of which only `columns` are read.

    At most `most` bytes are read of a member that is no JSON.
    Returns a Flaw where a member to be read is doubled, too large, a link or sparse.
    """
    fields: dict[str, Any] = {"__key__": record.key}
    read: dict[str, str] = {}
    left = MAX_MEMBER_BYTES
    for suffix, member in record.members:
        kind = _find_modality(suffix)
        names = [suffix] if kind is None else [suffix, kind]
        if suffix != "json" and not set(names) & set(columns):
            fields.update(dict.fromkeys(names, b""))
            continue
        wanted = suffix if kind is None or kind not in columns else kind
        flaw = _find_flaw(member, read.get(wanted), left, wanted)
        if flaw:
            return flaw
        read[wanted] = member.name
        left -= member.size
        file = record.tar.extractfile(member)
        data = file.read(member.size if suffix == "json" else min(most, member.size)) if file else b""
        if suffix != "json":
            fields.update(dict.fromkeys(names, data))
            continue
        parsed = parse_json(data)
        if isinstance(parsed, Flaw):
            return Flaw(f"{show_name(member.name)}: {parsed.reason}")
        fields = {**(parsed if isinstance(parsed, dict) else {"json": parsed}), **fields}
    return fields


def _find_modality(suffix: str) -> str | None:
    """Return the modality of members with exactly this suffix; `seg.png` has none."""
    return next((modality for modality, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def _find_flaw(member: tarfile.TarInfo, other: str | None, left: int, column: str) -> Flaw | None:
    """Return why a member cannot be read; `other` has the same column in this record, `left` bytes are allowed."""
    name = show_name(member.name)
    if not member.isreg():
        return Flaw(f"{name} is {'a link' if member.islnk() or member.issym() else 'no file'} in the archive")
    if member.issparse():
        return Flaw(f"{name} is stored as a sparse file")
    if other is not None:
        hint = f" (--column {column}=SUFFIX chooses one)" if column in SUFFIXES else ""
        return Flaw(f"{show_name(other)} and {name} are two members for {column} in one record{hint}")
    if member.size > MAX_MEMBER_BYTES:
        return Flaw(f"{name} has {member.size:,} bytes, more than {MAX_MEMBER_BYTES:,}")
    if member.size > left:
        return Flaw(f"the record of {name} has more than {MAX_MEMBER_BYTES:,} bytes")
    return None


def _describe_continuation(record: TarRecord) -> str:
    names = ", ".join(show_name(member.name) for _, member in record.members[:3])
    return f"{names}: record {show_name(record.key)!r} began before other records"
