"""The journal: a build in progress, kept so that it can be killed at any moment and taken up again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.atomic_io import claim, make_folder, put_bytes, remove_folder, writing
from asif.anchorset.format.blocks import DTYPES
from asif.anchorset.format.folder import SetFolder, refuse_link
from asif.anchorset.format.manifest import EncoderInfo
from asif.anchorset.format.row_hash import Dedup
from asif.anchorset.write.journal_segment import Segment, read_segment, segment_files, write_segment
from asif.anchorset.write.publish import Publication, publish_segments
from asif.errors import Busy, IntegrityError, UsageError
from asif.pairs.pair import PairRecord, Reject
from asif.vectors import Float32, Side, canonical_json

_log = logging.getLogger(__name__)


class Journal:
    """Collect a build's anchors on disk, segment by segment, until they are published.

    The journal is found again by its plan, all that decides the outcome (input, encoders, `dtype`, captions, limit);
    it is locked while open. `resumed` tells whether it held segments of an earlier run. Raises Busy while
    another process runs the same build.
    """

    def __init__(self, folder: SetFolder, plan: Mapping[str, Any]) -> None:
        self.dtype: str = check_choice("dtype", plan["dtype"], tuple(DTYPES))
        self._set = folder
        canonical = canonical_json(dict(plan))
        plan12 = hashlib.sha256(canonical).hexdigest()[:12]
        self._folder = folder.journal / plan12
        self._lock_file = folder.journal / f"{plan12}.lock"
        folder.check_links()
        refuse_link(self._folder)
        folder.aliases()  # a damaged set is better refused now than after hours of work
        make_folder(folder.journal)
        self._lock = claim(self._lock_file, self._busy)
        try:
            self._segments = self._take_up(canonical)
        except BaseException:
            self.close()
            raise
        self.resumed = bool(self._segments)

    def _busy(self) -> Busy:
        owner = self._folder / "pid"
        pid = owner.read_text() if owner.is_file() else "unknown"
        return Busy(
            f"another build of {self._set.path.name!r} from the same input is running (pid {pid})",
            "one build of a plan at a time",
            "wait for it, or stop it; what it has done is kept",
        )

    def _take_up(self, plan: bytes) -> list[Segment]:
        """Read the segments of an earlier run up to the first damaged one, and remove all else."""
        plan_file = self._folder / "plan.json"
        if self._folder.exists() and not (plan_file.is_file() and plan_file.read_bytes() == plan):
            shutil.rmtree(self._folder)
        make_folder(self._folder)
        segments = self._read_segments()
        known = {"plan.json"}.union(*(segment_files(segment) for segment in segments))
        for file in self._folder.iterdir():
            if file.name not in known:
                file.unlink()
        with writing(self._folder, len(plan)):
            (self._folder / "pid").write_text(str(os.getpid()))
        if not plan_file.exists():
            put_bytes(plan_file, plan)
        return segments

    def _read_segments(self) -> list[Segment]:
        segments: list[Segment] = []
        try:
            while (segment := read_segment(self._folder, len(segments), self.dtype)) is not None:
                if segment.first_row != (segments[-1].next_row if segments else 0):
                    break
                segments.append(segment)
        except IntegrityError as error:
            _log.warning("%s; from source row %d on the build is done again", error.came, _end(segments))
        return segments

    @property
    def next_row(self) -> int:
        """Return the first source row not yet covered."""
        return _end(self._segments)

    @property
    def kept(self) -> int:
        """Count the rows kept so far, duplicates included."""
        return sum(segment.kept for segment in self._segments)

    @property
    def rejected(self) -> int:
        """Count the rows rejected so far; duplicates are found when publishing."""
        return sum(segment.rejected for segment in self._segments)

    def rejects(self) -> Iterator[Reject]:
        """Yield the rows rejected so far, in source order; duplicates are found when publishing."""
        for segment in self._segments:
            yield from segment.rejects()

    def ids(self) -> Iterator[str]:
        """Yield the ids kept so far, in source order."""
        for segment in self._segments:
            yield from (json.loads(line)["id"] for line in segment.lines())

    def append(
        self,
        records: Sequence[PairRecord],
        image: Float32,
        text: Float32,
        rejects: Sequence[Reject],
        next_row: int,
        rows: Sequence[int] | None = None,
    ) -> None:
        """Add the source rows from `self.next_row` up to `next_row`, durably.

        Each of those rows is either in `rejects` or, in source order, in `records`, `image` [n, di] and
        `text` [n, dt]; n may be 0. `rows` names the source row of each record where one row gives several.
        Raises BadEmbedding for vectors that the dtype cannot hold, OutOfSpace.
        """
        self._check_open()
        dims: dict[Side, int] = {"image": image.shape[-1], "text": text.shape[-1]}
        if not len(records) == len(image) == len(text):
            raise ValueError(f"{len(records)} records, {len(image)} image and {len(text)} text embeddings")
        rejected = {reject.row for reject in rejects}
        if rows is None:
            rows = [row for row in range(self.next_row, next_row) if row not in rejected]
        self._check_rows(rows, [reject.row for reject in rejects], len(records), next_row)
        self._check_dims(dims if records else None)
        segment = Segment(
            self._folder,
            len(self._segments),
            self.next_row,
            next_row,
            len(records),
            len(rejects),
            dims if records else None,
            self.dtype,
        )
        write_segment(segment, records, rows, image, text, rejects)
        self._segments.append(segment)

    def _check_rows(self, rows: Sequence[int], rejected: Sequence[int], records: int, next_row: int) -> None:
        """Hold the caller to `in = kept + rejected`: every row of the range comes, on one side only."""
        covered = sorted(set(rows) | set(rejected)) == list(range(self.next_row, next_row))
        once = len(set(rejected)) == len(rejected) and not set(rows) & set(rejected)
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
        dedup: Dedup,
        profiles: Mapping[str, Any] | None = None,
    ) -> AnchorSet:
        """Make the next version of the set from all segments, point `current` at it, and remove the journal.

        Which pairs are kept does not depend on their order, see `rows.resolve`. A version that was already written
        in the same words, by a run that was killed before its end, is taken as it is. Memory: one block, and about
        250 bytes for each pair. Raises InputRefused when no pair is left (and removes the journal), OutOfSpace.
        """
        self._check_open()
        if dtype != self.dtype:
            raise ValueError(f"published as {dtype}, but planned as {self.dtype}")
        check_choice("dedup", dedup, ("exact", "keep"))
        encoders: dict[Side, EncoderInfo] = {"image": image, "text": text}
        publication = Publication(encoders, dtype, captions, operation, asif_version, dedup, profiles or {})
        opened = publish_segments(self._set, self._segments, publication, self._remove)
        self.close()
        return opened

    def discard(self) -> None:
        """Remove the journal and what it holds."""
        self._check_open()
        self._remove()
        self.close()

    def _remove(self) -> None:
        if self._folder.exists():
            remove_folder(self._folder)

    def close(self) -> None:
        """Release the lock; what was appended is kept."""
        if self._lock.is_locked:
            if not self._folder.exists():
                self._lock_file.unlink(missing_ok=True)  # filelock sees that a file it waited for was unlinked
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


def check_choice(what: str, value: Any, known: tuple[str, ...]) -> str:
    """Return value if it is one of `known`; raises UsageError."""
    if value not in known:
        raise UsageError(f"the {what} {value!a}", f"one of: {', '.join(known)}", "choose one of these")
    return str(value)


def _end(segments: list[Segment]) -> int:
    return segments[-1].next_row if segments else 0


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or gone: both are fine
        folder.rmdir()
