"""The context of an audit's findings: how often anchors are used, their origins, and how the audit was computed."""

from __future__ import annotations

from dataclasses import dataclass

from asif.evaluate.audit.by_source import OriginCounts
from asif.evaluate.audit.result import AuditResult
from asif.evaluate.audit.usage import AnchorUsage
from asif.modality import find_modalities, reword
from asif.report.table import Table
from asif.version import VERSION

MAX_ORIGINS = 50
"""Sources, or licences, that the page shows."""

_SHORT_TITLES = {
    "disagreement": "disagree",
    "same_pair": "same pair",
    "same_image": "same image",
    "same_embedding": "same emb.",
    "near_image": "near dup.",
    "hub": "hubs",
    "never_used": "unused",
    "shared_caption": "shared capt.",
}


@dataclass(frozen=True)
class HistogramBar:
    """Hold one bar of a histogram: its label, its width in per cent of the widest, and its anchors."""

    label: str
    width: float
    anchors: int


@dataclass(frozen=True)
class OriginTable:
    """Hold a table of findings by source or licence, under its title, with a note."""

    title: str
    note: str
    table: Table


def build_histogram(usage: AnchorUsage) -> list[HistogramBar]:
    """Build the histogram of how often anchors are used."""
    widest = max(anchors for _, _, anchors in usage.histogram)
    return [
        HistogramBar(_format_range(low, high), 100 * anchors / widest, anchors)
        for low, high, anchors in usage.histogram
    ]


def build_origin_table(result: AuditResult, counts: OriginCounts, name: str) -> OriginTable:
    """Build the table of findings by source or licence; `name` is "source" or "licence"."""
    kinds = [finding.kind for finding in result.findings]
    rows = [
        (
            f"(no {name})" if row.name is None else row.name,
            f"{row.anchors:,}",
            *(_format_found(row.found[kind], row.anchors) for kind in kinds),
        )
        for row in counts.rows[:MAX_ORIGINS]
    ]
    note = f"{counts.missing:,} of {result.anchors.count:,} anchors have no {name}."
    if counts.total > MAX_ORIGINS:
        note += f" {MAX_ORIGINS} of {counts.total:,} {name}s are shown, the largest."
    header = (name, "anchors", *(reword(_SHORT_TITLES[kind], result.modality) for kind in kinds))
    return OriginTable(f"By {name}", note, Table("", header, rows))


def describe_queries(result: AuditResult) -> str:
    """Describe the queries by which use is counted."""
    probe = result.method.probe
    return f"those of {probe['path']}" if probe else "each anchor for all others, itself and its copies left out"


def describe_method(result: AuditResult) -> dict[str, str]:
    """Describe how the audit was computed, with what is needed to repeat it."""
    anchors, method = result.anchors, result.method
    k_from = "its profile" if method.k_from == "profile" else "asif's default for this number of anchors"
    return {
        "anchors": f"{anchors.name}@{anchors.version}, {anchors.digest}",
        **{f"{modality} encoder": anchors.encoder_spec(side) for side, modality in find_modalities(anchors).items()},
        "aligner": method.aligner,
        "anchors used per input": f"{method.k:,}, {k_from}{'; about the mean of each side' if method.centre else ''}",
        "near duplicates": f"a cosine of at least {method.near:g}",
        "compared with all": f"{method.queries:,} anchors, seed {method.seed}",
        "probe": ", ".join(f"{name} {value}" for name, value in (method.probe or {}).items()),
        "command": result.command or "",
        "asif": VERSION,
        "created": result.created,
    }


def _format_range(low: int, high: int) -> str:
    """Format a range of numbers of queries.

    >>> _format_range(0, 0), _format_range(1, 1), _format_range(1024, 2047)
    ('never', '1', '1,024 to 2,047')
    """
    if low == high:
        return "never" if low == 0 else f"{low:,}"
    return f"{low:,} to {high:,}"


def _format_found(found: int, anchors: int) -> str:
    """Format how many of the anchors were found, with their share.

    >>> _format_found(3, 60), _format_found(1, 6000), _format_found(0, 60)
    ('3 (5.0 %)', '1 (<0.1 %)', '-')
    """
    if not found:
        return "-"
    percent = 100 * found / anchors
    return f"{found:,} ({'<0.1' if percent < 0.05 else f'{percent:.1f}'} %)"
