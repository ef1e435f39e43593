"""`asif eval` as other programs see it: exit codes, the JSON that CLIP_benchmark merges, files, what is refused."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.engine_sets import IMAGE_DIM, TEXT_DIM, make_precomputed, make_set
from support.labelled_files import benchmark, class_folders, labelled, with_vectors
from support.pair_files import IMAGE, table
from support.running import Cli, Ran

from asif.anchorset import Store

KEYS = ["dataset", "model", "pretrained", "task", "metrics", "language"]
PROVENANCE = {
    *("further_metrics", "counts", "anchors", "encoders", "aligner", "parameters", "hubness", "profile"),
    *("data", "seed"),
    *("versions", "created", "timings_s", "rejects"),
}
ABOUT_PROMPTS = {"templates", "template_mode", "templates_from", "classnames_from"}


@pytest.fixture
def asif_eval(home: Path, cli: Cli, hashing: None) -> Cli:
    """Run `asif eval` on the set `toy`, whose encoders hash, unless told otherwise."""
    make_set(home).close()

    def run(*arguments: Any, task: str = "classification", anchors: str = "toy") -> Ran:
        return cli("eval", "--anchors", anchors, "--task", f"zeroshot_{task}", *arguments)

    return run


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    return labelled(tmp_path / "data", ["dog", "cat", "dog"])


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Return seven images with two captions each."""
    images = pa.array([{"bytes": f"image {row}".encode(), "path": None} for row in range(7)], IMAGE)
    captions = [[f"caption {row}", f"another of {row}"] for row in range(7)]
    return table(tmp_path / "search.parquet", image=images, captions=captions)


