"""Where anchors come from, and what was found among them: by source, and by licence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asif.evaluate.audit.findings import LISTED, Finding
from asif.vectors import Int64


def by_origin(numbers: Int64, names: Sequence[str | None], findings: Sequence[Finding]) -> dict[str, Any]:
    """Count the anchors of each source or licence, and those of each finding; the largest first, at most LISTED.

    Anchors without one are a row of their own, whose `name` is None.
    """
    width = len(names)
    anchors = np.bincount(numbers, minlength=width)
    found = {each.kind: np.bincount(numbers[each.rows], minlength=width) for each in findings}
    order = sorted(range(width), key=lambda at: (-int(anchors[at]), names[at] or ""))
    rows = [
        {
            "name": names[at],
            "anchors": int(anchors[at]),
            "found": {kind: int(counts[at]) for kind, counts in found.items()},
        }
        for at in order[:LISTED]
    ]
    return {"total": width, "missing": next((row["anchors"] for row in rows if row["name"] is None), 0), "rows": rows}
