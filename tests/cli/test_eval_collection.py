"""`asif eval --collection`: one table, results as of single calls, resumed after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.engine_sets import make_set
from support.labelled_files import benchmark, class_folders, labelled
from support.running import Cli

from asif.cli import eval_collection

TOML = """name = "mine"
about = "some sets"
[[datasets]]
name = "wds/folders"
path = "folders"
task = "zeroshot_classification"
[[datasets]]
name = "wds/table"
path = "table/a.parquet"
task = "zeroshot_classification"
templates = "photo"
columns = { label = "kind" }
shift-of = "wds/folders"
[[datasets]]
name = "wds/search"
path = "wds_search"
task = "zeroshot_retrieval"
[[datasets]]
name = "wds/away"
path = "wds_away"
task = "zeroshot_classification"
[[references]]
name = "one"
figures = { "wds/folders" = 0.6, "wds/table" = 0.3 }
[[references]]
name = "two"
figures = { "wds/folders" = 0.8, "wds/table" = 0.5 }
"""


@pytest.fixture
def file(home: Path, hashing: None, tmp_path: Path) -> Path:
    """Return a collection of three data sets that are there and one that is not."""
    make_set(home).close()
    class_folders(tmp_path / "folders")
    labelled(tmp_path / "table", ["dog", "cat", "dog"], column="kind")
    benchmark(tmp_path / "wds_search", "retrieval")
    (tmp_path / "mine.toml").write_text(TOML)
    return tmp_path / "mine.toml"


def run(cli: Cli, file: Path, *arguments: Any) -> Any:
    return cli("eval", "--anchors", "toy", "--collection", file, "--output", file.with_name("all.json"), *arguments)


def test_each_result_is_that_of_a_single_call(cli: Cli, file: Path) -> None:
    ran = run(cli, file, "--json")
    assert ran.code == 0, ran.err
    found = json.loads(file.with_name("all.json").read_text())
    assert found == ran.json
    assert [each["dataset"] for each in found["results"]] == ["wds/folders", "wds/table", "wds/search"]
    assert found["missing"] == ["wds/away"] and "wds/away" in run(cli, file, "--overwrite").err
    single = [
        ("folders", "classification", ()),
        ("table/a.parquet", "classification", ("--column", "label=kind", "--templates", "photo")),
        ("wds_search", "retrieval", ()),
    ]
    for each, (path, task, more) in zip(found["results"], single, strict=True):
        alone = cli(
            *("eval", "--anchors", "toy", "--dataset", file.parent / path, "--task", f"zeroshot_{task}", "--json"),
            *("--dataset-name", each["dataset"], *more),
        ).json
        for changing in ("created", "timings_s"):
            alone.pop(changing), each.pop(changing)
        assert each == alone
    (shift,) = found["shifts"]
    accuracies = [each["metrics"]["acc1"] for each in found["results"][:2]]
    assert shift["drop"] == pytest.approx(accuracies[0] - accuracies[1])
    assert shift["effective_robustness"] == pytest.approx(shift["shifted_acc1"] - shift["expected_acc1"])
    assert shift["references"] == 2


def test_people_read_one_table(cli: Cli, file: Path) -> None:
    lines = run(cli, file).out.splitlines()
    assert lines[0].split()[:3] == ["data", "set", "acc1"]
    assert [line.split()[0] for line in lines[1:5]] == ["wds/folders", "wds/table", "wds/search", "wds/away"]
    assert "not there" in lines[4]
    assert lines[6].startswith("shift") and lines[7].startswith("wds/table of wds/folders")


def test_a_killed_run_goes_on_where_it_was(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    whole = eval_collection._evaluate_entry

    def counting(entry: Any, given: Any) -> Any:
        calls.append(entry.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(entry, given)

    monkeypatch.setattr(eval_collection, "_evaluate_entry", counting)
    assert run(cli, file).code == 130
    assert not file.with_name("all.json").exists()
    with open(file.with_name("all.runs.jsonl"), "a") as journal:
        journal.write('{"mark": "cut of')
    again = run(cli, file)
    assert again.code == 0 and "wds/folders: done already" in again.err
    assert calls == ["wds/folders", "wds/table", "wds/table", "wds/search"]
    run(cli, file, "--overwrite", "--limit", 2)
    assert len(calls) == 7  # another question
    (file.parent / "folders" / "cat" / "y.jpg").write_bytes(b"another")
    run(cli, file, "--overwrite")
    assert calls[7:] == ["wds/folders"]  # other data


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "x"), "--dataset with --collection"),
        (("--task", "zeroshot_retrieval"), "--task with --collection"),
        (("--column", "label=x"), "--column with --collection"),
        (("--root", "nowhere"), "none of the 4 data sets of mine is in"),
    ],
)
def test_what_does_not_go_with_a_collection_is_refused(
    cli: Cli, file: Path, arguments: tuple[str, ...], said: str
) -> None:
    ran = run(cli, file, *arguments)
    assert ran.code in (2, 3) and said in ran.err


def test_a_data_set_or_a_collection_is_needed(cli: Cli, file: Path) -> None:
    assert cli("eval", "--anchors", "toy", "--collection", file).code == 2  # without --output
    nothing = cli("eval", "--anchors", "toy")
    assert nothing.code == 2 and "no --dataset" in nothing.err
    half = cli("eval", "--anchors", "toy", "--dataset", file.parent / "folders")
    assert half.code == 2 and "no --task" in half.err
    root = cli("eval", "--dataset", "x", "--task", "zeroshot_retrieval", "--root", ".")
    assert root.code == 2 and "--root without --collection" in root.err
