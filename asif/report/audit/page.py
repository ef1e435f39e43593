"""An audit as one HTML page: what was found, the most harmful first, with thumbnails; captions are never markup."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from asif.report.audit.context import how, origins, used
from asif.report.audit.entries import Pictures, entries, pairs_of
from asif.report.audit.text import ADVICE, TITLES, figures_of
from asif.report.html import document, paragraph

Results = Mapping[str, Any]
SHOWN = 50  # entries of each finding


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
