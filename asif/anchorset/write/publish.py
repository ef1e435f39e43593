"""Publish the segments of a journal as a version: choose the pairs, write blocks, the manifest, then the alias."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.blocks import (
    MAX_BLOCK_ROWS,
    AnchorBlock,
    UInt8,
    build_block,
    numpy_dtype,
)
from asif.anchorset.format.folder import CURRENT_ALIAS, SetFolder
from asif.anchorset.format.kinds import ANCHORS
from asif.anchorset.format.manifest import (
    CAPTIONS_MODES,
    EncoderInfo,
    Manifest,
)
from asif.anchorset.format.row_hash import (
    DedupMode,
    compute_set_digest,
    hash_content,
    parse_record,
    resolve_duplicates,
    stack_hashes,
)
from asif.anchorset.write.journal_segment import JournalSegment
from asif.anchorset.write.version import (
    commit_version,
    current_utc_time,
    next_sequence_number,
    store_block,
    store_rejects,
)
from asif.errors import InputRefused, UsageError
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import Int64, Side


@dataclass(frozen=True)
class VersionDescription:
    """Hold the fields of a version's manifest that do not come from its pairs."""

    encoders: Mapping[Side, EncoderInfo]
    dtype: str
    captions: str
    operation: Mapping[str, Any]
    asif: str
    dedup: DedupMode
    profiles: Mapping[str, Any]
    origin: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.captions not in CAPTIONS_MODES and self.origin is None:
            raise UsageError(
                f"the captions mode {self.captions!r}", f"one of: {', '.join(CAPTIONS_MODES)}", "choose one"
            )


@dataclass(frozen=True)
class _RowIndex:
    """Index the anchors of all segments, about 250 bytes each; records and embeddings stay on disk."""

    segments: Sequence[JournalSegment]
    starts: Int64  # [segments + 1], where each segment's rows begin
    ids: list[bytes]
    row_hashes: UInt8  # [n, 32]
    content_hashes: UInt8  # [n, 32]
    source_rows: Int64  # [n]
    ends: Int64  # [n], where each record's line ends in its segment's file

    def _group_by_segment(self, rows: Int64) -> list[tuple[int, Int64, Int64]]:
        """Group rows by segment: (place in `segments`, positions in `rows`, positions in the segment)."""
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        groups = []
        for number in np.unique(owner):
            here = np.flatnonzero(owner == number)
            groups.append((int(number), here, rows[here] - self.starts[number]))
        return groups

    def read_block(self, rows: Int64, dims: Mapping[Side, int], dtype: str) -> AnchorBlock:
        """Gather the embeddings of rows, in their order."""
        values = {side: np.empty((len(rows), dim), numpy_dtype(dtype)) for side, dim in dims.items()}
        for number, here, there in self._group_by_segment(rows):
            block = self.segments[number].read_block()
            for side in dims:
                values[side][here] = block.side(side)[there]
        return build_block(values, self.row_hashes[rows])

    def read_records(self, rows: Int64) -> list[PairRecord]:
        """Gather the records of rows, in their order."""
        lines: list[bytes] = [b""] * len(rows)
        for number, here, there in self._group_by_segment(rows):
            first = int(self.starts[number])
            with open(self.segments[number].lines_file, "rb") as file:
                for at, local in zip(here, there, strict=True):
                    begin = int(self.ends[first + local - 1]) if local else 0
                    file.seek(begin)
                    lines[at] = file.read(int(self.ends[first + local]) - begin)
        return [parse_record(json.loads(line)) for line in lines]


def publish_segments(
    folder: SetFolder,
    segments: Sequence[JournalSegment],
    description: VersionDescription,
    finish: Callable[[], None],
    check: Callable[[Sequence[Reject]], None],
) -> AnchorSet:
    """Publish all segments as the next version; `finish` removes the journal once nothing can fail any more.

    `check` is called with all rejects before anything is written, and raises if they are too many.
    """
    rows = _index_rows(segments)
    resolution = resolve_duplicates(rows.ids, rows.row_hashes, rows.content_hashes, description.dedup)
    rejects = _collect_rejects(rows, resolution.dropped)
    if not len(resolution.kept):
        finish()
        raise _build_refusal(folder, rejects)
    check(rejects)
    with folder.locked():
        version = commit_version(folder, _write_content(folder, rows, resolution.kept, rejects, description))
        finish()
        return AnchorSet(folder, version)  # under the lock: nobody can delete the version before it is open


