"""Options that commands share: labels from a file, templates by name, licences, masks and unions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.classify_command import CHELSEA, classify
from support.running import Cli

from asif.cli.options import DelayedProgress
from asif.prompts import TEMPLATES_BY_NAME


def test_labels_from_a_file(cli: Cli, toys: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffcat\r\ndog \r\nred, and blue\r\n\r\n".encode())
    ran = cli("classify", images / "b.png", "--anchors", "toy", "--labels-file", tmp_path / "labels.txt", "--json")
    assert ran.code == 0
    assert sorted(each["label"] for each in ran.lines[0]["predictions"]) == ["cat", "dog", "red, and blue"]


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("# animals\n\ncat\n\ndog # two words\n", ["cat", "dog # two words"]),
        ("n02123045\tcat | house cat\nn02084071\tdog\n", ["n02123045", "n02084071"]),
        ("0\tcat\n1\tdog\n", ["cat", "dog"]),
        ("id,label\n0,cat\n1,dog\n", ["cat", "dog"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ('{"0": "cat", "1": "dog"}', ["cat", "dog"]),
    ],
)
def test_label_files_of_all_formats(
    cli: Cli, toys: Path, images: Path, tmp_path: Path, content: str, labels: list[str]
) -> None:
    (tmp_path / "labels").write_text(content)
    ran = cli("classify", images / "b.png", "--anchors", "toy", "--labels-file", tmp_path / "labels", "--json")
    assert ran.code == 0
    assert sorted(each["label"] for each in ran.lines[0]["predictions"]) == sorted(labels)


def test_names_of_a_label_file_are_in_the_prompts(cli: Cli, toys: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a1\tcat\nb2\tdog\nc3\towl\n")
    given = ("classify", images / "b.png", "--anchors", "toy", "--json")
    (named,) = cli(*given, "--labels-file", tmp_path / "labels").lines
    (plain,) = cli(*given, "--labels", "cat,dog,owl").lines
    words = {"a1": "cat", "b2": "dog", "c3": "owl"}
    found = [{**each, "label": words[each["label"]]} for each in named["predictions"]]
    assert found == plain["predictions"]


def files(tmp_path: Path) -> dict[str, Path]:
    """Return label files that cannot be used."""
    contents = {
        "empty": b"",
        "numbers": b"# classes\n0\n1\n\n-1.5e3\n",
        "class numbers": b"class 0\nclass_1\nunknown\n",
        "marks": b"cat\n\nnan\n",
        "twice": b"cat\ndog\ncat\n",
        "latin": b"caf\xe9\n",
        "nul": b"a\0b",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {**{name: tmp_path / name for name in contents}, "missing": tmp_path / "missing", "folder": tmp_path}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "is empty"),
        ("numbers", "line 5 of"),
        ("class numbers", "are numbers: class 0, class_1, unknown"),
        ("marks", "is 'nan', which marks images without a label"),
        ("twice", "names 'cat' twice, in line 1 and line 3"),
        ("latin", "can't decode byte 0xe9"),
        ("nul", "contains a NUL character"),
        ("missing", "No such file"),
        ("folder", "Is a directory"),
    ],
)
def test_label_files_that_cannot_be_used(cli: Cli, toys: Path, tmp_path: Path, name: str, message: str) -> None:
    ran = cli("classify", CHELSEA, "--anchors", "toy", "--labels-file", files(tmp_path)[name])
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err and "expected:" in ran.err and "to do:" in ran.err


def test_templates_by_name(cli: Cli, toys: Path, images: Path) -> None:
    (named,) = classify(cli, images / "b.png", "--templates", "aerial", "--json").lines
    written = [option for template in TEMPLATES_BY_NAME["aerial"] for option in ("--template", template)]
    (same,) = classify(cli, images / "b.png", *written, "--json").lines
    assert named["templates"] == same["templates"] == list(TEMPLATES_BY_NAME["aerial"])
    assert named["predictions"] == same["predictions"]


def test_masks_and_unions_answer_as_the_sets_would(cli: Cli, licensed: Path, images: Path) -> None:
    given = ("classify", images / "b.png", "--labels", "cat,dog,owl", "--aligner", "cca", "--json", "--anchors")
    assert cli("anchors", "merge", "toy", "own", "--name", "both").code == 0
    assert cli("anchors", "subset", "both", "--where", "licence = 'CC-BY-4.0'", "--name", "by").code == 0
    for view, name in ((("toy+own",), "both"), (("toy+own", "--license", "cc-by"), "by"), (("by+toy@1+own",), "both")):
        (found,), (expected,) = (cli(*given, *which).lines for which in (view, (name,)))
        assert found["predictions"] == expected["predictions"]
        assert found["anchors"]["digest"] == expected["anchors"]["digest"]
    assert found["anchors"]["name"] == "by+toy+own"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_opened_when_work_begins(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with DelayedProgress("image") as progress:
        assert capsys.readouterr().err == ""
        for done in (0, 8192, 20_000):
            progress(done, 20_000)
        shown = capsys.readouterr().err
    assert ("20000/20000" in shown and "image/s]" in shown and shown.endswith("\n")) == terminal
    assert bool(shown) == terminal and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--license", "cc0"], 2, "licences that it has: CC-BY-4.0 (10), none given (10)"),
        (["--license", "cc-by,ccc"], 2, "no pair of toy@1 has the licence ccc"),
        (["--license", " , "], 2, "no licences"),
        (["--where", "licence = "], 2, "the expression"),
        (["--where", "licence = 'x'"], 3, "no pair of toy@1 was chosen"),
        (["--anchors", "toy+"], 2, "the anchor set name ''"),
        (["--anchors", "toy+missing"], 2, "there is no anchor set 'missing'"),
        (["--aligner", "fusemix", "--license", "cc-by"], 4, "on which it was not trained"),
    ],
)
def test_masks_that_are_refused(
    cli: Cli, licensed: Path, images: Path, options: list[str], code: int, message: str
) -> None:
    ran = classify(cli, images / "b.png", *options)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err and "Traceback" not in ran.err
