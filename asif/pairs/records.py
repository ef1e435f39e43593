"""Pair records as parquet: the form in which an anchor set keeps them, row-aligned with its block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from asif.pairs.pair import PairRecord


def write_records(path: Path, records: Sequence[PairRecord]) -> None:
    """Write records in order to a parquet file; equal records give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.large_string()
    schema = pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("captions", pa.list_(text), nullable=False),
            pa.field("image_sha256", text, nullable=False),
            pa.field("source", text),
            pa.field("licence", text),
            pa.field("url", text),
        ]
    )
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=schema)
    pq.write_table(table, path, compression="zstd")


def read_records(path: Path) -> list[PairRecord]:
    """Read the records back in order."""
    import pyarrow.parquet as pq

    columns = pq.read_table(path).to_pydict()
    captions = map(tuple, columns.pop("captions"))
    names = [field.name for field in fields(PairRecord) if field.name != "captions"]
    if sorted(columns) != sorted(names):
        raise ValueError(f"columns {sorted(columns)}, not {sorted(names)}")
    others = zip(*(columns[name] for name in names[1:]), strict=True)
    return [PairRecord(name, words, *rest) for name, words, rest in zip(columns["id"], captions, others, strict=True)]


def read_ids(path: Path) -> list[str]:
    """Read the ids alone, in order."""
    import pyarrow.parquet as pq

    ids: list[str] = pq.read_table(path, columns=["id"])["id"].to_pylist()
    return ids
