"""The comparison: every method on the same pairs, figures those of `asif eval`, nothing lost when stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.engine_sets import make_set
from support.running import Cli

from asif.aligners import RIVALS
from asif.evaluate.comparison import run as comparison_run
from asif.evaluate.comparison.methods import COMPARED_METHODS, fit_contender
from asif.vectors import Embeddings


def compared(cli: Cli, out: Path, *more: str) -> dict[str, Any]:
    ran = cli("compare", "--anchors", "toy", "--out", str(out), "--seconds", "1", *more)
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


@pytest.mark.slow
def test_both_kinds_of_data_by_every_method(
    toys: Path, cli: Cli, captioned: Path, labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found = compared(cli, out, "--eval", str(captioned), "--eval", str(labelled), "--pairs", "30,all", "--seeds", "1")
    assert [each["task"] for each in found["datasets"]] == ["zeroshot_retrieval", "zeroshot_classification"]
    assert found["counts"] == [30, 60]
    assert {(run["method"], run["pairs"], run["task"]) for run in found["runs"]} == {
        (method, count, each["task"]) for method in COMPARED_METHODS for count in (30, 60) for each in found["datasets"]
    }
    for run in found["runs"]:
        for result in run["results"]:
            assert "ranks" not in result
            assert all(value is None or value >= 0 for value in result["metrics"].values())
        assert (run["trained_parameters"] is not None) == (run["method"] in RIVALS)
        assert run["results"][0]["hubness"] == "none"
    for win in found["wins"]:
        assert sum(win["counts"].values()) == {str(captioned): 12 + 24, str(labelled): 14}[win["dataset"]]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http-equiv" not in page
    assert all(method in page for method in COMPARED_METHODS)


@pytest.mark.parametrize("task", ["captioned", "labelled"])
def test_figures_are_those_of_eval(
    toys: Path, cli: Cli, task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = str(request.getfixturevalue(task))
    methods = "cca,asif-paper" if task == "captioned" else "cca,asif"
    found = compared(cli, tmp_path / "out", "--eval", data, "--methods", methods, "--seeds", "1")
    kind = found["datasets"][0]["task"]
    for run in found["runs"]:
        for result in run["results"]:
            if result["hubness"] not in ("none",):
                continue
            name = run["setting"]
            ran = cli("eval", "--anchors", "toy", "--dataset", data, "--task", kind, "--aligner", name, "--json",
                      *(["--template-mode", "mean"] if task == "labelled" else []))  # fmt: skip
            assert ran.code == 0, ran.err
            known = {**ran.json["metrics"], **ran.json["further_metrics"]}
            shared = [figure for figure in result["metrics"] if figure in known]
            assert len(shared) >= 3
            assert {figure: result["metrics"][figure] for figure in shared} == {
                figure: known[figure] for figure in shared
            }


def test_what_is_done_is_not_done_again(
    toys: Path, cli: Cli, captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--eval", str(captioned), "--methods", "asif,ape", "--pairs", "30", "--seeds", "2")
    calls: list[str] = []

    def counting(method: str, *rest: Any, **more: Any) -> Any:
        calls.append(method)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit_contender(method, *rest, **more)

    monkeypatch.setattr(comparison_run, "fit_contender", counting)
    ran = cli("compare", "--anchors", "toy", "--out", str(tmp_path / "out"), "--seconds", "1", *arguments)
    assert ran.code == 130
    with open(tmp_path / "out" / "runs.jsonl", "a") as file:
        file.write('{"mark": "cut of')
    found = compared(cli, tmp_path / "out", *arguments)
    assert calls == ["asif", "ape", "asif", "asif", "ape"]
    again = compared(cli, tmp_path / "out", *arguments)
    assert len(calls) == 5
    assert [run["results"] for run in again["runs"]] == [run["results"] for run in found["runs"]]
    make_set(toys, count=61)
    compared(cli, tmp_path / "out", *arguments)
    assert len(calls) == 9  # other anchors, other runs


@pytest.mark.parametrize("competes", [True, False])
def test_trained_methods_read_words_where_a_training_free_one_does(
    toys: Path, cli: Cli, captioned: Path, labelled: Path, tmp_path: Path, competes: bool
) -> None:
    methods = "cca,ape,fusemix" + (",cca(words)" if competes else "")
    data = ("--eval", str(captioned), "--eval", str(labelled))
    found = compared(cli, tmp_path / "out", *data, "--methods", methods, "--seeds", "1")
    readers = {(run["method"], run["task"]) for run in found["runs"] if run["reads_words"]}
    trained = {"ape", "fusemix"} if competes else set()
    tasks = ("zeroshot_retrieval", "zeroshot_classification")
    assert readers == {(method, task) for method in trained | ({"cca(words)"} if competes else set()) for task in tasks}
    vocabularies = {run["parameters"].get("vocabulary", 0) for run in found["runs"] if run["method"] in trained}
    assert not competes or min(vocabularies) > 0
    for task in tasks:  # as many held-out queries choose, whether time allows one fold or all
        questions = {run["method"]: run["tuning"]["questions"] for run in found["runs"] if run["task"] == task}
        assert questions.get("cca(words)", questions["cca"]) == questions["cca"]


def test_the_same_seed_is_the_same_sample_for_all() -> None:
    first, again, other = (comparison_run.draw_pair_sample(100, 20, seed) for seed in (3, 3, 4))
    assert first.tolist() == again.tolist() == sorted(set(first.tolist()))
    assert first.tolist() != other.tolist()
    texts = Embeddings.from_raw(np.random.default_rng(0).standard_normal((300, 4)))
    chosen = comparison_run.select_captions((texts, np.repeat(np.arange(100), 3)), first)
    assert chosen is not None
    assert np.array_equal(chosen[0].values, texts.values.reshape(100, 3, 4)[first].reshape(60, 4))
    assert chosen[1].tolist() == np.repeat(np.arange(20), 3).tolist()


def test_a_recipe_brings_its_setting_and_what_was_published(
    toys: Path, cli: Cli, captioned: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "mine"\nabout = "a"\nlicence = "l"\nstatus = "not run: it is a test"\n'
        'aligner = "ape(steps=2,hidden=9)"\n'
        '[encoders]\nimage = "timm:resnet50.a1_in1k"\ntext = "sentence-transformers:a/b"\n'
        '[pairs]\nfrom = "a drawer"\ncolumns = { image = "i", captions = "c" }\ncaptions = "mean"\n'
        '[[expected]]\ndataset = "imagenet"\nmetric = "acc1"\nvalue = 0.5\nsource = "a paper"\nmark = "paper"\n'
    )
    arguments = ("--eval", str(captioned), "--methods", "asif,ape", "--seeds", "1", "--recipe", str(recipe))
    found = compared(cli, tmp_path / "out", *arguments)
    assert found["expected"] == [{"what": "imagenet, acc1", "figure": 0.5, "source": "a paper (paper)"}]
    assert {run["setting"] for run in found["runs"] if run["method"] == "ape"} == {"ape(steps=2,hidden=9)"}
    ran = cli("train-ape", "--anchors", "toy", "--recipe", str(recipe), "--json")
    assert ran.code == 0
    assert ran.json["parameters"]["hidden"] == 9
    assert "not run: it is a test" in ran.err
    assert cli("train-ape", "--anchors", "toy", "--recipe", str(recipe), "--steps", "3").code == 2
    assert cli("train-fusemix", "--anchors", "toy", "--recipe", str(recipe)).code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--methods", "asif,magic"), "magic"),
        (("--methods", ","), "none"),
        (("--pairs", "10"), "20 to 60"),
        (("--pairs", "61"), "20 to 60"),
        (("--pairs", "many"), "numbers, or all"),
    ],
)
def test_odd_options_are_refused(
    toys: Path, cli: Cli, captioned: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    ran = cli("compare", "--anchors", "toy", "--eval", str(captioned), "--out", str(tmp_path / "out"), *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "out").exists()


def test_a_collection_brings_its_data_sets(
    toys: Path, cli: Cli, captioned: Path, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "sets.toml").write_text(
        'name = "mine"\nabout = "two sets"\n'
        f'[[datasets]]\nname = "words"\npath = "{captioned.name}"\ntask = "zeroshot_retrieval"\n'
        f'[[datasets]]\nname = "kinds"\npath = "{labelled.name}"\ntask = "zeroshot_classification"\n'
        'templates = "photo"\n[[datasets]]\nname = "away"\npath = "away"\ntask = "zeroshot_retrieval"\n'
    )
    both = ("--methods", "cca", "--seeds", "1")
    found = compared(cli, tmp_path / "out", "--collection", str(tmp_path / "sets.toml"), *both)
    assert [each["name"] for each in found["datasets"]] == ["words", "kinds"]
    assert found["datasets"][1]["templates"] == ["a photo of a {}."]
    alone = compared(cli, tmp_path / "alone", "--eval", str(captioned), *both)
    assert [run["results"][0]["metrics"] for run in alone["runs"]] == [found["runs"][0]["results"][0]["metrics"]]
    base = ("compare", "--anchors", "toy", "--out", str(tmp_path / "none"))
    assert cli(*base).code == 2
    assert cli(*base, "--collection", str(tmp_path / "sets.toml"), "--root", str(tmp_path / "nowhere")).code == 2


def test_odd_data_sets_are_refused(toys: Path, cli: Cli, captioned: Path, tmp_path: Path) -> None:
    base = ("compare", "--anchors", "toy", "--out")
    twice = cli(*base, str(tmp_path / "a"), "--eval", str(captioned), "--eval", str(captioned))
    assert (twice.code, "comes twice" in twice.err) == (2, True)
    missing = cli(*base, str(tmp_path / "b"), "--eval", "nowhere.parquet")
    assert missing.code in (2, 3)
    wrong = cli(*base, str(tmp_path / "c"), "--eval", f"labels:{captioned}")
    assert wrong.code in (2, 3)
    (tmp_path / "file").write_text("")
    assert cli(*base, str(tmp_path / "file"), "--eval", str(captioned)).code == 2
