"""The journal of a build by several workers: finished shards, each in a folder of segments, until they are published.

    <plan>/shards.json               the plan: input files with their hashes, and the shards
    <plan>/attempts/<shard>-<id>/    segments that a worker is writing
    <plan>/done/<shard>/             a finished shard: its segments, and `shard.json`, which was written last
    <plan>/marks/                    what rows workers are at, see `building.sharded.marks`

An attempt becomes a finished shard by a rename, which the first attempt wins. Shards need not be written in order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asif.anchorset.format.atomic_io import (
    atomic_write_bytes,
    fsync_path,
    make_folder,
    read_small_file,
    translate_write_errors,
)
from asif.anchorset.format.checksummed_json import load_checksummed
from asif.anchorset.write.journal import Journal
from asif.anchorset.write.journal_segment import JournalSegment, read_segment, write_segment
from asif.errors import IntegrityError
from asif.pairs.pair import Reject
from asif.vectors import dump_checksummed

PLAN_FILE, SHARD_FILE = "shards.json", "shard.json"
_INNER = ("attempts", "done", "marks")


@dataclass(frozen=True)
class FinishedShard:
    """Hold a finished shard: `segments` for source rows `first_row` up to `next_row`; `about` is what its worker says.

    `kept` anchors and `rejected` rows came of it.
    """

    name: str
    first_row: int
    next_row: int
    segments: int
    kept: int
    rejected: int
    about: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Serialise, with a checksum."""
        return dump_checksummed({**vars(self), "about": dict(self.about)})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> FinishedShard:
        """Read what `to_bytes` wrote; raises IntegrityError."""
        fields = load_checksummed(data, where)
        rows = fields.integer("first_row"), fields.integer("next_row")
        counts = fields.integer("segments"), fields.integer("kept"), fields.integer("rejected")
        return cls(fields.text("name"), *rows, *counts, fields.mapping("about"))


class ShardAttempt(Journal):
    """Collect the segments of one shard in a folder of its own, from source row `first_row` on.

    The folder must not exist, and its parent must: a worker of a build that is over cannot begin it again. Rows are
    appended and read as in a journal; `commit` ends it.
    """

    def __init__(self, folder: Path, first_row: int, dtype: str) -> None:
        self.dtype = dtype
        self._folder, self._first_row = folder, first_row
        self._segments: list[JournalSegment] = []
        with translate_write_errors(folder, 4096):
            os.mkdir(folder, 0o700)

    @property
    def path(self) -> Path:
        """Return the folder."""
        return self._folder

    @property
    def next_row(self) -> int:
        """Return the first source row not yet covered."""
        return self._segments[-1].next_row if self._segments else self._first_row

    def describe(self, name: str, about: Mapping[str, Any]) -> FinishedShard:
        """Return what was written, as a finished shard, and write that as the last file."""
        count = len(self._segments)
        shard = FinishedShard(name, self._first_row, self.next_row, count, self.kept, self.rejected, about)
        atomic_write_bytes(self._folder / SHARD_FILE, shard.to_bytes())
        return shard

    def commit(self, name: str, target: Path, about: Mapping[str, Any]) -> FinishedShard:
        """Make the attempt the finished shard `target`; if another one was first, drop this one and return that."""
        shard = self.describe(name, about)
        return shard if move_shard(self._folder, target) else read_shard(target)

    def _check_open(self) -> None:
        pass

    def close(self) -> None:
        """Do nothing: an attempt has no lock."""


def move_shard(attempt: Path, target: Path) -> bool:
    """Rename the folder of an attempt to that of its shard, durably; if that is there, remove the attempt instead."""
    try:
        os.rename(attempt, target)
    except OSError:
        if not (target / SHARD_FILE).exists():
            with translate_write_errors(target, 4096):
                raise
        shutil.rmtree(attempt)
        return False
    fsync_path(target.parent)
    return True


def read_shard(folder: Path) -> FinishedShard:
    """Read the description of a finished shard; raises IntegrityError."""
    path = folder / SHARD_FILE
    return FinishedShard.from_bytes(read_small_file(path), str(path))


class ShardJournal(Journal):
    """Hold the finished shards of a build by several workers, and publish them as one version.

    `plan` is everything that decides the outcome but the content of the input, which `keep_plan` compares. Locked while
    open; raises Busy.
    """

    def _resume(self, plan: bytes) -> list[JournalSegment]:
        """Remove what attempts of an earlier run have left."""
        for name in _INNER:
            if name != "done":
                shutil.rmtree(self._folder / name, ignore_errors=True)
            make_folder(self._folder / name)
        (self._folder / "pid").write_text(str(os.getpid()))
        return []

    def __enter__(self) -> ShardJournal:
        return self

    @property
    def path(self) -> Path:
        """Return the folder."""
        return self._folder

    @property
    def name(self) -> str:
        """Return a name of the build: that of its set, and a hash of all that decides the outcome."""
        return f"{self._set.path.name}/{self._folder.name}"

    def keep_plan(self, data: bytes) -> bytes:
        """Keep a plan, unless an earlier run has kept one; return the one that is kept."""
        path = self.path / PLAN_FILE
        if not path.exists():
            atomic_write_bytes(path, data)
        return read_small_file(path, limit=1 << 30)

    def find_shard(self, name: str) -> FinishedShard | None:
        """Return a shard that an earlier run has finished, after a check of every byte; a damaged one is removed."""
        folder = self.path / "done" / name
        if not folder.exists():
            return None
        try:
            shard = read_shard(folder)
            if len(self._list_segments(shard, check=True)) == shard.segments:
                return shard
        except IntegrityError:
            pass
        shutil.rmtree(folder)
        return None

    def _list_segments(self, shard: FinishedShard, *, check: bool = False) -> list[JournalSegment]:
        folder = self.path / "done" / shard.name
        found = (read_segment(folder, number, self.dtype, check=check) for number in range(shard.segments))
        return [segment for segment in found if segment is not None]

    def collect(self, shards: Sequence[FinishedShard]) -> None:
        """Take the segments of all shards, in the order of their rows, as those of the build.

        Raises IntegrityError unless they cover all rows from 0 on once.
        """
        self._segments = []
        for shard in shards:
            segments = self._list_segments(shard)
            rows = [segments[0].first_row, *(segment.next_row for segment in segments)] if segments else []
            if shard.first_row != self.next_row or len(segments) != shard.segments or rows != sorted(rows):
                raise IntegrityError(
                    f"the shard {shard.name} has {len(segments)} segments from row {shard.first_row:,}",
                    f"{shard.segments} segments from row {self.next_row:,}",
                    "run the same command again with --fresh",
                )
            self._segments += segments

    def reject_later(self, rejects: Sequence[Reject]) -> None:
        """Add rejects of rows that workers took to be joined to another row, which was rejected elsewhere."""
        segment = JournalSegment(self.path, 0, self.next_row, self.next_row, 0, len(rejects), None, self.dtype)
        write_segment(segment, [], [], {}, rejects)
        self._segments.append(segment)

    def read_shard_rejects(self, shard: FinishedShard) -> list[Reject]:
        """Read the rejects of one shard."""
        return [reject for segment in self._list_segments(shard) for reject in segment.read_rejects()]
