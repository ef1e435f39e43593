"""Marks: which rows a worker is at, in a small file that outlives it, so that a row which kills its worker is found."""

from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from asif.errors import AsifError

_FORM = struct.Struct("<qqq")
KILLS = 3
"""Deaths of workers at a row alone by which it is quarantined."""
_MOST_DEATHS = 20
"""Deaths in a shard, without a row that is found, after which a build stops."""


@dataclass(frozen=True)
class Mark:
    """Hold the rows from `first` up to `stop` that a worker was at; if it went `row_by_row`, those of one pair."""

    first: int
    stop: int
    row_by_row: bool = False

    @classmethod
    def read(cls, path: Path) -> Mark | None:
        """Read a mark; None if none was written."""
        try:
            return cls.from_bytes(path.read_bytes())
        except (OSError, struct.error):
            return None

    @classmethod
    def from_bytes(cls, data: bytes) -> Mark:
        """Read what `to_bytes` wrote."""
        first, stop, row_by_row = _FORM.unpack(data)
        return cls(first, stop, bool(row_by_row))

    def to_bytes(self) -> bytes:
        """Serialise, to a fixed length."""
        return _FORM.pack(self.first, self.stop, self.row_by_row)


class Marker:
    """Write marks to a file, one over the other; a killed process leaves the last one."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)

    def write(self, mark: Mark) -> None:
        """Write a mark in place of the last one."""
        os.pwrite(self._file, mark.to_bytes(), 0)

    def __enter__(self) -> Marker:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)


@dataclass
class Suspicion:
    """Collect the deaths in one shard, until a row is found that has killed `KILLS` workers, alone.

    After a death, the rows that the worker was at are done one by one by the next one. Workers die for other reasons,
    too: a row that one of them has passed alone is not to blame for earlier deaths.
    """

    window: Mark | None = None
    kills: Counter[Mark] = field(default_factory=Counter)
    deaths: int = 0

    def note_death(self, mark: Mark | None, shard: str) -> Mark | None:
        """Note a death; return the rows to quarantine, if they are found. Raises AsifError after too many deaths."""
        self.deaths += 1
        if mark is not None and mark.row_by_row:
            self.kills = Counter({row: kills for row, kills in self.kills.items() if row.first >= mark.first})
            self.kills[mark] += 1
            if self.kills[mark] == KILLS:
                self.window, self.deaths, self.kills = None, 0, Counter()
                return mark
        elif mark is not None:
            self.window = mark if self.window is None else self._widen(mark)
        if self.deaths >= _MOST_DEATHS:
            raise AsifError(
                f"workers died {self.deaths} times in the shard {shard}, not always at one row",
                "workers that live",
                "look at their memory, or use fewer --actors; then run the same command again",
            )
        return None

    def _widen(self, mark: Mark) -> Mark:
        assert self.window is not None
        return Mark(min(self.window.first, mark.first), max(self.window.stop, mark.stop))
