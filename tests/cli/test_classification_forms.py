"""The forms in which `asif classify` writes what it found: CSV, files, one line per image."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.classify_command import classify
from support.running import Cli

from asif.cli.classification_forms import quote_cell


def without_times(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in answer.items() if key != "timings_ms"} for answer in answers]


def test_csv_has_the_figures_of_the_json(cli: Cli, toys: Path, images: Path) -> None:
    given = ("--top", 2, "--aligner", "procrustes")  # which has negative scores
    ran = classify(cli, images, "--csv", *given)
    answers = classify(cli, images, "--json", *given).lines
    assert (ran.code, ran.err.splitlines()[-1]) == (3, "1 of 4 images could not be read")
    expected: list[dict[str, str]] = []
    for answer in answers:
        empty = {"image": answer["image"], "rank": "", "label": "", "score": "", "error": answer.get("error", "")}
        expected += [empty] * ("error" in answer)
        for rank, found in enumerate(answer.get("predictions", ()), 1):
            expected.append({**empty, "rank": str(rank), "label": found["label"], "score": repr(found["score"])})
    assert list(csv.DictReader(ran.out.splitlines())) == expected
    assert len(expected) == 3 * 2 + 1 and any(float(row["score"] or 0) < 0 for row in expected)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_that_a_spreadsheet_would_execute_get_an_apostrophe(start: str) -> None:
    cell = quote_cell(f"{start}cmd|' /C calc'!A0")
    assert cell.startswith("'") and cell.endswith("cmd|' /C calc'!A0")
    assert "\t" not in cell and "\r" not in cell


def test_a_label_that_is_a_formula(cli: Cli, toys: Path, images: Path, tmp_path: Path) -> None:
    labels = ['=HYPERLINK("http://x","y")', "@SUM(1,2)", 'a "quoted", dog']
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    arguments = ("classify", images / "b.png", "--anchors", "toy", "--labels-file", tmp_path / "labels.txt")
    rows = list(csv.DictReader(cli(*arguments, "--csv").out.splitlines()))
    assert {row["label"] for row in rows} == {f"'{labels[0]}", f"'{labels[1]}", labels[2]}
    answered = cli(*arguments, "--json").lines[0]["predictions"]
    assert {each["label"] for each in answered} == set(labels)
    assert [float(row["score"]) for row in rows] == [each["score"] for each in answered]


def test_csv_has_no_explanations(check_refused: Callable[..., None], images: Path) -> None:
    given = ["classify", str(images / "b.png"), "--labels", "cat,dog", "--anchors", "toy", "--csv"]
    check_refused([*given, "--explain"], 2, "--csv with --json or --explain")
    check_refused([*given, "--json"], 2, "--csv with --json or --explain")


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
def test_a_file_has_what_stdout_would_have(
    cli: Cli, toys: Path, images: Path, tmp_path: Path, form: tuple[str, ...]
) -> None:
    (images / "z.webp").unlink()
    output = tmp_path / "found"
    ran = classify(cli, images, *form, "--output", output)
    assert (ran.code, ran.out, ran.err.splitlines()[-1]) == (0, "", f"written to {output}")
    printed = classify(cli, images, *form or ("--json",)).out
    if "--csv" in form:
        assert output.read_text() == printed
    else:
        written, expected = (map(json.loads, text.splitlines()) for text in (output.read_text(), printed))
        assert without_times(list(written)) == without_times(list(expected))


def test_an_output_is_replaced_only_if_that_is_said(cli: Cli, toys: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.csv"
    output.write_text("mine")
    ran = classify(cli, images / "b.png", "--csv", "--output", output)
    assert (ran.code, output.read_text()) == (2, "mine")
    assert "exists already" in ran.err and "--overwrite" in ran.err
    assert classify(cli, images / "b.png", "--csv", "--output", output, "--overwrite").code == 0
    assert output.read_text().startswith("image,rank,label,score,error\n")
    assert classify(cli, images / "b.png", "--output", tmp_path / "no" / "file").code == 2


def test_an_interrupted_run_leaves_no_output(
    cli: Cli, toys: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("asif.cli.classify.format_as_json", stop)
    before = sorted(tmp_path.iterdir())
    assert classify(cli, images, "--output", tmp_path / "found.jsonl").code == 130
    assert sorted(tmp_path.iterdir()) == before


def test_several_images_are_a_line_each_and_one_is_all_labels(cli: Cli, toys: Path, images: Path) -> None:
    (images / "z.webp").unlink()
    answers = classify(cli, images, "--json").lines
    lines = classify(cli, images).out.splitlines()
    assert len(lines) == 3
    firsts = [answer["predictions"][0] for answer in answers]
    longest = max(len(answer["image"]) for answer in answers)
    for line, answer, first in zip(lines, answers, firsts, strict=True):
        assert line.split() == [answer["image"], first["label"], f"{first['score']:.4f}"]
        assert line.startswith(answer["image"].ljust(min(longest, 60)) + "  ")
    alone = classify(cli, images / "b.png").out.splitlines()
    assert alone == [f"{each['score']:7.4f}  {each['label']}" for each in answers[1]["predictions"]]


@pytest.mark.parametrize("option", [("--explain",), ("--top", 2), ("--where", "id != 'x'")])
def test_the_long_form_of_several_images_is_there_when_it_is_named(
    cli: Cli, toys: Path, images: Path, option: tuple[object, ...]
) -> None:
    (images / "z.webp").unlink()
    out = classify(cli, images, *option).out.splitlines()
    answers = classify(cli, images, *option, "--json").lines
    titles = [out.index(answer["image"]) for answer in answers]
    for title, answer in zip(titles, answers, strict=True):
        found = answer["predictions"]
        assert out[title + 1 : title + 1 + len(found)] == [f"{each['score']:7.4f}  {each['label']}" for each in found]
