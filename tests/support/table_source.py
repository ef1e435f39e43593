"""A table in memory, whose ids are at hand: rows of one pair may be apart in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asif.pairs import Pair, PairSource, Reject
from asif.pairs.columns import Columns
from asif.vectors import Int64


@dataclass(frozen=True)
class TableSource(PairSource):
    """Give rows from a list."""

    items: tuple[Pair | Reject, ...]

    @classmethod
    def of(cls, *items: Pair | Reject) -> TableSource:
        return cls(Path("rows"), "rows", Columns(), (), (), None, items)

    @property
    def rows(self) -> int:
        return len(self.items)

    def hash_ids(self, rows: int) -> Int64 | None:
        return np.array([hash(item.id or item.row) for item in self.items[:rows]], np.int64)

    def read(self, start: int = 0) -> Iterator[Pair | Reject]:
        yield from self.items[start:]
