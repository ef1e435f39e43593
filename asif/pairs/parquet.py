"""Read pairs from one parquet file, or from shards as one source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from asif.errors import InputRefused
from asif.pairs.arrow import decode_text, infer_arrow_shape, read_cell, read_vector_column
from asif.pairs.cell_forms import SAMPLED_ROWS, find_forms, list_text_roles
from asif.pairs.columns import ROLES, SHARD_IMAGES, Columns, ColumnShape, TextRole, check_shard, find_columns
from asif.pairs.location import Place, map_places
from asif.pairs.pair import Pair, Reject
from asif.pairs.parquet_file import (
    RowGroup,
    list_row_groups,
    open_parquet_file,
    read_batches,
    read_group_batches,
    read_intact,
    read_large_column,
)
from asif.pairs.row_parser import parse_row
from asif.pairs.source import PairSource, hash_id_column
from asif.vectors import Int64


@dataclass(frozen=True)
class ParquetSource(PairSource):
    """Read pairs from parquet files; `counts` are the rows of each."""

    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Count the rows."""
        return sum(self.counts)

    def hash_ids(self, rows: int) -> Int64 | None:
        """Hash the ids of the first rows."""
        return hash_id_column(self, rows)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on; row groups before it are not decoded."""
        first = 0
        for file, count in zip(self.files, self.counts, strict=True):
            for row, cells in read_parquet_cells(file, count, self.columns, self.dims, max(start - first, 0)):
                yield parse_row(
                    first + row,
                    cells,
                    file.parent,
                    self.columns.forms,
                    self.columns.needs_captions,
                    self.columns.modality,
                )
            first += count

    def locate_row(self, row: int) -> tuple[Place, int]:
        """Return the shard of a row, and its number in there."""
        for file, count in zip(self.files, self.counts, strict=True):
            if row < count:
                return file, row
            row -= count
        return super().locate_row(row)


def open_parquet(
    path: Place,
    files: Sequence[Place],
    overrides: Mapping[str, str],
    text_role: TextRole = "captions",
    modality: str | None = None,
) -> ParquetSource:
    """Open parquet files as one source, reading only their footers (and the first rows, for the width of vectors)."""
    heads = map_places(read_parquet_head, files)
    shapes = heads[0][1]
    columns = find_columns(shapes, overrides, str(files[0]), text_role, modality)
    for file, (_, others) in zip(files, heads, strict=True):
        check_shard(columns, others, str(file))
    columns = find_parquet_forms(columns, shapes, {file: head[0] for file, head in zip(files, heads, strict=True)})
    used = set(columns.by_role().values())
    return ParquetSource(
        path=path,
        kind=_describe_kind(columns, shapes),
        columns=columns,
        unused=tuple(name for name in shapes if name not in used),
        files=tuple(files),
        dims=_find_dims(files, columns),
        counts=tuple(count for count, _ in heads),
    )


def find_parquet_forms(columns: Columns, shapes: Mapping[str, ColumnShape], counts: Mapping[Place, int]) -> Columns:
    """Return the columns with the forms of their texts, from the first rows of {file: rows}."""
    sampled = list_text_roles(columns, shapes)
    if not sampled:
        return columns
    roles: dict[str, Any] = {role: name for role, name in sampled.items() if role in ROLES}
    texts = Columns(**roles, more_captions=columns.more_captions if "captions 2" in sampled else ())
    rows = (cells for file, count in counts.items() for _, cells in read_parquet_cells(file, count, texts, None, 0))
    return find_forms(columns, islice(rows, SAMPLED_ROWS))


def read_parquet_head(path: Place) -> tuple[int, dict[str, ColumnShape]]:
    """Read the footer: the number of rows, and {column: shape}."""
    with open_parquet_file(path) as file:
        schema = read_intact(lambda: file.schema_arrow, f"{path}: the schema in its footer")
        shapes = {field.name: infer_arrow_shape(field.type) for field in schema}
        repeated = [name for name, times in Counter(schema.names).items() if times > 1]
        return file.metadata.num_rows, {**shapes, **dict.fromkeys(repeated, "repeated")}


def read_parquet_cells(
    path: Place, count: int, columns: Columns, dims: tuple[int, int] | None, start: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row, {role: value}) for each of the `count` rows from `start` on."""
    if start >= count:
        return
    names = columns.by_role()
    widths = dict(zip(("image_embedding", "text_embedding"), dims, strict=True)) if dims else {}
    with open_parquet_file(path) as file:
        if file.metadata.num_rows != count:
            raise InputRefused(
                f"{path} had {count:,} rows and now has {file.metadata.num_rows:,}",
                "a file that does not change while it is read",
                "start again when it is complete",
            )
        for group in list_row_groups(file, path, start):
            large = _find_large_columns(file, path, group, set(names.values()), start)
            arrow = sorted(set(names.values()) - large.keys()) + [f"{name}.path" for name in large if large[name].path]
            for first, batch in read_group_batches(file, path, group, arrow):
                read = {role: batch.column(name) for role, name in names.items() if name in batch.schema.names}
                blocks = {
                    role: read_vector_column(read.pop(role), width) for role, width in widths.items() if role in read
                }
                for row in range(max(start - first, 0), batch.num_rows):
                    cells = {role: read_cell(column, row) for role, column in read.items()}
                    values = {name: column.read_next() for name, column in large.items()}
                    cells |= {
                        role: large[name].join(cells.get(role), values[name])
                        for role, name in names.items()
                        if name in large
                    }
                    yield first + row, {**cells, **{role: block[row] for role, block in blocks.items()}}


