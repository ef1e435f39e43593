"""An audit as one HTML page: its findings, the most harmful first, with thumbnails; captions are never markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asif.evaluate.audit.findings import AuditFinding
from asif.evaluate.audit.result import AuditResult
from asif.modality import find_modalities, reword
from asif.report.audit.context import build_histogram, build_origin_table, describe_method, describe_queries
from asif.report.audit.entries import (
    EntryView,
    Layout,
    Thumbnails,
    build_entry_view,
    find_layout,
    list_shown_rows,
)
from asif.report.audit.text import FINDING_ADVICE, FINDING_TITLES, describe_figures, format_count, format_share
from asif.report.html import render
from asif.vectors import SIDES

ENTRIES_SHOWN = 50
"""Entries of each finding that the page shows."""


@dataclass(frozen=True)
class FindingSection:
    """Hold the section of one finding: texts, the command that acts on it, and the first entries; `more` are left."""

    kind: str
    title: str
    count: str
    share: str
    rule: str
    figures: Sequence[str]
    notes: Sequence[str]
    advice: str
    command: str | None
    layout: Layout
    entries: Sequence[EntryView]
    more: int


def render_audit_page(result: AuditResult, thumbnails: Thumbnails) -> str:
    """Render an audit as a self-contained page; `thumbnails` are those of `collect_shown_images`."""
    anchors = result.anchors
    return render(
        "audit.html.jinja",
        title=f"Audit of {anchors.name}",
        anchors=anchors,
        encoders=" + ".join(anchors.encoder_spec(side) for side in SIDES),
        date=result.created[:10],
        method=result.method,
        sections=[_build_section(result, finding, thumbnails) for finding in result.findings],
        usage=result.usage,
        modalities=find_modalities(anchors),
        histograms={side: build_histogram(usage) for side, usage in result.usage.items()},
        queries=describe_queries(result),
        origins=[
            build_origin_table(result, result.sources, "source"),
            build_origin_table(result, result.licences, "licence"),
        ],
        method_facts=describe_method(result),
    )


def collect_shown_images(result: AuditResult) -> set[str]:
    """Return the sha256 of the images that the page shows."""
    return {
        result.records[row].image_sha256
        for finding in result.findings
        for entry in finding.entries[:ENTRIES_SHOWN]
        for row in list_shown_rows(entry)
    }


def _build_section(result: AuditResult, finding: AuditFinding, thumbnails: Thumbnails) -> FindingSection:
    shown = finding.entries[:ENTRIES_SHOWN]
    return FindingSection(
        kind=finding.kind,
        title=reword(FINDING_TITLES[finding.kind], result.modality),
        count=format_count(finding),
        share=format_share(finding, result.anchors.count),
        rule=finding.rule,
        figures=[reword(text, result.modality) for text in describe_figures(result, finding)],
        notes=finding.notes,
        advice=reword(FINDING_ADVICE[finding.kind], result.modality),
        command=finding.command,
        layout=find_layout(finding),
        entries=[build_entry_view(finding, entry, result.records, thumbnails, result.modality) for entry in shown],
        more=finding.total - len(shown),
    )