def _index_rows(segments: Sequence[JournalSegment]) -> _RowIndex:
    ids: list[bytes] = []
    hashes: list[UInt8] = [np.empty((0, 32), np.uint8)]
    contents: list[UInt8] = [np.empty((0, 32), np.uint8)]
    ends: list[Int64] = [np.empty(0, np.int64)]
    sources: list[Int64] = [np.empty(0, np.int64)]
    for segment in segments:
        lines = segment.read_lines()
        records = [parse_record(json.loads(line)) for line in lines]
        if segment.kept:
            hashes.append(segment.read_block().row_hash.copy())  # a view would keep every segment's file open
        ids += [record.id.encode() for record in records]
        contents.append(stack_hashes(hash_content(record) for record in records))
        ends.append(np.cumsum([len(line) for line in lines], dtype=np.int64))
        sources.append(segment.read_source_rows())
    return _RowIndex(
        segments,
        np.cumsum([0, *(segment.kept for segment in segments)]),
        ids,
        np.concatenate(hashes),
        np.concatenate(contents),
        np.concatenate(sources),
        np.concatenate(ends),
    )


def _collect_rejects(rows: _RowIndex, dropped: Mapping[int, str]) -> list[Reject]:
    """Return the rows rejected while reading and those dropped as duplicates, by source row."""
    read = [reject for segment in rows.segments for reject in segment.read_rejects()]
    duplicates = [Reject(int(rows.source_rows[row]), rows.ids[row].decode(), why) for row, why in dropped.items()]
    return sorted(read + duplicates, key=lambda reject: reject.row)


def _build_refusal(folder: SetFolder, rejects: Sequence[Reject]) -> InputRefused:
    times = Counter(reject.reason for reject in rejects)
    reasons = sorted(times.items(), key=lambda each: (-each[1], each[0]))[:3]  # the same for any order of the rows
    shown = "; ".join(f"{reason} ({count})" for reason, count in reasons) or "there are none"
    return InputRefused(
        f"none of {len(rejects)} rows can become {'an anchor' if folder.kind is ANCHORS else 'an item'} of "
        f"{folder.path.name!r}: {shown}",
        f"at least one usable {folder.kind.items[:-1]}",
        "look at the input; nothing was published",
    )


def _write_content(
    folder: SetFolder, rows: _RowIndex, kept: Int64, rejects: Sequence[Reject], description: VersionDescription
) -> Manifest:
    """Write all content, and return the manifest of the next version."""
    dims = next(segment.dims for segment in rows.segments if segment.dims is not None)
    blocks = []
    for start in range(0, len(kept), MAX_BLOCK_ROWS):
        some = kept[start : start + MAX_BLOCK_ROWS]
        blocks.append(
            store_block(
                folder, rows.read_block(some, dims, description.dtype), rows.read_records(some), description.dtype
            )
        )
    fingerprints = {side: info.fingerprint for side, info in description.encoders.items()}
    return Manifest(
        name=folder.path.name,
        seq=next_sequence_number(folder),
        digest=compute_set_digest(description.dtype, description.captions, fingerprints, [rows.row_hashes[kept]]),
        count=len(kept),
        rows_in=len(kept) + len(rejects),
        rejected=len(rejects),
        dims=dict(dims),
        dtype=description.dtype,
        captions=description.captions,
        encoders=dict(description.encoders),
        blocks=tuple(blocks),
        rejects=store_rejects(folder, rejects) if rejects else None,
        parent=folder.aliases().get(CURRENT_ALIAS),
        operation=dict(description.operation),
        created=current_utc_time(),
        profiles=dict(description.profiles),
        asif=description.asif,
        kind=folder.kind,
        origin=description.origin,
    )
