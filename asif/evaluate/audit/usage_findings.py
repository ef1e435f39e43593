"""Anchors of little use: those that no query uses, and those that far too many do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from asif.evaluate.audit.findings import LISTED, Entry, Finding
from asif.evaluate.audit.usage import FEWEST, NEARLY_ALL, TIMES, Usage
from asif.vectors import Int64, Side


def hub(found: Mapping[Side, Usage]) -> Finding:
    """Find anchors that far too many queries use, on either side; the most used first."""
    judged = {side: each for side, each in found.items() if each.says_nothing is None}
    rule = (
        f"In the representations of at least {TIMES:g} times as many queries as the mean anchor ({FEWEST} or more), or "
        f"of {100 * NEARLY_ALL:.0f} % of all, on either side. They say little about any of them."
    )
    notes = silent(found)
    if not judged:
        return Finding("hub", rule, notes=notes)
    over = np.any([each.counts >= each.hub_from for each in judged.values()], axis=0)
    rows = np.flatnonzero(over)
    shares = np.max([each.counts / each.queries for each in judged.values()], axis=0)
    order = rows[np.argsort(-shares[rows], kind="stable")]
    return Finding("hub", rule, rows, rows, entries(order, found), len(rows), notes=notes)


def never_used(found: Mapping[Side, Usage]) -> Finding:
    """Find anchors that no query uses, on any side that was asked; in order of id."""
    rule = "In no query's representation, on either side: none of these queries' answers would change without them."
    notes = silent(found)
    if any(each.says_nothing for each in found.values()):
        return Finding("never_used", rule, notes=notes)
    rows = np.flatnonzero(np.all([each.counts == 0 for each in found.values()], axis=0))
    return Finding("never_used", rule, rows, rows, entries(rows, found), len(rows), notes=notes)


def silent(found: Mapping[Side, Usage]) -> tuple[str, ...]:
    """Say on which sides use was not judged."""
    return tuple(
        f"Not judged on the {side} side: {each.says_nothing}." for side, each in found.items() if each.says_nothing
    )


def entries(rows: Int64, found: Mapping[Side, Usage]) -> list[Entry]:
    """Tell how often each anchor is used."""
    return [
        Entry([int(row)], {f"{side}_queries": int(each.counts[row]) for side, each in found.items()}
              | {f"{side}_share": float(each.counts[row] / each.queries) for side, each in found.items()})
        for row in rows[:LISTED]
    ]  # fmt: skip