def merged(results: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Merge results into a table by the rules of CLIP_benchmark: metrics are columns beside all other keys."""
    rows = [{**result["metrics"], **{k: v for k, v in result.items() if k != "metrics"}} for result in results]
    rows = [{**row, "model_fullname": row["model"] + " " + row["pretrained"]} for row in rows]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=sorted({key for row in rows for key in row}))
    writer.writeheader()
    writer.writerows(rows)
    return list(csv.DictReader(io.StringIO(stream.getvalue())))


def test_the_json_that_is_written(asif_eval: Cli, dogs: Path, search: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert asif_eval("--dataset", dogs, "--output", first).code == 0
    assert asif_eval("--dataset", search, "--output", second, "--language", "de", task="retrieval").code == 0
    labels, captions = (json.loads(path.read_text()) for path in (first, second))
    assert [list(result)[:6] for result in (labels, captions)] == [KEYS, KEYS]
    assert set(labels) == {*KEYS, *PROVENANCE, *ABOUT_PROMPTS}
    assert set(captions) == {*KEYS, *PROVENANCE}
    assert list(labels["metrics"]) == ["acc1", "acc5", "mean_per_class_recall"]
    assert list(captions["metrics"]) == ["image_retrieval_recall@5", "text_retrieval_recall@5"]
    assert labels["metrics"]["acc5"] is None
    assert (labels["dataset"], labels["task"], labels["language"]) == (str(dogs), "zeroshot_classification", "en")
    assert (captions["task"], captions["language"]) == ("zeroshot_retrieval", "de")
    assert labels["counts"]["in"] == 3 and labels["rejects"] is None
    rows = merged([labels, captions])
    assert float(rows[0]["acc1"]) == labels["metrics"]["acc1"]
    assert (rows[0]["acc5"], rows[1]["acc1"]) == ("", "")
    assert float(rows[1]["image_retrieval_recall@5"]) == captions["metrics"]["image_retrieval_recall@5"]
    assert rows[0]["model_fullname"].startswith("timm:fake+sentence-transformers:fake fused toy@")


def test_stdout_stderr_and_the_file_agree(asif_eval: Cli, dogs: Path, search: Path, tmp_path: Path) -> None:
    output = tmp_path / "r.json"
    ran = asif_eval("--dataset", dogs, "--json", "--output", output)
    assert json.loads(ran.out) == json.loads(output.read_text())
    assert f"{dogs}: parquet (Hugging Face)" in ran.err and "label: label" in ran.err
    people = asif_eval("--dataset", dogs)
    acc1 = json.loads(ran.out)["metrics"]["acc1"]
    lines = people.out.splitlines()
    assert lines[0] == f"{dogs.name}: 3 in = 3 kept + 0 rejected"
    assert [line.split() for line in lines[2:5]] == [["metric", "value"], ["acc1", f"{acc1:.4f}"], ["acc5", "-"]]
    assert "7 of 7 images are anchors too" in asif_eval("--dataset", search, task="retrieval").err
    assert not list(tmp_path.glob("*.rejects.jsonl")) and not list(tmp_path.glob(".tmp*"))


def test_shared_captions_have_a_column_of_their_own(asif_eval: Cli, tmp_path: Path) -> None:
    images = pa.array([{"bytes": f"image {row}".encode(), "path": None} for row in range(6)], IMAGE)
    path = table(tmp_path / "s.parquet", image=images, caption=["the same"] * 6)
    lines = asif_eval("--dataset", path, task="retrieval").out.splitlines()
    table_ = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert lines[2].split() == ["metric", "value", "shared", "captions", "right"]
    assert table_["text_retrieval_recall@1"] == ["0.1667", "1.0000"]
    assert table_["text_retrieval_recall@10"] == ["-", "-"]


def test_rejects_are_listed(asif_eval: Cli, tmp_path: Path) -> None:
    contents = [b"bad one" if row in (1, 3) else f"image {row}".encode() for row in range(6)]
    images = pa.array([{"bytes": content, "path": None} for content in contents], IMAGE)
    labels = ["dog", "cat", None, "dog", "cat", "dog"]
    path, output = table(tmp_path / "b.parquet", image=images, label=labels), tmp_path / "r.json"
    ran = asif_eval("--dataset", path, "--output", output, "--max-bad-rows", "50%")
    result = json.loads(output.read_text())
    listed = [json.loads(line) for line in (tmp_path / result["rejects"]).read_text().splitlines()]
    assert ran.code == 0
    assert listed == [
        {"row": 1, "id": None, "reason": "a bad image"},
        {"row": 2, "id": None, "reason": "label is null"},
        {"row": 3, "id": None, "reason": "a bad image"},
    ]
    assert [result["counts"][name] for name in ("in", "kept", "rejected")] == [6, 3, 3]
    refused = asif_eval("--dataset", path, "--output", tmp_path / "none.json")
    assert (refused.code, refused.out) == (3, "")
    assert "bad rows" in refused.err and "at most 0 bad rows of 6" in refused.err
    assert not (tmp_path / "none.json").exists()
    assert (tmp_path / "none.rejects.jsonl").read_text().count("\n") == 1
    assert "row 2: label is null" in asif_eval("--dataset", path, "--max-bad-rows", 3).err
    good = labelled(tmp_path / "good", ["dog", "cat", "dog"])
    assert asif_eval("--dataset", good, "--output", output, "--overwrite").code == 0
    assert json.loads(output.read_text())["rejects"] is None and not (tmp_path / "r.rejects.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "templates", "origin"),
    [
        ([], ["a {c}.", "the {c}"], "dataset"),
        (["--templates", "photo"], ["a photo of a {}."], "photo"),
        (["--template", "x {}", "--template", "{c} y"], ["x {}", "{c} y"], "--template"),
    ],
)
def test_where_templates_come_from(
    asif_eval: Cli, tmp_path: Path, options: list[str], templates: list[str], origin: str
) -> None:
    lists = {"classnames": "cat\ndog\n", "zeroshot_classification_templates": "a {c}.\nthe {c}\n"}
    result = json.loads(asif_eval("--dataset", benchmark(tmp_path / "wds", **lists), "--json", *options).out)
    assert (result["templates"], result["templates_from"]) == (templates, origin)
    assert (result["template_mode"], result["classnames_from"]) == ("mean", "dataset")
    plain = json.loads(asif_eval("--dataset", class_folders(tmp_path / "folders"), "--json").out)
    assert (plain["templates"], plain["templates_from"]) == (["{}"], "default")
    assert plain["classnames_from"] == "readable labels"


def test_names_that_are_not_needed_are_told(asif_eval: Cli, dogs: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("dog\ta good dog | hound\nwolf\twolf\n")
    ran = asif_eval("--dataset", dogs, "--classnames", tmp_path / "names.txt", "--json", "--template-mode", "max")
    result = json.loads(ran.out)
    assert "class names for labels that the data do not have: wolf" in ran.err
    assert (result["classnames_from"], result["template_mode"]) == ("file, else readable labels", "max")


def test_a_limit_and_a_column(asif_eval: Cli, tmp_path: Path) -> None:
    images = pa.array([{"bytes": f"image {row}".encode(), "path": None} for row in range(3)], IMAGE)
    path = table(tmp_path / "c.parquet", image=images, label=["x", "y", "x"], colour=["red", "red", "blue"])
    ran = asif_eval("--dataset", path, "--column", "label=colour", "--limit", 1, "--json")
    counts = json.loads(ran.out)["counts"]
    assert (counts["in"], counts["classes"], counts["classes_with_images"]) == (1, 2, 1)


def test_a_limit_takes_evenly_many_of_each_class_and_says_so(asif_eval: Cli, tmp_path: Path) -> None:
    labels = ["x"] * 6 + ["y"] * 2 + ["z"] * 4  # sorted by class, as many files are
    images = pa.array([{"bytes": f"image {row}".encode(), "path": None} for row in range(12)], IMAGE)
    path = table(tmp_path / "c.parquet", image=images, label=labels)
    result = json.loads(asif_eval("--dataset", path, "--limit", 6, "--json").out)
    assert (result["counts"]["in"], result["counts"]["classes_with_images"]) == (6, 3)
    assert result["sample"] == {"rows": 6, "total": 12, "chosen": "evenly over classes, evenly spaced in each"}
    chosen = table(tmp_path / "d.parquet", image=images.take([0, 5, 6, 7, 8, 11]), label=["x", "x", "y", "y", "z", "z"])
    alone = json.loads(asif_eval("--dataset", chosen, "--json").out)
    assert (alone["metrics"], alone["data"]["rows_sha256"]) == (result["metrics"], result["data"]["rows_sha256"])
    assert "sample" not in alone
    people = asif_eval("--dataset", path, "--limit", 6).out.splitlines()
    assert people[0] == "c.parquet: 6 in = 6 kept + 0 rejected of 12, evenly over classes, evenly spaced in each"


def test_a_limit_of_captions_is_recorded(asif_eval: Cli, search: Path) -> None:
    rows = json.loads(asif_eval("--dataset", search, "--json", task="retrieval").out)["counts"]["in"]
    some = json.loads(asif_eval("--dataset", search, "--limit", rows - 1, "--json", task="retrieval").out)
    assert some["sample"] == {"rows": rows - 1, "total": rows, "chosen": "the first rows"}
    assert "sample" not in json.loads(asif_eval("--dataset", search, "--limit", rows, "--json", task="retrieval").out)


@pytest.mark.parametrize("task", ["classification", "retrieval"])
def test_a_name_takes_the_place_of_the_path(asif_eval: Cli, dogs: Path, search: Path, task: str) -> None:
    data = dogs if task == "classification" else search
    named = asif_eval("--dataset", data, "--dataset-name", "wds/mine", "--json", task=task)
    assert json.loads(named.out)["dataset"] == "wds/mine"
    assert json.loads(named.out)["data"]["path"] == str(data)
    assert json.loads(asif_eval("--dataset", data, "--json", task=task).out)["dataset"] == str(data)


def test_aligner_and_hubness_are_recorded(asif_eval: Cli, search: Path) -> None:
    options = ["--aligner", "cca", "--lambda", 2, "--hubness", "nnn", "--json"]
    result = json.loads(asif_eval("--dataset", search, *options, task="retrieval").out)
    assert (result["aligner"], result["parameters"]["lambda"]) == ("cca", 2.0)
    assert result["hubness"] == {"method": "nnn", "k": 32, "alpha": 0.5}
    assert result["pretrained"].startswith("cca+nnn toy@")


def test_an_aligner_may_read_the_words_of_captions(asif_eval: Cli, search: Path) -> None:
    result = json.loads(asif_eval("--dataset", search, "--aligner", "cca(words=2)", "--json", task="retrieval").out)
    assert (result["aligner"], result["parameters"]["words"]) == ("cca(words)", 2.0) and result["parameters"][
        "vocabulary"
    ] > 0
    plain = json.loads(asif_eval("--dataset", search, "--aligner", "cca", "--json", task="retrieval").out)
    assert "words" not in plain["parameters"]


def named(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


REFUSED: dict[str, tuple[Callable[[Path], list[Any]], str, int, str]] = {
    "no such path": (lambda at: [at / "nowhere"], "classification", 2, "nowhere does not exist"),
    "empty folder": (lambda at: [at], "classification", 3, "holds no file that is known here"),
    "labels to search": (lambda at: [labelled(at, ["a", "b"])], "retrieval", 3, "no column that looks like captions"),
    "no labels": (lambda at: [table(at / "c.parquet", image=[b"x"], caption=["y"])], "classification", 3, "like label"),
    "numbers": (lambda at: [labelled(at, [0, 1])], "classification", 3, "for which there is no name: 0, 1"),
    "no rows": (lambda at: [labelled(at, pa.array([], pa.string()))], "classification", 3, "has no labels"),
    "a text": (lambda at: [named(at / "a.txt", "x")], "classification", 3, "is a .txt file"),
    "damaged": (lambda at: [named(at / "a.parquet", "x")], "classification", 3, "is not a parquet file"),
    "unknown templates": (
        lambda at: [labelled(at, ["a", "b"]), "--templates", "clip"],
        "classification",
        2,
        "the templates are 'clip'",
    ),
    "two kinds of templates": (
        lambda at: [labelled(at, ["a", "b"]), "--templates", "photo", "--template", "{}"],
        "classification",
        2,
        "--template and --templates",
    ),
    "no place in a template": (
        lambda at: [labelled(at, ["a", "b"]), "--template", "a photo"],
        "classification",
        2,
        "has no place for the label",
    ),
    "templates to search": (
        lambda at: [labelled(at, ["a", "b"]), "--templates", "photo"],
        "retrieval",
        2,
        "--templates for zeroshot_retrieval",
    ),
    "names to search": (lambda at: [at, "--classnames", at], "retrieval", 2, "--classnames for zeroshot_retrieval"),
    "no names": (lambda at: [labelled(at, ["a"]), "--classnames", at / "n"], "classification", 2, "cannot be read"),
    "other names": (
        lambda at: [labelled(at, ["a", "b"]), "--classnames", named(at / "n", "c\tsea\n")],
        "classification",
        2,
        "none of the 1 labels of the class names",
    ),
    "number without a name": (
        lambda at: [labelled(at, [0, 1]), "--classnames", named(at / "n", "0\tcat\n")],
        "classification",
        3,
        "for some of which there is no name: 1",
    ),
    "output is a folder": (lambda at: [labelled(at, ["a"]), "--output", at], "classification", 2, "is a folder"),
    "output exists": (
        lambda at: [labelled(at, ["a"]), "--output", named(at / "r.json", "mine")],
        "classification",
        2,
        "exists already",
    ),
    "output nowhere": (
        lambda at: [labelled(at, ["a"]), "--output", at / "no" / "r.json"],
        "classification",
        2,
        "r.json cannot be written",
    ),
    "tolerance": (lambda at: [labelled(at, ["a"]), "--max-bad-rows", "few"], "classification", 2, "--max-bad-rows is"),
    "unknown role": (lambda at: [labelled(at, ["a"]), "--column", "hue=x"], "classification", 2, "unknown role 'hue'"),
    "unknown column": (
        lambda at: [labelled(at, ["a"]), "--column", "label=x"],
        "classification",
        2,
        "has no column 'x'",
    ),
    "aligner": (lambda at: [labelled(at, ["a"]), "--aligner", "clip"], "classification", 2, "the aligner is 'clip'"),
    "another task": (lambda at: [at], "captioning", 2, "Invalid value for '--task'"),
    "a limit of nothing": (lambda at: [at, "--limit", 0], "classification", 2, "Invalid value for '--limit'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(asif_eval: Cli, tmp_path: Path, case: str) -> None:
    make, task, code, message = REFUSED[case]
    folder = tmp_path / "data"
    folder.mkdir()
    arguments = make(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ran = asif_eval("--dataset", *arguments, task=task)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err and "Traceback" not in ran.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_anchors_that_do_not_go_with_the_data(
    asif_eval: Cli, dogs: Path, search: Path, home: Path, tmp_path: Path
) -> None:
    make_precomputed(tmp_path / "pairs", home).close()
    assert asif_eval("--dataset", dogs, anchors="nothing").code == 2
    assert asif_eval("--dataset", tmp_path / "pairs", task="retrieval").code == 4
    ran = asif_eval("--dataset", search, task="retrieval", anchors="vectors")
    assert (ran.code, "an image to encode, with an anchor set of precomputed vectors" in ran.err) == (2, True)
    assert asif_eval("--dataset", tmp_path / "pairs", task="retrieval", anchors="vectors").code == 0


def test_image_vectors_are_labelled_by_label_vectors(asif_eval: Cli, home: Path, tmp_path: Path) -> None:
    make_precomputed(tmp_path / "pairs", home).close()
    dataset, said = with_vectors(tmp_path / "v.parquet", width=IMAGE_DIM), tmp_path / "said.npy"
    np.save(said, np.random.default_rng(0).standard_normal((2, TEXT_DIM)).astype(np.float32))
    more = ("--max-bad-rows", "1", "--json")
    ran = asif_eval("--dataset", dataset, "--label-vectors", said, *more, anchors="vectors")
    assert ran.code == 0, ran.err
    result = ran.json
    assert set(result) == {*KEYS, *PROVENANCE, *ABOUT_PROMPTS, "label_vectors_sha256"}
    assert result["label_vectors_sha256"] == hashlib.sha256(said.read_bytes()).hexdigest()
    assert (result["counts"]["kept"], result["counts"]["rejected"], result["metrics"]["acc5"]) == (2, 1, None)
    assert result["metrics"]["acc1"] in (0.0, 0.5, 1.0)
    refused = asif_eval("--dataset", dataset, *more, anchors="vectors")
    assert (refused.code, "pass --label-vectors" in refused.err) == (2, True)
    assert asif_eval("--dataset", dataset, "--label-vectors", said, *more).code == 4
    ran = asif_eval("--dataset", tmp_path / "pairs", "--label-vectors", said, task="retrieval", anchors="vectors")
    assert (ran.code, "--label-vectors for zeroshot_retrieval" in ran.err) == (2, True)


def test_one_class_with_one_image(asif_eval: Cli, tmp_path: Path) -> None:
    ran = asif_eval("--dataset", labelled(tmp_path, ["dog"]), "--json")
    assert json.loads(ran.out)["metrics"] == {"acc1": 1.0, "acc5": None, "mean_per_class_recall": 1.0}


def test_the_output_appears_whole_or_not_at_all(
    asif_eval: Cli, dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = named(tmp_path / "r.json", "old")
    monkeypatch.setattr(
        "asif.anchorset.format.atomic_io.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    assert asif_eval("--dataset", dogs, "--output", output, "--overwrite").code == 6
    assert output.read_text() == "old"
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "home", "r.json"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(asif_eval: Cli, dogs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    ran = asif_eval("--dataset", dogs, "--output", folder / "r.json")
    assert (ran.code, "cannot be written" in ran.err) == (2, True)


# ---- real data


@pytest.fixture
def measured(cli: Cli) -> Callable[..., dict[str, Any]]:
    """Run `asif eval` on real data and return the result."""

    def run(*arguments: Any) -> dict[str, Any]:
        ran = cli("eval", "--json", *arguments)
        assert ran.code == 0, ran.err
        result: dict[str, Any] = ran.json
        return result

    return run


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with the classes of a head and one caption each, by which the bench's figures came about."""
    from asif.building.recipe import HeadRecipe
    from asif.encoders import DEFAULT_ENCODERS
    from asif.engine import build_from_head

    home = tmp_path_factory.mktemp("definitions")
    recipe = HeadRecipe(
        name="definitions", about="a test", encoders=DEFAULT_ENCODERS, captions=("{name}: {definition}",)
    )
    build_from_head(recipe, Store(home)).anchors.close()
    return home


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(("name", "acc1"), [("caltech101", 0.4908), ("cifar10", 0.5030)])
def test_zero_shot_is_that_of_the_bench(
    measured: Callable[..., dict[str, Any]], realdata: Path, definitions: Path, preloaded: None, name: str, acc1: float
) -> None:
    path, options = realdata / name / "eval.parquet", ["--aligner", "asif", "--k", 50, "--power", 3]
    anchors = ["--anchors", "definitions", "--home", definitions]
    result = measured("--dataset", path, "--task", "zeroshot_classification", *anchors, *options)
    assert result["metrics"]["acc1"] == pytest.approx(acc1, abs=0.003)
    assert result["metrics"]["mean_per_class_recall"] == pytest.approx(result["metrics"]["acc1"], abs=1e-9)  # balanced
    assert result["counts"]["rejected"] == 0


@pytest.mark.realdata
def test_retrieval_is_that_of_the_bench(
    measured: Callable[..., dict[str, Any]], realdata: Path, home: Path, tmp_path: Path
) -> None:
    from asif.engine import build_anchors
    from asif.vectors import Embeddings

    for part in ("train", "dev"):
        features = realdata / "flickr8k" / "features"
        image, text = np.load(features / f"{part}-image-lite0.npy"), np.load(features / f"{part}-text-minilm.npy")
        unit = Embeddings.from_raw(text.reshape(-1, text.shape[-1])).values
        mean = unit.reshape(len(image), 5, -1).mean(axis=1)
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "img_emb_0.npy", image if part == "train" else image.repeat(5, axis=0))
        np.save(tmp_path / part / "text_emb_0.npy", mean if part == "train" else unit)
    build_anchors(tmp_path / "train", "flickr8k", home=home).anchors.close()
    options = ["--task", "zeroshot_retrieval", "--aligner", "cca", "--hubness", "nnn"]
    result = measured("--anchors", "flickr8k", "--dataset", tmp_path / "dev", *options)
    found = {**result["metrics"], **result["further_metrics"]}
    assert found["text_retrieval_recall@1"] == pytest.approx(0.330, abs=0.003)
    assert found["image_retrieval_recall@1"] == pytest.approx(0.251, abs=0.003)
    assert result["counts"]["images"] == 1000 and result["counts"]["captions_shared"] == 6


def test_evaluations_of_a_mask(cli: Cli, licensed: Path, images: Path) -> None:
    for label, name in (("cat", "1.png"), ("dog", "2.png"), ("cat", "3.png")):
        (images / "classes" / label).mkdir(parents=True, exist_ok=True)
        (images / "classes" / label / name).write_bytes(name.encode())
    given = (
        "eval",
        "--dataset",
        images / "classes",
        "--task",
        "zeroshot_classification",
        "--json",
        "--aligner",
        "asif",
    )
    assert cli("anchors", "subset", "toy", "--where", "licence = 'CC-BY-4.0'", "--name", "by").code == 0
    masked, subset = (cli(*given, "--anchors", *which).json for which in (("toy", "--license", "cc-by"), ("by",)))
    assert masked["metrics"] == subset["metrics"]
    assert masked["anchors"]["digest"] == subset["anchors"]["digest"]
    assert (masked["anchors"]["count"], masked["anchors"]["licences"]) == (10, ["cc-by"])
    assert masked["encoders"] == subset["encoders"]
