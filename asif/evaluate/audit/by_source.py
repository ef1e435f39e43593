"""Anchors and findings counted by source, or by licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.evaluate.audit.findings import MAX_ENTRIES, AuditFinding
from asif.vectors import Int64


@dataclass(frozen=True)
class OriginCount:
    """Hold the anchors of one source or licence (None: without one), and those of each kind of finding."""

    name: str | None
    anchors: int
    found: Mapping[str, int]


@dataclass(frozen=True)
class OriginCounts:
    """Hold the counts of the largest origins, of `total`, and how many anchors are `missing` one."""

    total: int
    missing: int
    rows: tuple[OriginCount, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        rows = [{"name": row.name, "anchors": row.anchors, "found": dict(row.found)} for row in self.rows]
        return {"total": self.total, "missing": self.missing, "rows": rows}


def count_by_origin(numbers: Int64, names: Sequence[str | None], findings: Sequence[AuditFinding]) -> OriginCounts:
    """Count the anchors of each source or licence, and those of each finding: the largest MAX_ENTRIES, descending.

    `numbers` [n] are the positions in `names`. Anchors without an origin are a row whose `name` is None.
    """
    width = len(names)
    anchors = np.bincount(numbers, minlength=width)
    found = {each.kind: np.bincount(numbers[each.rows], minlength=width) for each in findings}
    order = sorted(range(width), key=lambda at: (-int(anchors[at]), names[at] or ""))
    rows = tuple(
        OriginCount(names[at], int(anchors[at]), {kind: int(counts[at]) for kind, counts in found.items()})
        for at in order[:MAX_ENTRIES]
    )
    return OriginCounts(width, next((row.anchors for row in rows if row.name is None), 0), rows)
