"""A finding of an audit: the anchors that one check found, the ones to remove, and the entries that a report lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asif.evaluate.audit.pair_index import normalise_captions
from asif.pairs import PairRecord
from asif.vectors import Int64, Side

MAX_ENTRIES = 1_000
"""Entries that a finding lists."""

MAX_MEMBERS = 20
"""Anchors that an entry names."""

_NO_ROWS: Int64 = np.empty(0, np.int64)


@dataclass(frozen=True)
class MemberCosines:
    """Hold the cosines of an anchor's image and captions to those of the first anchor of its group."""

    image: float
    caption: float


@dataclass(frozen=True)
class AnchorUse:
    """Hold how many queries use an anchor, and their share of all queries."""

    queries: int
    share: float


@dataclass(frozen=True)
class SharedCaption:
    """Hold how many different images share a caption.

    `position` is its place among the normalised captions of the entry's first anchor.
    """

    position: int
    images: int


@dataclass(frozen=True)
class FindingEntry:
    """Hold one line of a finding: a group of anchors, or one anchor, by their rows, with the figures of its check.

    Near duplicates have `cosines`, one for each of `rows` up to MAX_MEMBERS. A pair that disagrees has the `likeness`
    of each side, in standard deviations, and its nearest `neighbours` by side. Hubs and unused anchors have their `use`
    by side, shared captions `shared_caption`.
    """

    rows: Sequence[int]
    cosines: Sequence[MemberCosines] = ()
    likeness: Mapping[Side, float] = field(default_factory=dict)
    neighbours: Mapping[Side, Sequence[int]] = field(default_factory=dict)
    use: Mapping[Side, AnchorUse] = field(default_factory=dict)
    shared_caption: SharedCaption | None = None

    @property
    def named_rows(self) -> list[int]:
        """Return the rows of the anchors that a report names."""
        return [*self.rows[:MAX_MEMBERS], *(row for rows in self.neighbours.values() for row in rows)]

    def caption_text(self, records: Mapping[int, PairRecord]) -> str:
        """Return the shared caption, normalised; empty if the entry is about none."""
        if self.shared_caption is None:
            return ""
        return normalise_captions(records[self.rows[0]])[self.shared_caption.position]

    def to_json(self, records: Mapping[int, PairRecord]) -> dict[str, Any]:
        """Return the entry as a JSON object, with the records of its named rows."""
        pairs = [_record_to_json(records[row]) for row in self.rows[:MAX_MEMBERS]]
        for pair, cosines in zip(pairs, self.cosines, strict=False):
            pair |= {"image_cosine": cosines.image, "caption_cosine": cosines.caption}
        shared = self.shared_caption
        return {
            "count": len(self.rows),
            **({} if shared is None else {"caption": self.caption_text(records), "images": shared.images}),
            **{f"{side}_likeness": likeness for side, likeness in self.likeness.items()},
            **{f"{side}_queries": use.queries for side, use in self.use.items()},
            **{f"{side}_share": use.share for side, use in self.use.items()},
            "pairs": pairs,
            **{
                f"near_{side}": [_record_to_json(records[row]) for row in rows]
                for side, rows in self.neighbours.items()
            },
        }


@dataclass(frozen=True)
class DisagreementFigures:
    """Hold how many of their k neighbours pairs share, on average over the judged ones.

    `random_share` is the share of randomly permuted pairs that share none: an estimate of the recall. `typical` is the
    median likeness, by side, of pairs that agree. Averages are None if there is nothing to average.
    """

    k: int
    judged: int
    shared_on_average: float | None
    random_shared_on_average: float | None
    random_share: float
    typical: Mapping[Side, float | None]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {
            "k": self.k,
            "judged": self.judged,
            "shared_on_average": self.shared_on_average,
            "random_shared_on_average": self.random_shared_on_average,
            "random_share": self.random_share,
            "typical": dict(self.typical),
        }


@dataclass(frozen=True)
class AuditFinding:
    """Hold what one check found.

    `rows` are all anchors it found, ascending, `removable` those to remove, in order of importance. `entries` are the
    first MAX_ENTRIES of `total`, the most harmful first. `rule` describes when an anchor is found, `notes` how far the
    result can be trusted. `ids_file` and `command` are set once the removable ids are written to a file.
    """

    kind: str
    rule: str
    rows: Int64 = field(default_factory=_NO_ROWS.copy)
    removable: Int64 = field(default_factory=_NO_ROWS.copy)
    entries: Sequence[FindingEntry] = ()
    total: int = 0
    figures: DisagreementFigures | None = None
    notes: tuple[str, ...] = ()
    ids_file: str | None = None
    command: str | None = None

    def to_json(self, anchors: int, records: Mapping[int, PairRecord]) -> dict[str, Any]:
        """Return the finding as a JSON object, with its share of `anchors`, and the records of its named rows."""
        return {
            "kind": self.kind,
            "rule": self.rule,
            "anchors": len(self.rows),
            "share": len(self.rows) / anchors,
            "removable": len(self.removable),
            "entries": self.total,
            **(self.figures.to_json() if self.figures else {}),
            "notes": list(self.notes),
            "ids_file": self.ids_file,
            "command": self.command,
            "listed": [each.to_json(records) for each in self.entries],
        }


def build_group_finding(
    kind: str,
    rule: str,
    groups: Sequence[Int64],
    build_entry: Callable[[Int64], FindingEntry] = lambda rows: FindingEntry(rows.tolist()),
    notes: tuple[str, ...] = (),
) -> AuditFinding:
    """Build a finding of groups of ascending rows, the largest first; all but the first of each are removable.

    `build_entry` is called for the listed groups only.
    """
    ordered = sorted(groups, key=lambda group: (-len(group), int(group[0])))
    rows = np.unique(np.concatenate([_NO_ROWS, *ordered]))
    removable = np.unique(np.concatenate([_NO_ROWS, *(group[1:] for group in ordered)]))
    entries = [build_entry(group) for group in ordered[:MAX_ENTRIES]]
    return AuditFinding(kind, rule, rows, removable, entries, len(ordered), notes=notes)


def group_repeats(numbers: Int64) -> list[Int64]:
    """Return the rows of each number that two or more rows have, ascending.

    >>> [rows.tolist() for rows in group_repeats(np.array([7, 5, 7, 6, 5]))]
    [[1, 4], [0, 2]]
    """
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [rows for rows in np.split(order, cuts) if len(rows) > 1]


def _record_to_json(record: PairRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "captions": list(record.captions),
        "source": record.source,
        "licence": record.licence,
        "image_sha256": record.image_sha256,
    }
