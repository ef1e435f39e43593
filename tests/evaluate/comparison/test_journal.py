"""The journal of a comparison: a line for each run, read again only for the same comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.comparison_results import results

from asif.evaluate.comparison.journal import RunJournal
from asif.evaluate.comparison.method_run import MethodRun


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    """Return two runs as JSON, with ranks."""
    runs = results(["cca", "ape"], counts=[50], seeds=1)["runs"]
    for run in runs:
        for result in run["results"]:
            result["ranks"] = [0, 2, 1]
    return [{key: run[key] for key in ("method", "pairs", "seed", "task")} | run for run in runs]


def test_a_line_holds_the_key_and_the_whole_run(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    journal = RunJournal(tmp_path / "runs.jsonl", ["digest", 60.0])
    for line in lines:
        journal.append(MethodRun.from_json(line))
    written = [json.loads(text) for text in (tmp_path / "runs.jsonl").read_text().splitlines() if text]
    assert [json.dumps(entry["run"]) for entry in written] == [json.dumps(line) for line in lines]
    assert [entry["key"] for entry in written] == [
        {"method": method, "pairs": 50, "seed": 0, "task": "zeroshot_retrieval"} for method in ("cca", "ape")
    ]
    assert {entry["mark"] for entry in written} == {"6fe8753deb465b6b"}  # files of earlier versions have it, too


def test_runs_of_another_comparison_and_cut_lines_are_passed_over(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    path = tmp_path / "runs.jsonl"
    RunJournal(path, ["one"]).append(MethodRun.from_json(lines[0]))
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"mark": "cut of')
    key = ("cca", 50, 0, "zeroshot_retrieval")
    again = RunJournal(path, ["one"]).get(key)  # type: ignore[arg-type]
    assert again is not None and again.to_json() == lines[0]
    assert RunJournal(path, ["one"]).get(("ape", 50, 0, "zeroshot_retrieval")) is None
    assert RunJournal(path, ["other"]).get(key) is None  # type: ignore[arg-type]
    RunJournal(path, ["one"]).append(MethodRun.from_json(lines[1]))
    assert RunJournal(path, ["one"]).get(("ape", 50, 0, "zeroshot_retrieval")) is not None
