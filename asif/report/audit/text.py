"""The texts of an audit: titles of findings, advice, and sentences about their figures."""

from __future__ import annotations

from asif.evaluate.audit.findings import AuditFinding, DisagreementFigures
from asif.evaluate.audit.result import AuditResult
from asif.evaluate.audit.usage import AnchorUsage
from asif.vectors import Side

FINDING_TITLES = {
    "disagreement": "Image and caption disagree",
    "same_pair": "The same pair under several ids",
    "same_image": "The same image with different captions",
    "same_embedding": "Different files, the same embedding",
    "near_image": "Near duplicates",
    "hub": "Used by far too many queries",
    "never_used": "Never used",
    "shared_caption": "Captions shared by many images",
}
FINDING_ADVICE = {
    "disagreement": "Look at them: most are wrong, some are only unusual. Remove the wrong ones.",
    "same_pair": "Nothing is lost with them: the first of each stays.",
    "same_image": "The command keeps the first of each; asif anchors update can give it all the captions.",
    "same_embedding": "The command keeps the first of each group.",
    "near_image": "Look at them; the command keeps the first of each group.",
    "hub": "Look at them: blank, blurred or generic ones can go.",
    "never_used": "They cost memory and time and do not change results for such queries.",
    "shared_caption": "The command removes pairs that have no caption of their own, except the first of each.",
}


def name_ids_file(kind: str) -> str:
    """Return the name of the file with the ids of a finding.

    >>> name_ids_file("same_pair")
    'same-pair.txt'
    """
    return f"{kind.replace('_', '-')}.txt"


def format_count(finding: AuditFinding) -> str:
    """Format how many anchors a finding is about.

    >>> format_count(AuditFinding("hub", "…"))
    'none'
    """
    return f"{len(finding.rows):,}" if len(finding.rows) else "none"


def format_share(finding: AuditFinding, anchors: int) -> str:
    """Format the share of all anchors that a finding is about, empty for none."""
    return f"{100 * len(finding.rows) / anchors:.2f} %" if len(finding.rows) else ""


def describe_figures(result: AuditResult, finding: AuditFinding) -> list[str]:
    """Describe the figures of a finding as a whole, in sentences."""
    if finding.figures is not None and finding.figures.judged:
        return _describe_disagreement(finding.figures)
    if finding.kind in ("hub", "never_used"):
        return [_describe_usage(side, usage, finding.kind) for side, usage in result.usage.items()]
    return []


def _describe_disagreement(figures: DisagreementFigures) -> list[str]:
    sentences = [
        f"{figures.judged:,} pairs were judged. They share {figures.shared_on_average:.1f} of {figures.k} neighbours "
        f"on average, pairs put together at random {figures.random_shared_on_average:.1f}.",
        f"Of pairs put together at random {100 * figures.random_share:.0f} % share none: about this share of the wrong "
        "pairs is found, the others are not.",
    ]
    if None not in figures.typical.values():
        sentences.append(
            f"Likeness counts standard deviations above likeness to anybody: {figures.typical['image']:.1f} (image) "
            f"and {figures.typical['text']:.1f} (caption) for pairs that agree, about 0 for unrelated ones."
        )
    return sentences


def _describe_usage(side: Side, usage: AnchorUsage, kind: str) -> str:
    start = f"{side.capitalize()} side: {usage.queries:,} queries, {usage.k:,} anchors each;"
    if kind == "never_used":
        return f"{start} {usage.unused:,} unused, {usage.unused_by_chance:,.1f} would be with even use."
    return (
        f"{start} an anchor is used by {usage.mean:,.1f} on average, by {usage.most:,} at most; "
        f"skewness {usage.skewness:.2f} (0: all used equally), a hub from {usage.hub_from:,}."
    )
