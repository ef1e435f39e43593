"""From segments to a version: choose the pairs, write blocks, then the manifest, then move the alias."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.atomic_io import put_bytes, put_content
from asif.anchorset.format.blocks import MAX_ROWS, Block, UInt8, block_size, make_block, numpy_dtype, write_block
from asif.anchorset.format.folder import CONTENT, CURRENT, SetFolder
from asif.anchorset.format.manifest import CAPTIONS, BlockEntry, EncoderInfo, FileEntry, Manifest, version_of
from asif.anchorset.format.references import seq_of
from asif.anchorset.format.row_hash import Dedup, as_hashes, content_hash, record_from, resolve, set_digest
from asif.anchorset.write.journal_segment import Segment
from asif.errors import InputRefused, IntegrityError, UsageError
from asif.pairs.pair import PairRecord, Reject
from asif.pairs.records import write_records
from asif.vectors import Int64, Side, canonical_json


@dataclass(frozen=True)
class Publication:
    """Hold what a version says of itself besides its pairs."""

    encoders: Mapping[Side, EncoderInfo]
    dtype: str
    captions: str
    operation: Mapping[str, Any]
    asif: str
    dedup: Dedup
    profiles: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.captions not in CAPTIONS:
            raise UsageError(f"the captions mode {self.captions!r}", f"one of: {', '.join(CAPTIONS)}", "choose one")


@dataclass(frozen=True)
class _Rows:
    """Index the kept rows of all segments: about 250 bytes a row; the rows themselves stay on disk."""

    segments: Sequence[Segment]
    starts: Int64  # [segments + 1], where each segment's rows begin
    ids: list[bytes]
    row_hashes: UInt8  # [n, 32]
    content_hashes: UInt8  # [n, 32]
    source_rows: Int64  # [n]
    ends: Int64  # [n], where each record's line ends in its segment's file

    def places(self, rows: Int64) -> list[tuple[Segment, Int64, Int64]]:
        """Group rows by segment: (segment, positions in `rows`, positions in the segment)."""
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        found = []
        for number in np.unique(owner):
            here = np.flatnonzero(owner == number)
            found.append((self.segments[number], here, rows[here] - self.starts[number]))
        return found

    def block(self, rows: Int64, dims: Mapping[Side, int], dtype: str) -> Block:
        """Gather the embeddings of rows, in their order."""
        image = np.empty((len(rows), dims["image"]), numpy_dtype(dtype))
        text = np.empty((len(rows), dims["text"]), numpy_dtype(dtype))
        for segment, here, there in self.places(rows):
            block = segment.block()
            image[here], text[here] = block.image[there], block.text[there]
        return make_block(image, text, self.row_hashes[rows])

    def records(self, rows: Int64) -> list[PairRecord]:
        """Gather the records of rows, in their order."""
        lines: list[bytes] = [b""] * len(rows)
        for segment, here, there in self.places(rows):
            first = int(self.starts[segment.number])
            with open(segment.lines_file, "rb") as file:
                for at, local in zip(here, there, strict=True):
                    begin = int(self.ends[first + local - 1]) if local else 0
                    file.seek(begin)
                    lines[at] = file.read(int(self.ends[first + local]) - begin)
        return [record_from(json.loads(line)) for line in lines]


def publish_segments(
    folder: SetFolder, segments: Sequence[Segment], what: Publication, finish: Callable[[], None]
) -> AnchorSet:
    """Publish all segments as the next version; `finish` removes the journal once nothing can fail any more."""
    rows = _index(segments)
    resolution = resolve(rows.ids, rows.row_hashes, rows.content_hashes, what.dedup)
    rejects = _all_rejects(rows, resolution.dropped)
    if not len(resolution.kept):
        finish()
        raise _nothing_left(folder, rejects)
    with folder.locked():
        version = settle(folder, _write(folder, rows, resolution.kept, rejects, what))
        finish()
    return AnchorSet(folder, version)


def _index(segments: Sequence[Segment]) -> _Rows:
    ids: list[bytes] = []
    hashes: list[UInt8] = [np.empty((0, 32), np.uint8)]
    contents: list[UInt8] = [np.empty((0, 32), np.uint8)]
    ends: list[Int64] = [np.empty(0, np.int64)]
    sources: list[Int64] = [np.empty(0, np.int64)]
    for segment in segments:
        lines = segment.lines()
        records = [record_from(json.loads(line)) for line in lines]
        if segment.kept:
            hashes.append(segment.block().row_hash.copy())  # a view would keep every segment's file open
        ids += [record.id.encode() for record in records]
        contents.append(as_hashes(content_hash(record) for record in records))
        ends.append(np.cumsum([len(line) for line in lines], dtype=np.int64))
        sources.append(segment.kept_rows())
    return _Rows(
        segments,
        np.cumsum([0, *(segment.kept for segment in segments)]),
        ids,
        np.concatenate(hashes),
        np.concatenate(contents),
        np.concatenate(sources),
        np.concatenate(ends),
    )


def _all_rejects(rows: _Rows, dropped: Mapping[int, str]) -> list[Reject]:
    """Return what was rejected while reading and what was dropped as a duplicate, by source row."""
    read = [reject for segment in rows.segments for reject in segment.rejects()]
    double = [Reject(int(rows.source_rows[row]), rows.ids[row].decode(), why) for row, why in dropped.items()]
    return sorted(read + double, key=lambda reject: reject.row)


def _nothing_left(folder: SetFolder, rejects: Sequence[Reject]) -> InputRefused:
    times = Counter(reject.reason for reject in rejects)
    reasons = sorted(times.items(), key=lambda each: (-each[1], each[0]))[:3]  # whatever the order of the rows
    shown = "; ".join(f"{reason} ({count})" for reason, count in reasons) or "there are none"
    return InputRefused(
        f"none of {len(rejects)} rows can become an anchor of {folder.path.name!r}: {shown}",
        "at least one usable pair",
        "look at the input; nothing was published",
    )


def _write(folder: SetFolder, rows: _Rows, kept: Int64, rejects: Sequence[Reject], what: Publication) -> Manifest:
    """Write all content, and return the manifest of what would be the next version."""
    dims = next(segment.dims for segment in rows.segments if segment.dims is not None)
    blocks = []
    for start in range(0, len(kept), MAX_ROWS):
        some = kept[start : start + MAX_ROWS]
        blocks.append(put_block(folder, rows.block(some, dims, what.dtype), rows.records(some), what.dtype))
    fingerprints = {side: info.fingerprint for side, info in what.encoders.items()}
    newest = max(map(seq_of, folder.versions()), default=0)
    return Manifest(
        name=folder.path.name,
        seq=newest + 1,
        digest=set_digest(what.dtype, what.captions, fingerprints, [rows.row_hashes[kept]]),
        count=len(kept),
        rows_in=len(kept) + len(rejects),
        rejected=len(rejects),
        dims=dict(dims),
        dtype=what.dtype,
        captions=what.captions,
        encoders=dict(what.encoders),
        blocks=tuple(blocks),
        rejects=_write_rejects(folder, rejects) if rejects else None,
        parent=folder.aliases().get(CURRENT),
        operation=dict(what.operation),
        created=utc_now(),
        profiles=dict(what.profiles),
        asif=what.asif,
    )


def put_block(folder: SetFolder, block: Block, records: Sequence[PairRecord], dtype: str) -> BlockEntry:
    """Write a block and its pairs; the caller holds the lock."""
    dims: dict[Side, int] = {"image": block.image.shape[1], "text": block.text.shape[1]}
    size = block_size(len(block), dims, dtype)
    stored = put_content(folder.path / "blocks", CONTENT["blocks"], lambda path: write_block(path, block, dtype), size)
    text = sum(len(record.id) + sum(map(len, record.captions)) + 64 for record in records)
    pairs = put_content(folder.path / "pairs", CONTENT["pairs"], lambda path: write_records(path, records), text)
    return BlockEntry(*stored, len(block), FileEntry(*pairs))


def _write_rejects(folder: SetFolder, rejects: Sequence[Reject]) -> FileEntry:
    lines = [
        canonical_json({"row": reject.row, "id": reject.id, "reason": reject.reason}) + b"\n" for reject in rejects
    ]

    def write(path: Path) -> None:
        with open(path, "xb") as file:
            file.writelines(lines)

    return FileEntry(*put_content(folder.path / "rejects", CONTENT["rejects"], write, sum(map(len, lines))))


def settle(folder: SetFolder, manifest: Manifest) -> str:
    """Write the manifest and move `current`, under the lock; a version that already says the same is taken instead."""
    current = folder.aliases().get(CURRENT)
    version = next((known for known in folder.versions()[-1:] if _says_the_same(folder, known, manifest)), None)
    if version is None:
        version = manifest.version
        put_bytes(folder.version_file(version), manifest.to_bytes())
    if current != version:
        folder.point(CURRENT, version)
    return version


def _says_the_same(folder: SetFolder, version: str, manifest: Manifest) -> bool:
    """Tell whether `version` is what `manifest` would become: written before a kill, or current already.

    A profile that it was given since does not count: building a set again does not take it away.
    """
    if version != version_of(seq_of(version), manifest.digest):
        return False
    try:
        found = folder.manifest(version)
    except IntegrityError:
        return False  # damaged: `verify` tells; the next version stands beside it
    if manifest.parent not in (version, found.parent):
        return False
    when = replace(found, seq=manifest.seq, parent=manifest.parent, created=manifest.created, asif=manifest.asif)
    if found.operation.get("kind") == "tune" and manifest.operation.get("kind") != "tune":
        when = replace(when, operation=manifest.operation, profiles=manifest.profiles)
    return when.to_bytes() == manifest.to_bytes()


def utc_now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
