"""The wins of two methods on one data set, as the page shows them: shares of queries, classes, and single queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asif.evaluate.comparison.wins import ClassAccuracies, CorrectedMethod, QueryRanks, Wins
from asif.report.table import Table

_SHOWN_CLASSES = 12  # of either method, the largest differences
_SHOWN_EXAMPLES = 8
_DIRECTIONS = {"image": "image → caption", "text": "caption → image"}


@dataclass(frozen=True)
class ShareSegment:
    """Hold one part of the bar of all queries: its CSS class, its name, the number of queries, and their per cent."""

    style: str
    name: str
    count: int
    percent: float


@dataclass(frozen=True)
class ClassBar:
    """Hold one class's bar: its label, whether the first method leads, its width in per cent, and its figures."""

    label: str
    first_leads: bool
    width: float
    figures: str


@dataclass(frozen=True)
class WinsSection:
    """Hold what the page shows of one record of wins; `bars_note` is empty if no classes were compared."""

    first: str
    second: str
    about: str
    segments: tuple[ShareSegment, ...]
    bars_note: str
    bars: tuple[ClassBar, ...]
    examples: tuple[tuple[str, Table], ...]


def build_wins_section(wins: Wins) -> WinsSection:
    """Prepare a record of wins for the page; `examples` are tables by the method that is far ahead in them."""
    first, second = wins.first.method, wins.second.method
    methods = " and ".join(f"{each.method} ({_describe_correction(each)})" for each in (wins.first, wins.second))
    examples = []
    for name, sign in ((first, 1), (second, -1)):
        ahead = [query for query in wins.queries if sign * (query.second_rank - query.first_rank) > 0]
        if ahead:
            examples.append((name, _build_example_table(ahead, first, second)))
    bars = _build_bars(wins.classes)
    return WinsSection(
        first=first,
        second=second,
        about=f"{methods}, fitted on the same {wins.pairs:,} pairs, seed {wins.seed}.",
        segments=_build_segments(wins),
        bars_note=_describe_bars(wins, len(bars)),
        bars=bars,
        examples=tuple(examples),
    )


def _describe_correction(method: CorrectedMethod) -> str:
    """Write the hubness correction of a method."""
    return "no hubness correction" if method.hubness == "none" else method.hubness


def _build_segments(wins: Wins) -> tuple[ShareSegment, ...]:
    """Divide all queries: answered rightly by both methods, by one of them, by neither; nothing for no queries."""
    counts, total = wins.counts, wins.counts.total
    if not total:
        return ()
    named = (
        ("both", "both", counts.both),
        ("first", f"{wins.first.method} alone", counts.first_only),
        ("second", f"{wins.second.method} alone", counts.second_only),
        ("neither", "neither", counts.neither),
    )
    return tuple(ShareSegment(style, name, count, 100 * count / total) for style, name, count in named)


def _build_bars(classes: Sequence[ClassAccuracies]) -> tuple[ClassBar, ...]:
    """Return the bars of the classes with the largest differences, the first method's lead descending."""
    ordered = sorted((each for each in classes if each.first != each.second), key=lambda each: each.lead, reverse=True)
    few = len(ordered) <= 2 * _SHOWN_CLASSES
    shown = ordered if few else ordered[:_SHOWN_CLASSES] + ordered[-_SHOWN_CLASSES:]
    widest = max((abs(each.lead) for each in shown), default=1.0)
    return tuple(
        ClassBar(
            label=each.label,
            first_leads=each.lead > 0,
            width=50 * abs(each.lead) / widest,
            figures=f"{100 * each.second:.0f} : {100 * each.first:.0f} ({each.images:,})",
        )
        for each in shown
    )


def _describe_bars(wins: Wins, shown: int) -> str:
    """Write which classes the bars show."""
    total = len(wins.classes)
    if not total:
        return ""
    left_out = f"{shown} of {total} classes, the largest differences. " if shown < total else ""
    methods = f"{wins.second.method} and {wins.first.method}"
    return f"{left_out}Accuracy of {methods} in %, and the number of images."


def _build_example_table(queries: Sequence[QueryRanks], first: str, second: str) -> Table:
    """List queries with the rank of the best relevant candidate by both methods, the largest ratios first."""
    rows = [
        (query.text or query.id, _DIRECTIONS[query.side], f"{query.first_rank:,}", f"{query.second_rank:,}")
        for query in sorted(queries, key=lambda query: -query.ratio)[:_SHOWN_EXAMPLES]
    ]
    return Table("examples", ("query", "", f"rank by {first}", f"rank by {second}"), rows)
