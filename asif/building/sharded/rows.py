"""The rows of a shard: where it begins and ends, and what a worker reads of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from asif.pairs import Pair, PairSource, Place, Reject
from asif.pairs.columns import Columns
from asif.pairs.parquet import ParquetSource

QUARANTINED = "killed its worker {} times"


def align_row(source: PairSource, row: int, rows: int) -> int:
    """Return the first row from `row` on whose id is not that of the row before: a pair of several rows stays whole."""
    if not 0 < row < rows:
        return row
    ids = _iter_ids(source, row - 1)
    before = next(ids)
    while before is not None and row < rows and next(ids) == before:
        row += 1
    return row


def _iter_ids(source: PairSource, start: int) -> Iterator[str | None]:
    """Yield the ids of rows, and of parquet read nothing else."""
    if isinstance(source, ParquetSource):
        if source.columns.id is None:
            while True:
                yield None
        source = replace(source, columns=Columns(id=source.columns.id), dims=None)
    yield from (item.id for item in source.read(start))


@dataclass(frozen=True)
class WatchedSource:
    """Read a source, and call `reading` with each row before it is read; rows in `quarantined` become rejects."""

    source: PairSource
    reading: Callable[[int], None]
    quarantined: frozenset[int]
    reason: str

    @property
    def path(self) -> Place:
        return self.source.path

    @property
    def rows(self) -> int:
        return self.source.rows

    @property
    def identity(self) -> str:
        return self.source.identity

    def locate_row(self, row: int) -> tuple[Place, int]:
        """Return the file that a row comes from, and its number in there."""
        return self.source.locate_row(row)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        """Yield one item for each row from `start` on."""
        items = self.source.read(start)
        row = start
        while True:
            self.reading(row)
            item = next(items, None)
            if item is None:
                return
            yield Reject(row, item.id, self.reason) if row in self.quarantined else item
            row += 1
