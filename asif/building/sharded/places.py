"""Where workers leave finished shards, and the driver finds them: a folder that all of them see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from asif.anchorset.write.shard_journal import FinishedShard, ShardAttempt
from asif.building.sharded.marks import Mark, Marker


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
