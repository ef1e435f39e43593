"""The wins of two methods on one data set: queries by who answers them rightly, classes, and single queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asif.vectors import Side


@dataclass(frozen=True)
class CorrectedMethod:
    """Name a method and its hubness correction, `none` for without."""

    method: str
    hubness: str


@dataclass(frozen=True)
class WinCounts:
    """Count the queries that both of two methods answer rightly, only one of them, and neither."""

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def total(self) -> int:
        return self.both + self.first_only + self.second_only + self.neither


@dataclass(frozen=True)
class ClassAccuracies:
    """Hold two methods' accuracies on the images of one class."""

    label: str
    images: int
    first: float
    second: float

    @property
    def lead(self) -> float:
        """Return by how much the first method is better."""
        return float(self.first - self.second)


@dataclass(frozen=True)
class QueryRanks:
    """Hold the ranks, from 1, at which two methods place the best relevant candidate of one query."""

    side: Side
    id: str
    text: str | None
    first_rank: int
    second_rank: int

    @property
    def ratio(self) -> float:
        """Return how many times further down the worse method ranks the candidate."""
        low, high = sorted((self.first_rank, self.second_rank))
        return float(high / low)


@dataclass(frozen=True)
class Wins:
    """Hold what the best training-free method and the best trained one each win on one data set, from one sample."""

    dataset: str
    pairs: int
    seed: int
    first: CorrectedMethod
    second: CorrectedMethod
    counts: WinCounts
    classes: tuple[ClassAccuracies, ...] = ()
    queries: tuple[QueryRanks, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Wins:
        """Read the JSON object."""
        parts = {
            "first": CorrectedMethod(**value["first"]),
            "second": CorrectedMethod(**value["second"]),
            "counts": WinCounts(**value["counts"]),
            "classes": tuple(ClassAccuracies(**each) for each in value["classes"]),
            "queries": tuple(QueryRanks(**each) for each in value["queries"]),
        }
        return cls(**{**value, **parts})
