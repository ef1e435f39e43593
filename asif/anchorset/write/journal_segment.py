"""Segments: the durable pieces of a build in progress, each covering some rows of the source.

A segment is `<number>.safetensors` (a block), `<number>.jsonl` (the pairs, one canonical record a line) and, written
last, `<number>.json`: which rows it covers, which of them were rejected, and the sha256 of the other two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset.format.atomic_io import check_content, hash_file, put_bytes, read_small, replace_file
from asif.anchorset.format.blocks import Block, block_size, cast, make_block, read_block, write_block
from asif.anchorset.format.checksummed_json import Fields, seal, unseal
from asif.anchorset.format.row_hash import hash_rows, record_line
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import SIDES, Float32, Int64, Side


@dataclass(frozen=True)
class Segment:
    """Find a segment: source rows `first_row` up to `next_row`, which gave `kept` anchors; `dims` None if none."""

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
        """Return where the records lie, one a line."""
        return _file(self.folder, self.number, "jsonl")

    def block(self) -> Block:
        """Map the embeddings; only where `kept` is above zero."""
        assert self.dims is not None
        return read_block(_file(self.folder, self.number, "safetensors"), self.kept, self.dims, self.dtype)

    def lines(self) -> list[bytes]:
        """Read the records, one canonical line each, with its newline."""
        return self.lines_file.read_bytes().splitlines(keepends=True) if self.kept else []

    def rejects(self) -> list[Reject]:
        """Read the rejected rows."""
        return _read_rejects(self._record())

    def kept_rows(self) -> Int64:
        """Return the source row of each kept pair, in order; a row whose captions are anchors each comes repeatedly."""
        return np.array(self._record().items("rows"), np.int64)

    def _record(self) -> Fields:
        record = _file(self.folder, self.number, "json")
        return unseal(read_small(record), str(record))


def write_segment(
    segment: Segment,
    records: Sequence[PairRecord],
    rows: Sequence[int],
    image: Float32,
    text: Float32,
    rejects: Sequence[Reject],
) -> None:
    """Write a segment; it counts once its last file is there. Raises BadEmbedding, OutOfSpace."""
    sides: dict[str, Any] = {"dims": segment.dims, "block": None, "lines": None}
    if segment.dims is not None:
        block = make_block(cast(image, segment.dtype), cast(text, segment.dtype), hash_rows(records))
        place = _file(segment.folder, segment.number, "safetensors")
        size = block_size(segment.kept, segment.dims, segment.dtype)
        replace_file(place, lambda path: write_block(path, block, segment.dtype), size)
        put_bytes(segment.lines_file, b"".join(record_line(record) + b"\n" for record in records))
        for kind, file in (("block", place), ("lines", segment.lines_file)):
            sha256, size = hash_file(file)
            sides[kind] = {"sha256": sha256, "size": size}
    fields = {
        "first_row": segment.first_row,
        "next_row": segment.next_row,
        "kept": segment.kept,
        "rows": list(rows),
        "rejects": [{"row": reject.row, "id": reject.id, "reason": reject.reason} for reject in rejects],
        **sides,
    }
    put_bytes(_file(segment.folder, segment.number, "json"), seal(fields))


def read_segment(folder: Path, number: int, dtype: str) -> Segment | None:
    """Read a segment back, every byte checked; None after the last one. Raises IntegrityError."""
    record = _file(folder, number, "json")
    if not record.is_symlink() and not record.exists():
        return None
    fields = unseal(read_small(record), str(record))
    dims: dict[Side, int] | None = None
    if not fields.missing("dims"):
        dims = {side: fields.within("dims").whole(side, 1) for side in SIDES}
        for kind, suffix in (("block", "safetensors"), ("lines", "jsonl")):
            entry = fields.within(kind)
            check_content(_file(folder, number, suffix), entry.sha256("sha256"), entry.whole("size"))
    rows = fields.whole("first_row"), fields.whole("next_row")
    return Segment(folder, number, *rows, fields.whole("kept"), len(_read_rejects(fields)), dims, dtype)


def segment_files(segment: Segment) -> set[str]:
    """Return the names of a segment's files."""
    return {_file(segment.folder, segment.number, suffix).name for suffix in ("json", "jsonl", "safetensors")}


def _file(folder: Path, number: int, suffix: str) -> Path:
    return folder / f"{number:06d}.{suffix}"


def _read_rejects(fields: Fields) -> list[Reject]:
    found = fields.within_each("rejects")
    return [
        Reject(one.whole("row"), None if one.missing("id") else one.text("id"), one.text("reason")) for one in found
    ]
