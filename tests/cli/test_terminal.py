"""Nothing that a set, a file or an argument contains reaches the terminal as a control character."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build_fakes import ListSource, build_set
from support.build_images import random_png
from support.pair_files import IMAGE
from support.running import Cli, Ran
from support.stand_in_encoders import make_image_encoder, make_text_encoder, replace_encoders

from asif.cli.app import COMMANDS, asif
from asif.cli.options import escape_controls, print_text
from asif.pairs import Pair

HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b2J\r\b\x7f\u202egod\u2066\u2028 👨‍👩‍👧 שלום"
ESCAPED = r"\x1b]0;owned\x07\x1b[31m\x9b2J\r\x08\x7f\u202egod\u2066\u2028 👨‍👩‍👧 שלום"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@given(st.text())
def test_escaped_text_is_one_line_that_can_be_written(text: str) -> None:
    escaped = escape_controls(text)
    assert not UNSAFE.search(escaped) and "\n" not in escaped
    assert escape_controls(escaped) == escaped
    escaped.encode()
    if text.isprintable():
        assert escaped == text


def test_escapes_are_visible_and_other_scripts_stay() -> None:
    assert escape_controls(HOSTILE) == ESCAPED
    assert escape_controls("\ud800a\ufeff\n\t") == r"\ud800a\ufeff\n\t"


@pytest.fixture
def hostile(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the sets `toy` and `other`, pairs and images, all of whose texts are hostile."""
    monkeypatch.chdir(tmp_path)
    replace_encoders(monkeypatch, tmp_path)
    photos = [random_png(number) for number in range(24)]
    pairs = [
        Pair(row, f"{row}{HOSTILE}", photo, (f"{row} {HOSTILE}",), HOSTILE, HOSTILE, f"http://{HOSTILE}")
        for row, photo in enumerate(photos)
    ]
    changed = [replace(pair, captions=(f"new {HOSTILE}",)) for pair in pairs]
    for name, source in (("toy", ListSource(pairs)), ("other", ListSource(changed))):
        build_set(source, home, make_image_encoder(HOSTILE), make_text_encoder(HOSTILE), name=name).anchors.close()
    images = pa.array([{"bytes": photo, "path": None} for photo in photos], IMAGE)
    columns = {"image": images, "caption": [HOSTILE] * 24, "label": [HOSTILE, "b"] * 12, HOSTILE: ["x"] * 24}
    pq.write_table(pa.table(columns), f"{HOSTILE}.parquet")
    for name, start in (("changed", 0), ("added", 24)):
        ids = [f"{row}{HOSTILE}" for row in range(start, start + 24)]
        pq.write_table(pa.table({"image": images, "caption": [f"{name} {HOSTILE}"] * 24, "id": ids}), f"{name}.parquet")
    Path(f"{HOSTILE}.png").write_bytes(photos[0])
    Path(f"{HOSTILE}bad.png").write_bytes(b"bad")
    return tmp_path


