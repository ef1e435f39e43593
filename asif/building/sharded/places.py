"""Where workers leave finished shards, and the driver finds them: a folder that all see, or an object store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from asif.anchorset.format.atomic_io import fsync_path, translate_write_errors
from asif.anchorset.write.journal_segment import read_segment
from asif.anchorset.write.shard_journal import FinishedShard, ShardAttempt, move_shard
from asif.building.sharded.marks import Mark, Marker
from asif.pairs.object_store import ObjectFolder


class ShardPlace(Protocol):
    """A place of finished shards; one of two attempts at a shard wins, the other is dropped."""

    def open_attempt(self, attempt: str) -> AbstractContextManager[tuple[Path, Marker]]:
        """Yield the folder that an attempt is to make, and what marks its rows; the folder is removed after errors."""
        ...

    def commit(self, attempt: ShardAttempt, name: str, about: Mapping[str, Any]) -> FinishedShard:
        """Make an attempt the finished shard of that name, unless there is one; return the finished shard."""
        ...

    def read_mark(self, attempt: str) -> Mark | None:
        """Return the rows that a dead worker was at."""
        ...

    def fetch(self, name: str, journal: Path) -> bool:
        """Bring a finished shard into the folder of the journal; tell whether there is one."""
        ...

    def clear(self) -> None:
        """Remove what is outside of the folder of the journal, of this build."""
        ...


@dataclass(frozen=True)
class FolderPlace:
    """Keep finished shards in the folder of the journal, which all machines see at the same path."""

    folder: Path

    @contextmanager
    def open_attempt(self, attempt: str) -> Iterator[tuple[Path, Marker]]:
        """Yield the folder that an attempt is to make, and what marks its rows."""
        path = self.folder / "attempts" / attempt
        try:
            with Marker(self.folder / "marks" / attempt) as marker:
                yield path, marker
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        with suppress(FileNotFoundError):  # the build is over
            (self.folder / "marks" / attempt).unlink()

    def commit(self, attempt: ShardAttempt, name: str, about: Mapping[str, Any]) -> FinishedShard:
        """Rename the folder of an attempt to that of its shard."""
        return attempt.commit(name, self.folder / "done" / name, about)

    def read_mark(self, attempt: str) -> Mark | None:
        """Return the rows that a dead worker was at."""
        return Mark.read(self.folder / "marks" / attempt)

    def fetch(self, name: str, journal: Path) -> bool:
        """Tell whether a shard is finished: it is there already."""
        return (journal / "done" / name).exists()

    def clear(self) -> None:
        """Do nothing: all is in the folder of the journal."""


_MARKED_AHEAD = 2048
"""Rows that a mark in an object store runs ahead of, so that few are written."""


@dataclass(frozen=True)
class ObjectPlace:
    """Keep finished shards in an object store, which has no rename: for workers that share no disk with the driver.

    The segments of an attempt are objects of its own. The attempt that puts the description of the shard first, where
    there is none, has won; the objects of others are orphans, which `clear` sweeps with all else.
    """

    folder: ObjectFolder

    @contextmanager
    def open_attempt(self, attempt: str) -> Iterator[tuple[Path, Marker]]:
        """Yield a folder on the disk of the worker, and what marks rows in the store."""
        with tempfile.TemporaryDirectory(prefix="asif-shard-") as scratch:
            yield Path(scratch) / attempt, _ObjectMarker(self.folder / "marks", attempt)
        (self.folder / "marks").delete(attempt)

    def commit(self, attempt: ShardAttempt, name: str, about: Mapping[str, Any]) -> FinishedShard:
        """Upload the segments, and put the description of the shard if there is none."""
        shard = attempt.describe(name, {**about, "attempt": attempt.path.name})
        for file in sorted(attempt.path.iterdir()):
            self.folder.upload(f"attempts/{attempt.path.name}/{file.name}", file)
        if self.folder.create(f"done/{name}", shard.to_bytes()):
            return shard
        self.folder.delete(f"attempts/{attempt.path.name}")
        return self._find(name) or shard

    def _find(self, name: str) -> FinishedShard | None:
        data = self.folder.read(f"done/{name}")
        return None if data is None else FinishedShard.from_bytes(data, f"{self.folder.place}/done/{name}")

    def read_mark(self, attempt: str) -> Mark | None:
        """Return the rows that a dead worker was at."""
        data = self.folder.read(f"marks/{attempt}")
        return None if data is None else Mark.from_bytes(data)

    def fetch(self, name: str, journal: Path) -> bool:
        """Download a finished shard into the folder of the journal; tell whether there is one."""
        target = journal / "done" / name
        if target.exists():
            return True
        shard = self._find(name)
        if shard is None:
            return False
        folder = journal / "attempts" / f"{name}-download"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        objects = self.folder / "attempts" / str(shard.about["attempt"])
        for file in objects.list_names():
            with translate_write_errors(folder / file, 0):
                objects.download(file, folder / file)
                fsync_path(folder / file)
        fsync_path(folder)
        for number in range(shard.segments):
            read_segment(folder, number, "")  # raises IntegrityError for a byte that was changed on the way
        move_shard(folder, target)
        return True

    def clear(self) -> None:
        """Delete all objects of the build: those of finished shards are in its version now."""
        self.folder.delete()


class _ObjectMarker(Marker):
    """Write marks as an object: row by row, or else so far ahead that thousands of rows cost one request."""

    def __init__(self, folder: ObjectFolder, name: str) -> None:
        self._folder, self._name, self._last = folder, name, Mark(0, 0)

    def write(self, mark: Mark) -> None:
        """Write a mark, unless the last one covers it."""
        last = self._last
        if not mark.row_by_row:
            if not last.row_by_row and last.first <= mark.first and mark.stop <= last.stop:
                return
            mark = Mark(mark.first, mark.stop + _MARKED_AHEAD)
        self._folder.write(self._name, mark.to_bytes())
        self._last = mark

    def __exit__(self, *error: object) -> None:
        """Do nothing: whoever opened the attempt deletes the mark."""


def open_place(journal: Path, exchange: str | None, plan: str) -> ShardPlace:
    """Return the folder of a journal as a place of shards, or the objects of a plan, by its digest, below a URL."""
    return FolderPlace(journal) if exchange is None else ObjectPlace(ObjectFolder.connect(exchange) / plan[:16])
