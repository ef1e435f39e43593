"""The page of an audit: what it shows, thumbnails, and hostile captions, which stay text."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report.test_report import HOSTILE, Read
from support.audit_sets import DIMS, NEAR, planted, publish
from support.running import Cli

from asif.encoders.images import thumbnail
from asif.engine import Engine
from asif.errors import BadImage
from asif.evaluate.audit import KINDS, Terms, audit
from asif.evaluate.audit.thumbnails import pictures
from asif.pairs import PairRecord, open_pairs
from asif.report.audit.entries import LONGEST
from asif.report.audit.page import SHOWN, audit_page, shown_images
from asif.report.audit.text import ADVICE, TITLES
from asif.vectors import Embeddings

Results = dict[str, Any]


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (300, 150)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    home = tmp_path_factory.mktemp("page")
    planted().build(home)
    return audit(Engine("planted", home=home), terms=Terms(near=NEAR)).as_dict()


def test_every_finding_has_words() -> None:
    assert set(TITLES) == set(ADVICE) == set(KINDS)


def test_every_finding_is_shown_in_its_order(results: Results) -> None:
    page = audit_page(results, None)
    Read(page)
    places = [page.index(f'<h2 id="{kind}">') for kind in KINDS]
    assert places == sorted(places)
    for finding in results["findings"]:
        assert f"{TITLES[finding['kind']]}: {finding['anchors']}</h2>" in page
        for entry in finding["listed"]:
            assert all(escape(pair["id"]) in page for pair in entry["pairs"])
    entry = results["findings"][0]["listed"][0]
    assert f"image {entry['image_likeness']:+.2f} · caption {entry['text_likeness']:+.2f}" in page
    assert "(no licence)" in page and "(no source)" in page
    assert "<img" not in page and 'class="frame"' not in page  # no pairs were given


def test_none_is_said_of_each(results: Results) -> None:
    empty = {"anchors": 0, "share": 0.0, "removable": 0, "entries": 0, "listed": [], "notes": []}
    page = audit_page({**results, "findings": [{**finding, **empty} for finding in results["findings"]]}, None)
    assert page.count(": none</h2>") == len(KINDS) and page.count("<td>none</td>") == len(KINDS)
    assert not any(advice in page for advice in ADVICE.values())


def test_only_the_first_are_shown_and_the_rest_is_counted(results: Results) -> None:
    entry = {"count": 1, "image_queries": 0, "image_share": 0.0}
    pair = results["findings"][0]["listed"][0]["pairs"][0]
    many = [
        {**entry, "pairs": [{**pair, "id": f"anchor-{at:04d}", "image_sha256": f"{at}"}]} for at in range(SHOWN + 7)
    ]
    finding = {**results["findings"][KINDS.index("never_used")], "listed": many, "entries": 5000, "anchors": 5000}
    shown = {**results, "findings": [finding]}
    page = audit_page(shown, {})
    assert f"anchor-{SHOWN - 1:04d}" in page and f"anchor-{SHOWN:04d}" not in page
    assert f"{5000 - SHOWN:,} more" in page
    assert shown_images(shown) == {str(at) for at in range(SHOWN)}
    assert page.count('class="frame"') == SHOWN and "<img" not in page  # an empty frame for each that is missing


def hostile(value: Any) -> Any:
    """Put hostile text in place of all names and captions."""
    if isinstance(value, dict):
        texts = ("id", "source", "licence", "caption", "name", "rule", "command", "ids_file", "image", "text", "path")
        return {
            key: HOSTILE
            if key in texts and isinstance(each, str)
            else [HOSTILE]
            if key == "captions"
            else hostile(each)
            for key, each in value.items()
        }
    return [hostile(each) for each in value] if isinstance(value, list) else value


def test_hostile_text_stays_text(results: Results) -> None:
    odd = hostile({**results, "findings": [{**each, "notes": [HOSTILE]} for each in results["findings"]]})
    odd["how"]["probe"] = {"path": HOSTILE, "images": 3}
    for finding in odd["findings"]:
        finding["notes"] = [HOSTILE]
        for entry in finding["listed"]:
            for pair in entry["pairs"]:
                pair["image_sha256"] = HOSTILE
    read = Read(audit_page(odd, {HOSTILE: b"not a picture"}))
    assert "script" not in read.elements
    assert not any(name.startswith("on") for name, _ in read.attributes)
    links = [value or "" for name, value in read.attributes if name in ("src", "href")]
    assert links and all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert any("evil.example" in text for text in read.texts)


def test_long_captions_are_cut(results: Results) -> None:
    long = json.loads(json.dumps(results).replace("caption 10", "caption " + "x" * 5000))
    assert "x" * LONGEST not in audit_page(long, None) and "x" * (LONGEST - 10) in audit_page(long, None)


def test_a_sample_and_notes_are_said(results: Results) -> None:
    how = {**results["how"], "sampled": True, "asked": 50}
    assert "A seeded sample: 50 of 373" in audit_page({**results, "how": how}, None)
    assert "A seeded sample" not in audit_page(results, None)


# ---- thumbnails


def test_a_thumbnail_is_a_small_jpeg() -> None:
    small = Image.open(io.BytesIO(thumbnail(jpeg((200, 0, 0)), 96)))
    assert (small.format, small.size) == ("JPEG", (96, 48))
    assert np.abs(np.asarray(small).mean(axis=(0, 1)) - (200, 0, 0)).max() < 5
    with pytest.raises(BadImage):
        thumbnail(b"no image")


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
    found = pictures(open_pairs(folder), wanted, read.append)
    assert set(found) == {sha256(folder / "3.jpg"), sha256(folder / "7.jpg")} and sum(read) == 60
    assert Image.open(io.BytesIO(found[sha256(folder / "7.jpg")])).size == (96, 48)
    read.clear()
    pictures(open_pairs(folder), {sha256(folder / "3.jpg")}, read.append)
    assert sum(read) == 4  # it stops when it has them all


def test_the_page_of_the_command_has_thumbnails(cli: Cli, home: Path, folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    files = [sha256(folder / f"{min(at, 57)}.jpg") for at in range(60)]  # the last three are one image
    records = [PairRecord(f"p{at:02d}", (f"{at} <b>",), files[at]) for at in range(60)]
    publish(home, "seen", records, *(Embeddings.from_raw(random.standard_normal((60, dim)) + 1).values for dim in DIMS))
    ran = cli("anchors", "audit", "seen", "--out", tmp_path / "out", "--pairs", folder)
    assert ran.code == 0, ran.err
    page = (tmp_path / "out" / "audit.html").read_text()
    expected = base64.b64encode(thumbnail((folder / "57.jpg").read_bytes())).decode()
    assert expected in page and "57 &lt;b&gt;" in page and "<b>" not in Read(page).texts
    assert (tmp_path / "out" / "same-image.txt").read_text() == "p58\np59\n"