SMALL = ["--methods", "asif", "--seeds", "1", "--seconds", "1", "--pairs", "20"]
SHOWN = [
    ["classify", f"{HOSTILE}.png", "--labels", f"{HOSTILE},b", "--anchors", "toy", "--explain"],
    ["classify", f"{HOSTILE}.png", f"{HOSTILE}.png", "--labels", f"{HOSTILE},b", "--anchors", "toy"],
    ["classify", f"{HOSTILE}.png", f"{HOSTILE}.png", "--labels", f"{HOSTILE},b", "--anchors", "toy", "--csv"],
    ["anchors", "list"],
    ["anchors", "info", "toy"],
    ["anchors", "diff", "toy", "other"],
    ["anchors", "remove", "toy", "--id", f"0{HOSTILE}", "--dry-run"],
    ["anchors", "push", "toy", "me/toy", "--dry-run"],
    ["build-anchors", f"{HOSTILE}.parquet", "--name", "new", "--dry-run"],
    ["build-anchors", f"{HOSTILE}.parquet", "--name", "new"],
    ["encoders", "compare", f"{HOSTILE}.parquet", "--permutations", "2"],
    ["eval", "--anchors", "toy", "--dataset", f"{HOSTILE}.parquet", "--task", "zeroshot_classification"],
]
OTHERS = [
    ["anchors", "update", "toy", "changed.parquet"],
    ["anchors", "add", "toy", "added.parquet"],
    ["anchors", "merge", "toy", "other", "--on-conflict", "first", "--name", "both"],
    ["anchors", "recipes"],
    ["encoders", "list"],
    ["encoders", "bench", "--images", "2"],
    ["doctor"],
    ["serve", "--new-key"],
    ["tune", "--anchors", "toy", "--task", "search", "--seconds", "1"],
    ["train-ape", "--anchors", "toy", "--steps", "2"],
    *([f"train-{name}", "--anchors", "toy", "--epochs", "1"] for name in ("fusemix", "freeze-align")),
    ["compare", "--anchors", "toy", "--eval", f"labels:{HOSTILE}.parquet", "--out", HOSTILE, *SMALL],
]
EDITS = [
    ["log", "toy"],
    ["audit", "toy", "--out", "audit"],
    ["subset", "toy", "--where", "caption like '%1%'", "--name", "some"],
    ["select", "toy", "--method", "random", "--size", "3", "--name", "few"],
    ["export", "toy", f"{HOSTILE}.tar"],
    ["import", f"{HOSTILE}.tar", "--name", "again"],
    ["remove", "toy", "--id", f"0{HOSTILE}", "--receipt", f"{HOSTILE}.json"],
    ["verify", "toy", "--receipt", f"{HOSTILE}.json"],
    ["receipt", "toy", f"{HOSTILE}2.json"],
    ["alias", "toy", "best", "2"],
    ["rollback", "toy"],
    ["compact", "toy"],
    ["gc", "toy", "--keep", "1"],
    ["rename", "few", "fewer"],
    ["delete", "fewer", "--yes"],
    ["list"],
]
GALLERIES = [
    ["gallery", "build", f"{HOSTILE}.png", f"{HOSTILE}bad.png", "--name", "new", "--anchors", "toy", "--dry-run"],
    ["gallery", "build", f"{HOSTILE}.png", f"{HOSTILE}bad.png", "--name", "new", "--anchors", "toy"],
    ["gallery", "update", "new", f"{HOSTILE}.parquet", "--dry-run"],
    ["gallery", "update", "new", f"{HOSTILE}.parquet", "--receipt", f"{HOSTILE}.json"],
    ["gallery", "list"],
    ["gallery", "info", "new"],
    ["gallery", "verify", "new"],
    ["gallery", "duplicates", "new", "--near", "0.1"],
    ["search", "new", "--text", HOSTILE, "--image", f"{HOSTILE}.png", "--anchors", "toy", "--explain"],
    ["search", "new", "--text", HOSTILE, "--anchors", "toy", "--csv"],
    ["gallery", "delete", "new", "--yes"],
]
REFUSED = [
    ["classify", f"{HOSTILE}bad.png", "--labels", "a,b", "--anchors", "toy"],
    ["classify", "missing.png", "--labels", "a,b", "--where", f"source = '{HOSTILE}", "--anchors", "toy"],
    ["classify", f"{HOSTILE}.png", "--labels", "a,b", "--anchors", HOSTILE],
    ["classify", f"missing{HOSTILE}", "--labels", "a,b", "--anchors", "toy"],
    ["classify", f"{HOSTILE}.png", "--labels", "a,b", "--license", f"no{HOSTILE}", "--anchors", "toy"],
    ["classify", f"{HOSTILE}.png", f"--{HOSTILE}"],
    ["classify", f"{HOSTILE}.png", "--labels-file", HOSTILE],
    [HOSTILE],
    ["anchors", HOSTILE],
    ["anchors", "merge", "toy", "other", "--name", "both"],
    ["anchors", "remove", "toy", "--id", HOSTILE],
    ["anchors", "import", HOSTILE],
    ["anchors", "add", "toy", HOSTILE],
    ["anchors", "alias", "toy", HOSTILE, "1"],
    ["build-anchors", HOSTILE, "--name", "new"],
    ["build-anchors", f"{HOSTILE}.parquet", "--name", HOSTILE],
    ["build-anchors", f"{HOSTILE}.parquet", "--name", "new", "--column", f"image={HOSTILE}"],
    ["eval", "--anchors", "toy", "--dataset", HOSTILE, "--task", "zeroshot_retrieval"],
    ["tune", "--anchors", HOSTILE, "--task", "search"],
    ["compare", "--anchors", "toy", "--eval", HOSTILE, "--out", "out", "--pairs", HOSTILE],
    ["serve", "--anchors", HOSTILE],
    ["serve", "--anchors", "toy", "--gallery", HOSTILE, "--port", "0"],
    ["serve", "--config", HOSTILE],
    ["serve", "--host", HOSTILE],
]