@dataclass(frozen=True)
class _LargeColumn:
    """Hold the values of a column that is read value by value: bytes, a text, or a struct of bytes and maybe a path."""

    values: Iterator[Any]
    shape: ColumnShape
    path: bool

    def read_next(self) -> Any:
        value = next(self.values)
        return decode_text(value) if self.shape == "text" and isinstance(value, bytes) else value

    def join(self, rest: Any, value: Any) -> Any:
        """Return the cell; `rest` are the other parts of a struct."""
        return {**(rest or {}), "bytes": value} if self.shape == "image" else value


def _find_large_columns(
    file: Any, path: Place, group: RowGroup, names: Collection[str], start: int
) -> dict[str, _LargeColumn]:
    """Return the columns of images or texts that are read value by value; pyarrow reads one at least."""
    found: dict[str, _LargeColumn] = {}
    for name in names:
        kind = file.schema_arrow.field(name).type
        shape = infer_arrow_shape(kind)
        if shape not in ("bytes", "text", "image"):
            continue
        values = read_large_column(file, path, group, f"{name}.bytes" if shape == "image" else name, start)
        if values is not None:
            found[name] = _LargeColumn(values, shape, shape == "image" and kind.get_field_index("path") >= 0)
    if len(found) == len(names) and not any(column.path for column in found.values()):
        del found[min(found, key=lambda name: found[name].shape != "text")]
    return found


def _find_dims(files: Sequence[Place], columns: Columns) -> tuple[int, int] | None:
    if columns.image_embedding is None:
        return None
    text = columns.text_embedding
    return _find_width(files, columns.image_embedding), 0 if text is None else _find_width(files, text)


def _find_width(files: Sequence[Place], name: str) -> int:
    """Return the width of vectors from their type, or else the most common one of the first rows."""
    import pyarrow.compute as pc
    from pyarrow import types

    for path in files:
        with open_parquet_file(path) as file:
            kind = file.schema_arrow.field(name).type
            if types.is_fixed_size_list(kind):
                return int(kind.list_size)
            for _, batch in read_batches(file, path, [name], 0):
                lengths = Counter(length for length in pc.list_value_length(batch.column(name)).to_pylist() if length)
                if lengths:
                    return int(lengths.most_common(1)[0][0])
    return 0


def _describe_kind(columns: Columns, shapes: Mapping[str, ColumnShape]) -> str:
    if columns.image is None and columns.image_embedding is None:
        return "parquet with texts"
    if columns.image is None:
        return "precomputed vectors (parquet)"
    if shapes[columns.image] == "text":
        return f"parquet with {columns.modality} paths"
    if columns.image in SHARD_IMAGES and columns.status:
        return "parquet (img2dataset)"
    return "parquet (Hugging Face)" if shapes[columns.image] == "image" else f"parquet with {columns.modality} bytes"
