"""Pair records as parquet, as an anchor set stores them: row-aligned with its block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from asif.pairs.pair import PairRecord

MAX_TABLE_BYTES = 1 << 30  # bytes in memory of an untrusted table


def write_records(path: Path, records: Sequence[PairRecord]) -> None:
    """Write records in order to a parquet file; equal records give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    columns = {name: [getattr(record, name) for record in records] for name in schema.names}
    table = pa.Table.from_pydict(columns, schema=schema)
    pq.write_table(table, path, compression="zstd")


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
    columns = _read_columns(path)
    captions = map(tuple, columns.pop("captions"))
    names = [field.name for field in fields(PairRecord) if field.name != "captions"]
    if sorted(columns) != sorted(names):
        raise ValueError(f"columns {sorted(columns)}, not {sorted(names)}")
    others = zip(*(columns[name] for name in names[1:]), strict=True)
    return [PairRecord(name, words, *rest) for name, words, rest in zip(columns["id"], captions, others, strict=True)]


def read_ids(path: Path) -> list[str]:
    """Read the ids alone, in order."""
    ids: list[str] = _read_columns(path, ["id"])["id"]
    return ids


def _read_columns(path: Path, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Read columns of a table, in this thread: pyarrow waits for ever where the system refuses it a thread."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        columns: dict[str, list[Any]] = file.read(columns=names, use_threads=False).to_pydict()
    return columns
