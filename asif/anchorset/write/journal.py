"""The journal of a build in progress: the build can be killed at any moment and resumed by the next run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.atomic_io import (
    atomic_write_bytes,
    make_folder,
    remove_folder,
    translate_write_errors,
)
from asif.anchorset.format.blocks import SAFETENSORS_DTYPES
from asif.anchorset.format.folder import SetFolder, refuse_link
from asif.anchorset.format.locks import acquire_lock
from asif.anchorset.format.manifest import NO_CAPTIONS_MODE, EncoderInfo
from asif.anchorset.format.own_store import close_to_others
from asif.anchorset.format.row_hash import DedupMode, parse_record
from asif.anchorset.write.journal_segment import JournalSegment, list_segment_files, read_segment, write_segment
from asif.anchorset.write.publish import VersionDescription, publish_segments
from asif.errors import Busy, IntegrityError, UsageError
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import Float32, Side, canonical_json
from asif.version import VERSION

_log = logging.getLogger(__name__)


class Journal:
    """Collect the anchors of a build on disk, segment by segment, until they are published.

    The journal is identified by its plan: everything that decides the outcome (input, encoders, `dtype`, captions,
    limit). It resumes after the last segment of an earlier run of the same plan, at `next_row`, and is locked while
    open. Raises Busy while another process runs the same build.
    """

    def __init__(self, folder: SetFolder, plan: Mapping[str, Any]) -> None:
        self.dtype: str = _check_choice("dtype", plan["dtype"], tuple(SAFETENSORS_DTYPES))
        self._set = folder
        canonical = canonical_json(dict(plan))
        plan12 = hashlib.sha256(canonical).hexdigest()[:12]
        self._folder = folder.journal / plan12
        self._lock_file = folder.journal / f"{plan12}.lock"
        folder.refuse_symlinks()
        refuse_link(self._folder)
        folder.aliases()  # refuse a damaged set now, not after hours of work
        make_folder(folder.journal)
        self._lock = acquire_lock(self._lock_file, self._busy)
        try:
            with translate_write_errors(self._folder, len(canonical)):
                self._segments = self._resume(canonical)
        except BaseException:
            self.close()
            raise

    def _busy(self) -> Busy:
        owner = self._folder / "pid"
        pid = owner.read_text() if owner.is_file() else "unknown"
        return Busy(
            f"another build of {self._set.path.name!r} from the same input is running (pid {pid})",
            "one build of a plan at a time",
            "wait for it, or stop it; its finished work is saved",
        )

    def _resume(self, plan: bytes) -> list[JournalSegment]:
        """Read the segments of an earlier run up to the first damaged one, and remove everything else."""
        plan_file = self._folder / "plan.json"
        if self._folder.exists() and not (plan_file.is_file() and plan_file.read_bytes() == plan):
            shutil.rmtree(self._folder)
        make_folder(self._folder)
        segments = self._read_segments()
        known = {"plan.json"}.union(*(list_segment_files(segment) for segment in segments))
        for file in self._folder.iterdir():
            if file.name not in known:
                file.unlink()
        (self._folder / "pid").write_text(str(os.getpid()))
        close_to_others(self._folder / "pid")
        if not plan_file.exists():
            atomic_write_bytes(plan_file, plan)
        return segments

    def _read_segments(self) -> list[JournalSegment]:
        segments: list[JournalSegment] = []
        try:
            while (segment := read_segment(self._folder, len(segments), self.dtype)) is not None:
                if segment.first_row != (segments[-1].next_row if segments else 0):
                    break
                segments.append(segment)
        except IntegrityError as error:
            _log.warning("%s; from source row %d on the build is done again", error.came, _last_row(segments))
        return segments

    @property
    def next_row(self) -> int:
        """Return the first source row not yet covered."""
        return _last_row(self._segments)

    @property
    def kept(self) -> int:
        """Count the anchors so far, duplicates included."""
        return sum(segment.kept for segment in self._segments)

    @property
    def rejected(self) -> int:
        """Count the rows rejected so far; `publish` finds the duplicates."""
        return sum(segment.rejected for segment in self._segments)

    @property
    def joined(self) -> int:
        """Count the source rows whose captions are part of another row's pair."""
        kept = sum(len(set(segment.read_source_rows().tolist())) for segment in self._segments)
        return self.next_row - self.rejected - kept

    def rejects(self) -> Iterator[Reject]:
        """Yield the rows rejected so far, in source order; `publish` finds the duplicates."""
        for segment in self._segments:
            yield from segment.read_rejects()

    def source_rows(self) -> Iterator[int]:
        """Yield the source row of each anchor so far, in order."""
        for segment in self._segments:
            yield from segment.read_source_rows().tolist()

    def records(self) -> Iterator[PairRecord]:
        """Yield the records of the anchors so far, in source order."""
        for segment in self._segments:
            yield from (parse_record(json.loads(line)) for line in segment.read_lines())

    def read_vector(self, side: Side, number: int) -> Float32:
        """Return the stored embedding [d] of one side of the anchor with that number, in source order from 0."""
        for segment in self._segments:
            if number < segment.kept:
                return np.asarray(segment.read_block().side(side)[number], np.float32)
            number -= segment.kept
        raise IndexError(number)

    def ids(self) -> Iterator[str]:
        """Yield the ids of the anchors so far, in source order."""
        for segment in self._segments:
            yield from (json.loads(line)["id"] for line in segment.read_lines())

    def append(
        self,
        records: Sequence[PairRecord],
        image: Float32,
        text: Float32,
        rejects: Sequence[Reject],
        next_row: int,
        rows: Sequence[int] | None = None,
        joined: Collection[int] = (),
    ) -> None:
        """Add the source rows from `self.next_row` up to `next_row`, durably.

        Every one of these rows is either in `rejects` or, in source order, in `records`, `image` [n, di] and
        `text` [n, dt]; n may be 0. `rows` gives the source row of each record if one row has several; `joined` are
        rows whose captions are in the record of another row.
        Raises BadEmbedding for vectors that the dtype cannot hold, OutOfSpace.
        """
        self.append_sides(records, {"image": image, "text": text}, rejects, next_row, rows, joined)

    def append_sides(
        self,
        records: Sequence[PairRecord],
        vectors: Mapping[Side, Float32],
        rejects: Sequence[Reject],
        next_row: int,
        rows: Sequence[int] | None = None,
        joined: Collection[int] = (),
    ) -> None:
        """Do what `append` does, with the embeddings [n, d] of each side that the rows have."""
        self._check_open()
        dims: dict[Side, int] = {side: values.shape[-1] for side, values in vectors.items()}
        if any(len(values) != len(records) for values in vectors.values()):
            given = " and ".join(f"{len(values)} {side}" for side, values in vectors.items())
            raise ValueError(f"{len(records)} records, {given} embeddings")
        rejected = {reject.row for reject in rejects}
        if rows is None:
            rows = [row for row in range(self.next_row, next_row) if row not in rejected]
        self._check_rows(rows, [reject.row for reject in rejects], joined, len(records), next_row)
        self._check_dims(dims if records else None)
        segment = JournalSegment(
            self._folder,
            len(self._segments),
            self.next_row,
            next_row,
            len(records),
            len(rejects),
            dims if records else None,
            self.dtype,
        )
        write_segment(segment, records, rows, vectors, rejects)
        self._segments.append(segment)

    def _check_rows(
        self, rows: Sequence[int], rejected: Sequence[int], joined: Collection[int], records: int, next_row: int
    ) -> None:
        """Check that every row of the range is kept, joined or rejected, and only once."""
        others = [*rejected, *joined]
        covered = sorted({*rows, *others}) == list(range(self.next_row, next_row))
        once = len(set(others)) == len(others) and not set(rows) & set(others)
        if len(rows) != records or list(rows) != sorted(rows) or not (covered and once):
            raise ValueError(
                f"{records} records of {len(rows)} rows and {len(rejected)} rejects "
                f"do not cover source rows {self.next_row} up to {next_row}"
            )

    def _check_dims(self, dims: Mapping[Side, int] | None) -> None:
        known = next((segment.dims for segment in self._segments if segment.dims is not None), None)
        if dims is not None and known is not None and dims != known:
            raise ValueError(f"embeddings of {dims} dimensions in a build of {known}")

    def publish(
        self,
        *,
        image: EncoderInfo,
        text: EncoderInfo,
        dtype: str,
        captions: str,
        operation: Mapping[str, Any],
        asif_version: str,
        dedup: DedupMode,
        profiles: Mapping[str, Any] | None = None,
        check: Callable[[Sequence[Reject]], None] = lambda rejects: None,
    ) -> AnchorSet:
        """Make the next version of the set from all segments, point `current` at it, and remove the journal.

        Which pairs are kept does not depend on their order, see `row_hash.resolve_duplicates`. An equal version that
        a killed run already wrote is used as it is. `check` is called with all rejects, duplicates included, before
        anything is written; what it raises leaves the journal as it is. Memory: one block, and about 250 bytes for
        each pair. Raises InputRefused when no pair is left (and removes the journal), OutOfSpace.
        """
        if dtype != self.dtype:
            raise ValueError(f"published as {dtype}, but planned as {self.dtype}")
        _check_choice("dedup", dedup, ("exact", "keep"))
        encoders: dict[Side, EncoderInfo] = {"image": image, "text": text}
        description = VersionDescription(encoders, dtype, captions, operation, asif_version, dedup, profiles or {})
        return self._publish(description, check)

    def publish_items(
        self, encoders: Mapping[Side, EncoderInfo], operation: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> AnchorSet:
        """Make the next version of a gallery, as `publish` does; `origin` says how its items are found."""
        description = VersionDescription(encoders, self.dtype, NO_CAPTIONS_MODE, operation, VERSION, "keep", {}, origin)
        return self._publish(description, lambda rejects: None)

    def _publish(self, description: VersionDescription, check: Callable[[Sequence[Reject]], None]) -> AnchorSet:
        self._check_open()
        published = publish_segments(self._set, self._segments, description, self._remove, check)
        self.close()
        return published

    def discard(self) -> None:
        """Remove the journal and its segments."""
        self._check_open()
        self._remove()
        self.close()

    def _remove(self) -> None:
        if self._folder.exists():
            remove_folder(self._folder)

    def close(self) -> None:
        """Release the lock; appended segments stay on disk."""
        if self._lock.is_locked:
            if not self._folder.exists():
                with suppress(OSError):
                    self._lock_file.unlink()  # filelock sees that a file it waited for was unlinked
            self._lock.release()
            for folder in (self._set.journal, self._set.path):
                _remove_if_empty(folder)

    def _check_open(self) -> None:
        if not self._lock.is_locked:
            raise ValueError("this journal is closed")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def list_plans(folder: SetFolder) -> list[dict[str, Any]]:
    """List the plans of the journals of a set; a journal whose plan cannot be read is left out."""
    plans = []
    for path in sorted(folder.journal.glob("*/plan.json")):
        with suppress(OSError, ValueError, RecursionError):
            plan = json.loads(path.read_bytes())
            plans += [plan] if isinstance(plan, dict) else []
    return plans


def _check_choice(what: str, value: Any, known: tuple[str, ...]) -> str:
    """Return value if it is one of `known`; raises UsageError."""
    if value not in known:
        raise UsageError(f"the {what} {value!a}", f"one of: {', '.join(known)}", "choose one of these")
    return str(value)


def _last_row(segments: list[JournalSegment]) -> int:
    return segments[-1].next_row if segments else 0


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or gone: both are fine
        folder.rmdir()