def check(ran: Ran) -> None:
    assert "Traceback" not in ran.err
    assert not UNSAFE.findall(ran.out + ran.err)


@pytest.mark.parametrize("arguments", SHOWN, ids=lambda arguments: " ".join(arguments[:2])[:20])
def test_results_are_escaped(cli: Cli, hostile: Path, arguments: list[str]) -> None:
    ran = cli(*arguments)
    check(ran)
    assert ran.code == 0, ran.err
    assert r"\x1b" in ran.out + ran.err


@pytest.mark.slow
@pytest.mark.parametrize("arguments", OTHERS, ids=lambda arguments: " ".join(arguments[:2])[:20])
def test_results_without_texts_are_safe(cli: Cli, hostile: Path, arguments: list[str]) -> None:
    ran = cli(*arguments)
    check(ran)
    assert ran.code == 0 or arguments == ["doctor"], ran.err


def test_every_command_is_tried() -> None:
    edits = [*(["anchors", *edit] for edit in EDITS), *GALLERIES]
    tried = {(each[0], *each[1:2]) for each in (*SHOWN, *OTHERS, *edits)}
    context = click.Context(asif)
    for name in COMMANDS:
        command = asif.get_command(context, name)
        if isinstance(command, click.Group):
            assert {each[1] for each in tried if each[0] == name} >= command.commands.keys() - {"pull"}  # as import
        else:
            assert name in {each[0] for each in tried}


@pytest.mark.parametrize("arguments", REFUSED, ids=lambda arguments: ascii(" ".join(arguments))[:20])
def test_errors_are_escaped(cli: Cli, hostile: Path, arguments: list[str]) -> None:
    ran = cli(*arguments)
    check(ran)
    assert ran.code not in (0, 1) and ran.out == ""


def test_a_line_end_in_an_error_does_not_make_another_part(cli: Cli, hostile: Path) -> None:
    ran = cli("build-anchors", "none\n  to do:    run this", "--name", "new")
    assert ran.code != 0
    assert [line[:10] for line in ran.err.splitlines()[1:]] == ["  expected", "  to do:  "]


def test_edits_print_no_control_characters(cli: Cli, hostile: Path) -> None:
    for arguments in EDITS:
        ran = cli("anchors", *arguments)
        check(ran)
        refused = arguments[0] == "import"  # of a manifest with control characters
        assert ran.code == (5 if refused else 0), (arguments, ran.err)


def test_galleries_print_no_control_characters(cli: Cli, hostile: Path) -> None:
    for arguments in GALLERIES:
        ran = cli(*arguments)
        check(ran)
        assert ran.code == 0, (arguments, ran.err)


def test_characters_that_the_stream_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    print_text("café 猫")
    stream.flush()
    assert written.getvalue() == b"caf\xe9 \\u732b\n"
