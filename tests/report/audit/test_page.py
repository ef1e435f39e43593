"""The page of an audit: what it shows, thumbnails, and hostile captions, which stay text."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image
from support.audit_sets import DIMS, NEAR, planted, publish
from support.html_pages import HOSTILE, PageReader
from support.running import Cli

from asif.encoders.images import make_thumbnail
from asif.engine import Engine
from asif.errors import BadImage
from asif.evaluate.audit import FINDING_KINDS, AuditOptions, AuditResult, audit
from asif.evaluate.audit.findings import AnchorUse, AuditFinding, FindingEntry
from asif.evaluate.audit.thumbnails import read_thumbnails
from asif.pairs import PairRecord, open_pairs
from asif.report.audit.entries import MAX_CHARACTERS
from asif.report.audit.page import ENTRIES_SHOWN, collect_shown_images, render_audit_page
from asif.report.audit.text import FINDING_ADVICE, FINDING_TITLES
from asif.report.html import render
from asif.vectors import Embeddings, Fingerprint


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (300, 150)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    home = tmp_path_factory.mktemp("page")
    planted().build(home)
    return audit(Engine("planted", home=home), options=AuditOptions(near=NEAR))


def test_every_finding_has_a_title_and_advice() -> None:
    assert set(FINDING_TITLES) == set(FINDING_ADVICE) == set(FINDING_KINDS)


def test_every_finding_is_shown_in_its_order(result: AuditResult) -> None:
    page = render_audit_page(result, None)
    PageReader(page)
    places = [page.index(f'<h2 id="{kind}">') for kind in FINDING_KINDS]
    assert places == sorted(places)
    for finding in result.findings:
        assert f"{FINDING_TITLES[finding.kind]}: {len(finding.rows)}</h2>" in page
        for entry in finding.entries:
            assert all(escape(result.records[row].id) in page for row in entry.rows)
    likeness = result.findings[0].entries[0].likeness
    assert f"image {likeness['image']:+.2f} · caption {likeness['text']:+.2f}" in page
    assert "(no licence)" in page and "(no source)" in page
    assert "<img" not in page and 'class="frame"' not in page  # no pairs were given


def test_findings_without_anchors_say_none(result: AuditResult) -> None:
    empty = tuple(AuditFinding(finding.kind, finding.rule) for finding in result.findings)
    page = render_audit_page(replace(result, findings=empty), None)
    assert page.count(": none</h2>") == len(FINDING_KINDS) and page.count("<td>none</td>") == len(FINDING_KINDS)
    assert not any(advice in page for advice in FINDING_ADVICE.values())


def test_only_the_first_are_shown_and_the_rest_is_counted(result: AuditResult) -> None:
    count = ENTRIES_SHOWN + 7
    records = {at: PairRecord(f"anchor-{at:04d}", (f"{at}",), f"{at}") for at in range(count)}
    entries = [FindingEntry([at], use={"image": AnchorUse(0, 0.0)}) for at in range(count)]
    finding = AuditFinding("never_used", "a rule", np.arange(5000), entries=entries, total=5000)
    counts = replace(result.sources, rows=())
    shown = replace(result, findings=(finding,), records=records, sources=counts, licences=counts)
    page = render_audit_page(shown, {})
    assert f"anchor-{ENTRIES_SHOWN - 1:04d}" in page and f"anchor-{ENTRIES_SHOWN:04d}" not in page
    assert f"{5000 - ENTRIES_SHOWN:,} more" in page
    assert collect_shown_images(shown) == {str(at) for at in range(ENTRIES_SHOWN)}
    assert page.count('class="frame"') == ENTRIES_SHOWN and "<img" not in page  # an empty frame for each missing one


class HostileAnchors:
    """An anchor set whose names are hostile."""

    name = version = digest = HOSTILE
    dims = MappingProxyType({"image": 1, "text": 1})

    def __init__(self, count: int) -> None:
        self.count = count

    def encoder_spec(self, side: str) -> str:
        return HOSTILE

    def fingerprint(self, side: str) -> Fingerprint:
        return Fingerprint({"model": HOSTILE})


def make_hostile(result: AuditResult) -> Any:
    """Put hostile text in place of all names and captions."""
    findings = tuple(
        replace(each, rule=HOSTILE, notes=(HOSTILE,), ids_file=HOSTILE, command=HOSTILE) for each in result.findings
    )
    record = PairRecord(HOSTILE, (HOSTILE,), HOSTILE, source=HOSTILE, licence=HOSTILE)
    anchors: Any = HostileAnchors(result.anchors.count)
    return replace(
        result,
        anchors=anchors,
        method=replace(result.method, aligner=HOSTILE, probe={"path": HOSTILE, "images": 3}),
        findings=findings,
        records=dict.fromkeys(result.records, record),
        sources=replace(result.sources, rows=tuple(replace(row, name=HOSTILE) for row in result.sources.rows)),
        licences=replace(result.licences, rows=tuple(replace(row, name=HOSTILE) for row in result.licences.rows)),
        command=HOSTILE,
    )


def test_hostile_text_stays_text(result: AuditResult) -> None:
    page = render_audit_page(make_hostile(result), {HOSTILE: b"not a picture"})
    read = PageReader(page)
    assert "script" not in read.elements
    assert not any(name.startswith("on") for name, _ in read.attributes)
    links = [value or "" for name, value in read.attributes if name in ("src", "href")]
    assert links and all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert sum("evil.example" in text for text in read.texts) > 50  # names, captions, rules, notes, commands, origins


def test_long_captions_are_cut(result: AuditResult) -> None:
    records = {row: replace(each, captions=("x" * 5000,)) for row, each in result.records.items()}
    page = render_audit_page(replace(result, records=records), None)
    assert "x" * MAX_CHARACTERS not in page and "x" * (MAX_CHARACTERS - 10) in page


def test_a_sample_is_announced(result: AuditResult) -> None:
    sampled = replace(result, method=replace(result.method, sampled=True, queries=50))
    assert "A seeded sample: 50 of 373" in render_audit_page(sampled, None)
    assert "A seeded sample" not in render_audit_page(result, None)


def test_a_name_that_the_context_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        render("base.html.jinja")


# ---- thumbnails


def test_a_thumbnail_is_a_small_jpeg() -> None:
    small = Image.open(io.BytesIO(make_thumbnail(jpeg((200, 0, 0)), 96)))
    assert (small.format, small.size) == ("JPEG", (96, 48))
    assert np.abs(np.asarray(small).mean(axis=(0, 1)) - (200, 0, 0)).max() < 5
    with pytest.raises(BadImage):
        make_thumbnail(b"no image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write 60 pairs: images of one colour each, one of them no image at all."""
    place = tmp_path / "pairs"
    place.mkdir()
    lines = []
    for at in range(60):
        (place / f"{at}.jpg").write_bytes(b"broken" if at == 5 else jpeg((4 * at, 0, 255 - 4 * at)))
        lines.append(json.dumps({"file_name": f"{at}.jpg", "caption": f"caption {at}"}))
    (place / "metadata.jsonl").write_text("\n".join(lines))
    return place


