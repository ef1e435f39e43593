"""A finding of an audit: which anchors it is about, what is told of them, and which may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asif.anchorset import AnchorSet
from asif.evaluate.audit.pair_index import plain_captions
from asif.pairs import PairRecord
from asif.vectors import Int64

LISTED = 1_000  # entries of a finding that are told one by one
MEMBERS = 20  # anchors of one entry that are named
NONE: Int64 = np.empty(0, np.int64)


@dataclass(frozen=True)
class Entry:
    """Hold one line of a finding: a group of anchors, or one anchor, with its figures.

    `each` has figures for every one of `rows`, `beside` further anchors by name of what they are to these. `caption` is
    the place, among the plain captions of the first of them, of the one that they share.
    """

    rows: Sequence[int]
    figures: Mapping[str, Any] = field(default_factory=dict)
    each: Sequence[Mapping[str, Any]] = ()
    beside: Mapping[str, Sequence[int]] = field(default_factory=dict)
    caption: int | None = None


@dataclass(frozen=True)
class Finding:
    """Hold what one check came to.

    `rows` are all anchors it is about, ascending, `removable` those to remove for it; `entries` the most telling ones,
    at most LISTED of `total`; `rule` says when an anchor is one of them, `notes` what else has to be known.
    """

    kind: str
    rule: str
    rows: Int64 = field(default_factory=NONE.copy)
    removable: Int64 = field(default_factory=NONE.copy)
    entries: Sequence[Entry] = ()
    total: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def grouped(kind: str, rule: str, groups: Sequence[Int64], tell: Any, notes: tuple[str, ...] = ()) -> Finding:
    """Make a finding of groups of rows, each ascending: the largest first; all but the first of each may go.

    `tell` makes the entry of a group; it is asked for the listed ones alone.
    """
    ordered = sorted(groups, key=lambda group: (-len(group), int(group[0])))
    rows = np.unique(np.concatenate([NONE, *ordered]))
    spare = np.unique(np.concatenate([NONE, *(group[1:] for group in ordered)]))
    return Finding(kind, rule, rows, spare, [tell(group) for group in ordered[:LISTED]], len(ordered), {}, notes)


def classes(numbers: Int64) -> list[Int64]:
    """Return the rows that share each number, where two or more do, ascending.

    >>> [rows.tolist() for rows in classes(np.array([7, 5, 7, 6, 5]))]
    [[1, 4], [0, 2]]
    """
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [rows for rows in np.split(order, cuts) if len(rows) > 1]


def told(finding: Finding, anchors: AnchorSet) -> list[dict[str, Any]]:
    """Return the listed entries as JSON keeps them, with the names and captions of their anchors."""
    named = {row for each in finding.entries for row in each.rows[:MEMBERS]}
    named |= {row for each in finding.entries for rows in each.beside.values() for row in rows}
    rows = sorted(named)
    records = dict(zip(rows, anchors.records(rows), strict=True))
    entries = []
    for each in finding.entries:
        figures = each.each or [{} for _ in each.rows]
        pairs = [{**described(records[row]), **more} for row, more in zip(each.rows[:MEMBERS], figures, strict=False)]
        beside = {name: [described(records[row]) for row in rows] for name, rows in each.beside.items()}
        said = {} if each.caption is None else {"caption": plain_captions(records[each.rows[0]])[each.caption]}
        entries.append({"count": len(each.rows), **said, **each.figures, "pairs": pairs, **beside})
    return entries


def described(record: PairRecord) -> dict[str, Any]:
    """Return what is told of an anchor."""
    return {
        "id": record.id,
        "captions": list(record.captions),
        "source": record.source,
        "licence": record.licence,
        "image_sha256": record.image_sha256,
    }
