"""An audit as one HTML page: what was found, the most harmful first, with thumbnails; captions are never markup."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from asif.report.audit_entries import Pictures, entries, pairs_of
from asif.report.audit_words import ADVICE, TITLES, figures_of
from asif.report.markup import document, facts, paragraph, table
from asif.report.table import Table

Results = Mapping[str, Any]
SHOWN = 50  # entries of each finding
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


def audit_page(results: Results, pictures: Pictures) -> str:
    """Write an audit as a page that needs nothing else; `pictures` are those of `shown_images`."""
    findings = results["findings"]
    body = "".join(
        (
            top(results),
            summary(results),
            *(section(results, finding, pictures) for finding in findings),
            used(results),
            origins(results, "sources", "source"),
            origins(results, "licences", "licence"),
            how(results),
        )
    )
    return document(f"Audit of {results['anchors']['name']}", body)


def shown_images(results: Results) -> set[str]:
    """Return the sha256 of the images that the page shows."""
    shown = [entry for finding in results["findings"] for entry in finding["listed"][:SHOWN]]
    return {pair["image_sha256"] for entry in shown for pair in pairs_of(entry)}


def top(results: Results) -> str:
    """Write what was audited."""
    anchors = results["anchors"]
    encoders = " + ".join(anchors["encoders"].values())
    about = f"{anchors['version']}, {anchors['count']:,} anchors, {encoders}, {results['created'][:10]}"
    how = results["how"]
    asked = (
        f"A seeded sample: {how['asked']:,} of {anchors['count']:,} anchors were asked about, against all. Near "
        "duplicates, disagreement and use are those of the sample; exact copies are all there are."
    )
    sampled = f'<div class="verdict">{paragraph(asked)}</div>' if how["sampled"] else ""
    return f"<h1>Audit of {escape(anchors['name'])}</h1>{paragraph(about, 'soft')}{sampled}"


def summary(results: Results) -> str:
    """Write one row for each finding, with a link to it."""
    rows = "".join(
        f"<tr{'' if each['anchors'] else ' class=none'}>"
        f'<td><a href="#{each["kind"]}">{escape(TITLES[each["kind"]])}</a></td>'
        f"<td>{amount(each)}</td><td>{share(each)}</td>"
        f'<td class="text">{code(each["command"])}</td></tr>'
        for each in results["findings"]
    )
    head = '<tr><th>finding</th><th>anchors</th><th>share</th><th class="text">to act on it</th></tr>'
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def amount(finding: Results) -> str:
    """Write how many anchors a finding is about."""
    return f"{finding['anchors']:,}" if finding["anchors"] else "none"


def share(finding: Results) -> str:
    """Write the share of all anchors."""
    return f"{100 * finding['share']:.2f} %" if finding["anchors"] else ""


def code(command: str | None) -> str:
    """Write a command."""
    return f"<code>{escape(command)}</code>" if command else ""


def section(results: Results, finding: Results, pictures: Pictures) -> str:
    """Write one finding."""
    kind = finding["kind"]
    parts = [
        f'<h2 id="{kind}">{escape(TITLES[kind])}: {amount(finding)}</h2>',
        paragraph(finding["rule"], "soft"),
        paragraph(" ".join(figures_of(results, finding)), "soft"),
        *(f'<div class="verdict trained">{paragraph(note)}</div>' for note in finding["notes"]),
    ]
    if finding["anchors"]:
        parts += [
            paragraph(ADVICE[kind]) if finding["command"] else "",
            f"<p>{code(finding['command'])}</p>" if finding["command"] else "",
            entries(finding, SHOWN, pictures),
        ]
    return "".join(parts)


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
