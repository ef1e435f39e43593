"""Journal segments: the durable parts of a build in progress, each for a range of source rows.

A segment is `<number>.safetensors` (a block), `<number>.jsonl` (the pairs, one canonical record a line) and, written
last, `<number>.json`: the rows it covers, those that were rejected, and the sha256 of the other two files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset.format.atomic_io import (
    atomic_write,
    atomic_write_bytes,
    check_file_content,
    hash_file,
    read_small_file,
)
from asif.anchorset.format.blocks import (
    AnchorBlock,
    block_file_size,
    build_block,
    cast_embeddings,
    read_block,
    write_block,
)
from asif.anchorset.format.checksummed_json import JsonFields, load_checksummed
from asif.anchorset.format.rejects import parse_reject, reject_fields
from asif.anchorset.format.row_hash import hash_records, serialize_record
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import SIDES, Float32, Int64, Side, dump_checksummed


@dataclass(frozen=True)
class JournalSegment:
    """Locate a segment: source rows `first_row` up to `next_row` gave `kept` anchors; `dims` is None without any."""

    folder: Path
    number: int
    first_row: int
    next_row: int
    kept: int
    rejected: int
    dims: Mapping[Side, int] | None
    dtype: str

    @property
    def lines_file(self) -> Path:
        """Return the file of the records, one a line."""
        return _segment_file(self.folder, self.number, "jsonl")

    def read_block(self) -> AnchorBlock:
        """Map the embeddings into memory; only for a segment with anchors."""
        assert self.dims is not None
        return read_block(_segment_file(self.folder, self.number, "safetensors"), self.kept, self.dims, self.dtype)

    def read_lines(self) -> list[bytes]:
        """Read the records, one canonical line each, with its newline."""
        return self.lines_file.read_bytes().splitlines(keepends=True) if self.kept else []

    def read_rejects(self) -> list[Reject]:
        """Read the rejected rows."""
        return _parse_rejects(self._read_fields())

    def read_source_rows(self) -> Int64:
        """Read the source row of each anchor, in order; a row with several anchors is repeated."""
        return np.array(self._read_fields().items("rows"), np.int64)

    def _read_fields(self) -> JsonFields:
        path = _segment_file(self.folder, self.number, "json")
        return load_checksummed(read_small_file(path), str(path))


def write_segment(
    segment: JournalSegment,
    records: Sequence[PairRecord],
    rows: Sequence[int],
    vectors: Mapping[Side, Float32],
    rejects: Sequence[Reject],
) -> None:
    """Write a segment; it is complete once its last file exists. Raises BadEmbedding, OutOfSpace."""
    content: dict[str, Any] = {"dims": segment.dims, "block": None, "lines": None}
    if segment.dims is not None:
        stored = {side: cast_embeddings(values, segment.dtype) for side, values in vectors.items()}
        block = build_block(stored, hash_records(records))
        block_file = _segment_file(segment.folder, segment.number, "safetensors")
        size = block_file_size(segment.kept, segment.dims, segment.dtype)
        atomic_write(block_file, lambda path: write_block(path, block, segment.dtype), size)
        atomic_write_bytes(segment.lines_file, b"".join(serialize_record(record) + b"\n" for record in records))
        for kind, file in (("block", block_file), ("lines", segment.lines_file)):
            sha256, size = hash_file(file)
            content[kind] = {"sha256": sha256, "size": size}
    fields = {
        "first_row": segment.first_row,
        "next_row": segment.next_row,
        "kept": segment.kept,
        "rows": list(rows),
        "rejects": [reject_fields(reject) for reject in rejects],
        **content,
    }
    atomic_write_bytes(_segment_file(segment.folder, segment.number, "json"), dump_checksummed(fields))


def read_segment(folder: Path, number: int, dtype: str, *, check: bool = True) -> JournalSegment | None:
    """Read a segment and `check` every byte of it; return None after the last one. Raises IntegrityError."""
    path = _segment_file(folder, number, "json")
    if not path.is_symlink() and not path.exists():
        return None
    fields = load_checksummed(read_small_file(path), str(path))
    dims: dict[Side, int] | None = None
    if not fields.missing("dims"):
        known = fields.nested("dims")
        dims = {side: known.integer(side, 1) for side in SIDES if not known.missing(side)}
        for kind, suffix in (("block", "safetensors"), ("lines", "jsonl")) if check else ():
            entry = fields.nested(kind)
            check_file_content(_segment_file(folder, number, suffix), entry.sha256("sha256"), entry.integer("size"))
    rows = fields.integer("first_row"), fields.integer("next_row")
    return JournalSegment(folder, number, *rows, fields.integer("kept"), len(_parse_rejects(fields)), dims, dtype)


def list_segment_files(segment: JournalSegment) -> set[str]:
    """Return the names of the files of a segment."""
    return {_segment_file(segment.folder, segment.number, suffix).name for suffix in ("json", "jsonl", "safetensors")}


def _segment_file(folder: Path, number: int, suffix: str) -> Path:
    return folder / f"{number:06d}.{suffix}"


def _parse_rejects(fields: JsonFields) -> list[Reject]:
    return [parse_reject(each) for each in fields.nested_each("rejects")]
