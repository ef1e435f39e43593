"""What stands below an audit's findings: how often anchors are used, where they come from, how it was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asif.report.html import facts, paragraph, table
from asif.report.table import Table

Results = Mapping[str, Any]
ORIGINS = 50  # sources and licences
SHORT = {
    "disagreement": "disagree",
    "same_pair": "same pair",
    "same_image": "same image",
    "same_embedding": "same emb.",
    "near_image": "near dup.",
    "hub": "hubs",
    "never_used": "unused",
    "shared_caption": "shared capt.",
}


def used(results: Results) -> str:
    """Draw how many anchors are used how often, on each side."""
    probe = results["how"]["probe"]
    asked = f"those of {probe['path']}" if probe else "each anchor for all others, itself and its copies left out"
    drawn = "".join(
        f"<div><h3>{side.capitalize()} side: skewness {each['skewness']:.2f}</h3>{bars(each['histogram'])}</div>"
        for side, each in results["usage"].items()
    )
    note = paragraph(f"Anchors by the number of queries that use them. Queries: {asked}.", "soft")
    return f"<h2>How often anchors are used</h2>{note}<div class='sides'>{drawn}</div>"


def bars(histogram: list[list[int]]) -> str:
    """Draw a histogram, from the left."""
    widest = max(anchors for _, _, anchors in histogram)
    lines = "".join(
        f'<span>{span(low, high)}</span><div><i class="first" style="width:{100 * anchors / widest:.1f}%"></i></div>'
        f'<span class="figures">{anchors:,}</span>'
        for low, high, anchors in histogram
    )
    return f'<div class="bars histogram">{lines}</div>'


def span(low: int, high: int) -> str:
    """Write a range of counts.

    >>> span(0, 0), span(1, 1), span(1024, 2047)
    ('never', '1', '1,024 to 2,047')
    """
    if low == high:
        return "never" if low == 0 else f"{low:,}"
    return f"{low:,} to {high:,}"


def origins(results: Results, which: str, one: str) -> str:
    """Write what was found in each source, or under each licence."""
    found = results[which]
    kinds = [each["kind"] for each in results["findings"]]
    rows = [
        (
            f"(no {one})" if each["name"] is None else each["name"],
            f"{each['anchors']:,}",
            *(counted(each["found"][kind], each["anchors"]) for kind in kinds),
        )
        for each in found["rows"][:ORIGINS]
    ]
    missing = f"{found['missing']:,} of {results['anchors']['count']:,} anchors have no {one}."
    more = f" {ORIGINS} of {found['total']:,} {which} are shown, the largest." if found["total"] > ORIGINS else ""
    head = (one, "anchors", *(SHORT[kind] for kind in kinds))
    return f"<h2>By {one}</h2>{paragraph(missing + more, 'soft')}{table(Table('', head, rows))}"


def counted(found: int, anchors: int) -> str:
    """Write a number of anchors with its share.

    >>> counted(3, 60), counted(1, 6000), counted(0, 60)
    ('3 (5.0 %)', '1 (<0.1 %)', '-')
    """
    if not found:
        return "-"
    percent = 100 * found / anchors
    return f"{found:,} ({'<0.1' if percent < 0.05 else f'{percent:.1f}'} %)"


def how(results: Results) -> str:
    """Write how it was done, with what is needed to do it again."""
    anchors, done = results["anchors"], results["how"]
    whose = "its profile" if done["k_from"] == "profile" else "asif's default for so many"
    probe = done["probe"]
    named = {
        "anchors": f"{anchors['name']}@{anchors['version']}, {anchors['digest']}",
        **{f"{side} encoder": spec for side, spec in anchors["encoders"].items()},
        "aligner": done["aligner"],
        "anchors kept per input": f"{done['k']:,}, {whose}{'; about the mean of each side' if done['centre'] else ''}",
        "near duplicates": f"a cosine of at least {done['near']:g}",
        "asked": f"{done['asked']:,} anchors, seed {done['seed']}",
        "probe": ", ".join(f"{name} {value}" for name, value in probe.items()) if probe else "",
        "command": results.get("command", ""),
        "asif": results["asif"],
        "made": results["created"],
    }
    note = f"All findings are in audit.json, at most {done['listed']:,} entries of each; all ids in the text files."
    return f"<h2>How it was done</h2>{facts(named)}{paragraph(note, 'soft')}"
