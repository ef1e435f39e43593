"""Findings about the use of anchors: hubs, which far too many queries use, and anchors that no query uses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from asif.evaluate.audit.findings import MAX_ENTRIES, AnchorUse, AuditFinding, FindingEntry
from asif.evaluate.audit.usage import HUB_MIN_QUERIES, HUB_QUERY_SHARE, HUB_TIMES_MEAN, AnchorUsage
from asif.vectors import Int64, Side


def find_hubs(usage: Mapping[Side, AnchorUsage]) -> AuditFinding:
    """Find the anchors that are hubs on either side, the most used first."""
    judged = [each for each in usage.values() if each.inconclusive_because is None]
    rule = (
        f"In the representations of at least {HUB_TIMES_MEAN:g} times as many queries as the mean anchor "
        f"({HUB_MIN_QUERIES} or more), or of {100 * HUB_QUERY_SHARE:.0f} % of all, on either side. They say little "
        "about any of them."
    )
    if not judged:
        return AuditFinding("hub", rule, notes=_build_notes(usage))
    rows = np.flatnonzero(np.any([each.counts >= each.hub_from for each in judged], axis=0))
    shares = np.max([each.counts / each.queries for each in judged], axis=0)
    order = rows[np.argsort(-shares[rows], kind="stable")]
    return AuditFinding("hub", rule, rows, rows, _build_entries(order, usage), len(rows), notes=_build_notes(usage))


def find_never_used(usage: Mapping[Side, AnchorUsage]) -> AuditFinding:
    """Find the anchors that no query uses on any side that has queries; in order of id."""
    rule = "In no query's representation, on either side: none of these queries' results would change without them."
    if notes := _build_notes(usage):
        return AuditFinding("never_used", rule, notes=notes)
    rows = np.flatnonzero(np.all([each.counts == 0 for each in usage.values()], axis=0))
    return AuditFinding("never_used", rule, rows, rows, _build_entries(rows, usage), len(rows))


def _build_notes(usage: Mapping[Side, AnchorUsage]) -> tuple[str, ...]:
    """Write on which sides use is inconclusive, and why."""
    reasons = {side: each.inconclusive_because for side, each in usage.items()}
    return tuple(f"Not judged on the {side} side: {reason}." for side, reason in reasons.items() if reason)


def _build_entries(rows: Int64, usage: Mapping[Side, AnchorUsage]) -> list[FindingEntry]:
    """List the first MAX_ENTRIES anchors with their use on each side."""
    return [
        FindingEntry(
            [int(row)],
            use={
                side: AnchorUse(int(each.counts[row]), float(each.counts[row] / each.queries))
                for side, each in usage.items()
            },
        )
        for row in rows[:MAX_ENTRIES]
    ]
