"""Records as parquet, as a set stores them: row-aligned with its block; pairs of an anchor set, items of a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from asif.pairs.item import ItemRecord
from asif.pairs.pair import PairRecord

MAX_TABLE_BYTES = 1 << 30  # bytes in memory of an untrusted table
_THUMBNAILS_PER_GROUP = 64
_ITEMS_PER_GROUP = 2048
"""A search reads the row groups of its results; smaller ones would slow reading all of them down."""

_FEW_ROWS = 32


def write_records(path: Path, records: Sequence[PairRecord]) -> None:
    """Write records in order to a parquet file, items in row groups; equal records give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    are_items = bool(records) and isinstance(records[0], ItemRecord)
    schema = _item_schema() if are_items else _schema()
    columns = {name: [getattr(record, name) for record in records] for name in schema.names}
    table = pa.Table.from_pydict(columns, schema=schema)
    pq.write_table(table, path, compression="zstd", row_group_size=_ITEMS_PER_GROUP if are_items else None)


def write_thumbnails(path: Path, thumbnails: Sequence[bytes | None]) -> None:
    """Write images in order to a parquet file, in row groups that are small enough to read a single one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([pa.field("thumbnail", pa.large_binary())])
    table = pa.Table.from_pydict({"thumbnail": list(thumbnails)}, schema=schema)
    pq.write_table(table, path, compression="none", row_group_size=_THUMBNAILS_PER_GROUP)


def read_thumbnails(path: Path, rows: Sequence[int] | None = None) -> list[bytes | None]:
    """Read images back: all of them, or those at `rows`, of which only the row groups are read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        if rows is None:
            every: list[bytes | None] = file.read(["thumbnail"], use_threads=False)["thumbnail"].to_pylist()
            return every
        groups = {
            group: file.read_row_group(group, ["thumbnail"], use_threads=False)["thumbnail"]
            for group in {row // _THUMBNAILS_PER_GROUP for row in rows}
        }
        return [groups[row // _THUMBNAILS_PER_GROUP][row % _THUMBNAILS_PER_GROUP].as_py() for row in rows]


def _item_schema() -> Any:
    import pyarrow as pa

    text = pa.large_string()
    more = [
        pa.field("uri", text, nullable=False),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("label", text),
    ]
    return pa.schema(
        [field.with_name("sha256") if field.name == "image_sha256" else field for field in _schema()] + more
    )


def _schema() -> Any:
    import pyarrow as pa

    text = pa.large_string()
    return pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("captions", pa.list_(text), nullable=False),
            pa.field("image_sha256", text, nullable=False),
            pa.field("source", text),
            pa.field("licence", text),
            pa.field("url", text),
        ]
    )


def check_records_file(path: Path, rows: int) -> None:
    """Raise ValueError, before much memory is taken, unless this is a table of `rows` pairs, all with captions.

    For untrusted files: a few kilobytes can decompress to any amount of text.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata
        size = sum(about.row_group(at).total_byte_size for at in range(about.num_row_groups))
        if not file.schema_arrow.equals(_schema()) or about.num_rows != rows:
            raise ValueError(f"{about.num_rows} rows of {', '.join(file.schema_arrow.names)[:200]}")
        if size > MAX_TABLE_BYTES or not _is_bounded(file, max(1, min(rows, MAX_TABLE_BYTES // max(1, size)))):
            raise ValueError(f"pairs without captions, or more than {MAX_TABLE_BYTES:,} bytes of them")


def _is_bounded(file: Any, step: int) -> bool:
    """Tell whether a table fits in memory and has captions, reading a few rows at a time (rows may share one text)."""
    taken = 0
    for batch in file.iter_batches(batch_size=step, use_threads=False):
        taken += batch.nbytes
        captions = batch.column("captions")
        if taken > MAX_TABLE_BYTES or captions.flatten().null_count or 0 in captions.value_lengths().to_pylist():
            return False
    return True


def read_records(path: Path) -> list[PairRecord]:
    """Read the records back in order."""
    return _build_records(read_table(path).to_pydict())


def read_table(path: Path, names: Sequence[str] | None = None) -> Any:
    """Read a table, or some of its columns, in this thread: pyarrow waits for ever where the system refuses it one."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        return file.read(columns=names, use_threads=False)


def read_row_groups(path: Path) -> list[int]:
    """Return the number of rows in each row group of a table."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        return [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]


def read_row_group(path: Path, number: int) -> Any:
    """Read one row group of a table, in this thread."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        return file.read_row_group(number, use_threads=False)


def read_columns(path: Path, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Read some columns, a tuple for each row; lists in it are tuples."""
    columns = read_table(path, names).to_pydict()
    lists = (map(tuple, columns[name]) if name == "captions" else columns[name] for name in names)
    return list(zip(*lists, strict=True))


def take_records(table: Any, rows: Sequence[int]) -> list[PairRecord]:
    """Return the records at some rows of a table; raises IndexError for a row that is not there."""
    if len(rows) <= _FEW_ROWS and all(0 <= row < len(table) for row in rows):  # importing what takes more is slow
        columns = zip(table.column_names, table.columns, strict=True)
        return _build_records({name: [column[row].as_py() for row in rows] for name, column in columns})
    return _build_records(table.take(list(rows)).to_pydict())


def _build_records(columns: dict[str, list[Any]]) -> list[PairRecord]:
    captions = map(tuple, columns.pop("captions"))
    kind = ItemRecord if "uri" in columns else PairRecord
    if kind is ItemRecord:
        columns["image_sha256"] = columns.pop("sha256")
    names = [field.name for field in fields(kind) if field.name not in ("captions", "thumbnail")]
    if sorted(columns) != sorted(names):
        raise ValueError(f"columns {sorted(columns)}, not {sorted(names)}")
    others = zip(*(columns[name] for name in names[1:]), strict=True)
    return [kind(name, words, *rest) for name, words, rest in zip(columns["id"], captions, others, strict=True)]


def read_ids(path: Path) -> list[str]:
    """Read the ids alone, in order."""
    ids: list[str] = read_table(path, ["id"])["id"].to_pylist()
    return ids