def sha256(file: Path) -> str:
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_pictures_are_matched_by_their_content(folder: Path) -> None:
    wanted = {sha256(folder / f"{at}.jpg") for at in (3, 5, 7)} | {"nothing"}
    read: list[int] = []
    found = read_thumbnails(open_pairs(folder), wanted, read.append)
    assert set(found) == {sha256(folder / "3.jpg"), sha256(folder / "7.jpg")} and sum(read) == 60
    assert Image.open(io.BytesIO(found[sha256(folder / "7.jpg")])).size == (96, 48)
    read.clear()
    read_thumbnails(open_pairs(folder), {sha256(folder / "3.jpg")}, read.append)
    assert sum(read) == 4  # it stops when it has them all


def test_the_page_of_the_command_has_thumbnails(cli: Cli, home: Path, folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    files = [sha256(folder / f"{min(at, 57)}.jpg") for at in range(60)]  # the last three are one image
    records = [PairRecord(f"p{at:02d}", (f"{at} <b>",), files[at]) for at in range(60)]
    publish(home, "seen", records, *(Embeddings.from_raw(random.standard_normal((60, dim)) + 1).values for dim in DIMS))
    ran = cli("anchors", "audit", "seen", "--out", tmp_path / "out", "--pairs", folder)
    assert ran.code == 0, ran.err
    page = (tmp_path / "out" / "audit.html").read_text()
    expected = base64.b64encode(make_thumbnail((folder / "57.jpg").read_bytes())).decode()
    assert expected in page and "57 &lt;b&gt;" in page and "<b>" not in PageReader(page).texts
    assert (tmp_path / "out" / "same-image.txt").read_text() == "p58\np59\n"
