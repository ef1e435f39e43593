"""Recipes: every one that comes with asif, what a recipe file may say, and builds that follow one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.build_fakes import FakeImages, FakeTexts, anchor_ids, draw_vector, stored_rows, unit
from support.build_images import random_png
from support.dry_run import dry_run
from support.paths import ROOT
from support.running import Cli, Ran

import asif
from asif.aligners import ALIGNER_NAMES, make_aligner
from asif.anchorset import Store
from asif.building import BuildOptions
from asif.building.estimate import UNKNOWN_DIM
from asif.building.recipe import SOURCE_MARKS, HeadRecipe, PairsRecipe, RecipeSelection
from asif.building.recipe_file import find_recipe, list_recipes, read_recipe
from asif.engine import build_from_recipe
from asif.errors import InputRefused, NotFound, UsageError

READ = {name: read_recipe(path) for name, path in list_recipes().items()}
OF_PAIRS = {name: recipe for name, recipe in READ.items() if isinstance(recipe, PairsRecipe)}
FIXED = [name for name, recipe in OF_PAIRS.items() if recipe.aligner]
pytestmark = pytest.mark.usefixtures("home")


def aligner_name(recipe: PairsRecipe) -> str:
    assert recipe.aligner is not None
    return recipe.aligner.partition("(")[0]


# ---- those that come with asif


def test_there_is_a_recipe_for_each_published_method() -> None:
    assert {name: recipe.kind for name, recipe in READ.items()} == {
        "ape-imagenet-captions": "pairs",
        "asif-cc12m-selfsupervised": "pairs",
        "asif-cc12m-supervised": "pairs",
        "freeze-align-concepts": "pairs",
        "fusemix-coco-vg-sbu-cc3m": "pairs",
        "imagenet-head": "head",
    }
    assert {aligner_name(recipe) for recipe in OF_PAIRS.values()} == {"ape", "asif-paper", "freeze-align", "fusemix"}
    assert {recipe.status for recipe in OF_PAIRS.values()} == {"not run: needs a model hub and a GPU"}


@pytest.mark.parametrize("name", READ)
def test_a_recipe_is_called_as_its_folder_and_hashes_its_file(name: str) -> None:
    assert READ[name].name == name
    assert READ[name].sha256 == hashlib.sha256(list_recipes()[name].read_bytes()).hexdigest()
    assert find_recipe(name) == READ[name] == find_recipe(str(list_recipes()[name]))


def test_the_recipe_that_sets_were_built_from_is_unchanged() -> None:
    """Sets record its sha256, and are built anew when it is another."""
    assert READ["imagenet-head"].sha256 == "1f12091ff770346b7614e19668dc3f83dfdb5733bf9316106aef457a833be68c"


@pytest.mark.parametrize("name", OF_PAIRS)
def test_published_figures_are_shares_with_a_source(name: str) -> None:
    for figure in OF_PAIRS[name].expected:
        assert 0 < figure.value < 1 and figure.mark in SOURCE_MARKS
        assert figure.source.strip()
        assert figure.metric == "acc1" or figure.metric.endswith("_retrieval_recall@1")


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("asif-cc12m-supervised", {"imagenet": 0.609, "cifar100": 0.502, "pets": 0.815, "imagenetv2": 0.522}),
        ("asif-cc12m-selfsupervised", {"imagenet": 0.53, "cifar100": 0.465, "pets": 0.747, "imagenetv2": 0.459}),
    ],
)
def test_the_figures_of_asif(name: str, figures: dict[str, float]) -> None:
    assert {figure.dataset: figure.value for figure in OF_PAIRS[name].expected} == figures


@pytest.mark.parametrize("name", [name for name in FIXED if aligner_name(OF_PAIRS[name]) in ALIGNER_NAMES])
def test_the_aligner_of_a_recipe_has_the_parameters_that_it_names(name: str) -> None:
    """Covers every recipe whose aligner there is."""
    named = OF_PAIRS[name].aligner
    assert named is not None
    made = make_aligner(named)
    assert made.name == aligner_name(OF_PAIRS[name])
    given = (each.partition("=") for each in named.partition("(")[2].rstrip(")").split(","))
    said = {key: value or 1 for key, _, value in given}  # a flag is true
    assert {key: made.parameters[key] for key in said} == {key: float(value) for key, value in said.items()}


# ---- what a file may say

OWN = """name = "own"
about = "two pictures"
licence = "none"
status = "run here"
assumed = "nothing much"
aligner = "cca"
[encoders]
image = "timm:fake"
text = "sentence-transformers:fake"
[pairs]
from = "a drawer"
columns = { image = "picture", captions = "said" }
captions = "all"
limit = 3
[selection]
method = "kmeans"
size = 600
[[expected]]
dataset = "drawer"
metric = "acc1"
value = 1
source = "the drawer"
mark = "code"
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return path


def test_all_that_a_recipe_of_pairs_says(own: Path) -> None:
    recipe = find_recipe(str(own))
    assert isinstance(recipe, PairsRecipe)
    assert recipe.encoders == {"image": "timm:fake", "text": "sentence-transformers:fake"}
    assert recipe.columns == {"image": "picture", "captions": "said"}
    assert (recipe.captions, recipe.limit, recipe.origin, recipe.aligner) == ("all", 3, "a drawer", "cca")
    assert recipe.selection == RecipeSelection("kmeans", 600)
    assert [str(figure) for figure in recipe.expected] == ["drawer acc1 1 [code: the drawer]"]
    assert recipe.describe() == (
        "recipe own: run here\n  assumed: nothing much\n"
        "  left to do: selection: 600 by kmeans\n  left to do: aligner: cca"
    )


def test_what_a_recipe_of_pairs_may_leave_out(own: Path) -> None:
    lines = OWN.partition("[selection]")[0].splitlines()
    own.write_text("\n".join(line for line in lines if not line.startswith(("assumed", "aligner", "limit"))))
    recipe = find_recipe(str(own))
    assert isinstance(recipe, PairsRecipe)
    assert (recipe.assumed, recipe.aligner, recipe.limit, recipe.selection, recipe.expected) == (*[None] * 4, ())
    assert recipe.describe() == "recipe own: run here"


@pytest.mark.parametrize(
    ("old", "new", "came", "fix"),
    [
        ("status =", "state =", "has the key 'state'", "write status, if"),
        ('captions = "all"', 'captoins = "all"', "[pairs] of FILE has the key 'captoins'", "write captions, if"),
        ('captions = "all"', 'captions = "al"', "[pairs] of FILE has captions = 'al'", "write all, if"),
        ('captions = "said"', 'text = "said"', "columns in [pairs] of FILE has the key 'text'", "choose one"),
        ('captions = "said"', 'label = "said"', "has the key 'label'", "choose one"),
        (', captions = "said"', "", "columns in [pairs] of FILE has no captions", "add captions"),
        ('from = "a drawer"\n', "", "[pairs] of FILE has no from", "add from"),
        ('licence = "none"', 'licence = " "', "FILE has licence = ' '", "correct licence"),
        ("limit = 3", "limit = 0", "has limit = 0", "correct limit"),
        ("limit = 3", "limit = true", "has limit = True", "correct limit"),
        ("timm:fake", "fake", "in FILE, the image encoder is 'fake'", "for example embedded:efficientnet-lite0"),
        ("sentence-transformers:fake", "timm:fake", "the text encoder is 'timm:fake'", "for example"),
        ('image = "timm:fake"', "", "[encoders] of FILE has no image", "add image"),
        ("kmeans", "k-means", "[selection] of FILE has method = 'k-means'", "write kmeans, if"),
        ("kmeans", "concepts", "method = 'concepts' and no concepts", "set concepts"),
        ("size = 600", 'size = 600\nconcepts = "words"', "method = 'kmeans' and a key concepts", "remove the key"),
        ('mark = "code"', 'mark = "?"', "[[expected]] of FILE has mark = '?'", "choose one of them"),
        ("value = 1", 'value = "high"', "has value = 'high'", "correct value"),
        ("value = 1", "value = nan", "has value = nan", "correct value"),
        ('source = "the drawer"\n', "", "[[expected]] of FILE has no source", "add source"),
        ("[[expected]]", "[expected]", "has expected = {", "correct expected"),
        ("[pairs]", "[head]\n[pairs]", "has both [head] and [pairs]", "docs/recipes.md"),
        ("[pairs]", "[pears]", "has neither [head] nor [pairs]", "docs/recipes.md"),
        ("name =", "name", "cannot be read: ", "correct the file"),
        ("a drawer", "\ud83d", "cannot be read: ", "correct the file"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(own: Path, old: str, new: str, came: str, fix: str) -> None:
    assert old in OWN
    own.write_bytes(OWN.replace(old, new).encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError) as caught:
        find_recipe(str(own))
    assert came.replace("FILE", str(own)) in caught.value.came
    assert fix in caught.value.fix
    assert caught.value.expected


@pytest.mark.parametrize("key", ["encoder", "text-encoder", "captions"])
def test_a_recipe_of_a_head_says_everything(tmp_path: Path, key: str) -> None:
    lines = list_recipes()["imagenet-head"].read_text().splitlines(keepends=True)
    (tmp_path / "recipe.toml").write_text("".join(line for line in lines if not line.startswith(f"{key} =")))
    with pytest.raises(UsageError, match=rf"\[head\] of .* has no {key}"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_name_that_is_nearly_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound) as caught:
        find_recipe("asif-cc12m-supervized")
    assert caught.value.fix == "write asif-cc12m-supervised, if you meant that"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet-head").write_text(OWN)
    assert (find_recipe("imagenet-head").kind, find_recipe("./imagenet-head").name) == ("head", "own")


# ---- builds

CAPTIONS = [f"number {row} of many" for row in range(20)]


def stand_in(recipe: PairsRecipe, folder: Path, **columns: Any) -> Path:
    """Write twenty pairs in the columns that a recipe names; every second has two captions where all are anchors."""
    images = pa.array([random_png(row) for row in range(20)])
    texts: list[Any] = CAPTIONS
    if recipe.captions == "all":
        texts = [[text, f"not {text}"][: 1 + row % 2] for row, text in enumerate(CAPTIONS)]
    table = {recipe.columns["image"]: images, recipe.columns["captions"]: texts}
    decoys = {"title": ["a decoy"] * 20, "key": [f"{row:09}" for row in range(20)]}
    pq.write_table(pa.table({**decoys, **table, **columns}), folder / "pairs.parquet")
    return folder / "pairs.parquet"


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_build_follows_its_recipe(
    name: str, asif_build: Cli, fakes: tuple[FakeImages, FakeTexts], tmp_path: Path, home: Path
) -> None:
    recipe = OF_PAIRS[name]
    ran = asif_build(stand_in(recipe, tmp_path), "--recipe", name, "--name", "toy", "--dtype", "float32")
    assert ran.code == 0, ran.err
    assert ran.err.startswith(recipe.describe() + "\n") and "not run: needs a model hub" in ran.err
    anchors = Store(home).open("toy")
    assert anchors.manifest.captions == recipe.captions
    assert anchors.count == (30 if recipe.captions == "all" else 20)
    assert anchors.manifest.operation["recipe"] == {"name": name, "sha256": recipe.sha256}
    records = anchors.records(range(anchors.count))
    assert sorted(text for record in records for text in record.captions if text.startswith("num")) == sorted(CAPTIONS)
    at = next(at for at, record in enumerate(records) if record.captions == (CAPTIONS[3],))
    np.testing.assert_allclose(stored_rows(anchors, "image")[at], unit(draw_vector(random_png(3), "image")), atol=2e-7)
    np.testing.assert_allclose(
        stored_rows(anchors, "text")[at], unit(draw_vector(CAPTIONS[3].encode(), "text")), atol=2e-7
    )


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_build_asks_for_the_encoders_of_its_recipe(
    name: str, asif_build: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for side, encoder in (("image", FakeImages()), ("text", FakeTexts())):
        load = lambda spec, *_, encoder=encoder: asked.append(spec) or encoder  # noqa: E731
        monkeypatch.setattr(f"asif.engine.build.load_{side}_encoder", load)
    assert asif_build(stand_in(OF_PAIRS[name], tmp_path), "--recipe", name, "--name", "toy").code == 0
    assert asked == [OF_PAIRS[name].encoders["image"], OF_PAIRS[name].encoders["text"]]


@pytest.mark.usefixtures("fakes")
def test_the_limit_and_the_columns_are_the_recipes(asif_build: Cli, own: Path, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "pairs.parquet"
    cells = {"picture": [random_png(row) for row in range(9)], "said": CAPTIONS[:9], "caption": ["a decoy"] * 9}
    pq.write_table(pa.table(cells), path)
    assert asif_build(path, "--recipe", own, "--name", "toy").code == 0
    built = Store(home).open("toy")
    assert sorted(text for record in built.records(range(3)) for text in record.captions) == CAPTIONS[:3]
    recipe = find_recipe(str(own))
    assert isinstance(recipe, PairsRecipe)
    again = build_from_recipe(recipe, path, "again", options=BuildOptions(captions="first", limit=1), home=home)
    assert (again.anchors.digest, anchor_ids(again.anchors)) == (built.digest, anchor_ids(built))


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_dry_run_of_a_recipe_loads_no_model(name: str, tmp_path: Path, home: Path) -> None:
    ran = dry_run(str(stand_in(OF_PAIRS[name], tmp_path)), "--recipe", name, "--json")
    assert ran.code == 0, ran.err
    assert ran.err.endswith("[]\n") and not home.exists()
    assert (ran.json["rows"], ran.json["bytes"]) == (20, 20 * (2 * UNKNOWN_DIM * 2 + 32 + 150))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--limit", "5"), "--recipe with --limit"),
        (("--captions", "first"), "--recipe with --captions"),
        (("--column", "image=x", "--text-encoder", "timm:x"), "--recipe with --text-encoder, --column"),
        (("--image-encoder", "timm:vit_base_patch16_224.augreg_in21k"), "a changed recipe is not that recipe"),
    ],
)
def test_an_option_that_would_change_the_recipe(
    asif_build: Callable[..., Ran], tmp_path: Path, home: Path, options: tuple[str, ...], said: str
) -> None:
    path = stand_in(OF_PAIRS["asif-cc12m-supervised"], tmp_path)
    ran = asif_build(path, "--recipe", "asif-cc12m-supervised", "--name", "toy", *options)
    assert (ran.code, ran.out, home.exists()) == (2, "", False)
    assert said in ran.err and "copy the recipe's file" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("PAIRS", "--recipe", "imagenet-head"), 2, "the recipe imagenet-head is of a classifier's head"),
        (("PAIRS", "--recipe", "nothing"), 2, "there is no recipe and no file 'nothing'"),
        (("PAIRS", "--recipe", "ape-imagenet-captions"), 2, "has no column 'image'; "),
        (("--recipe", "ape-imagenet-captions"), 2, "neither PAIRS nor --from-head"),
        (("--from-head", "timm:resnet18", "--recipe", "ape-imagenet-captions"), 2, "--from-head with --recipe"),
    ],
)
def test_a_recipe_that_does_not_go_with_the_call(
    asif_build: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    path = stand_in(OF_PAIRS["asif-cc12m-supervised"], tmp_path)
    ran = asif_build(*[path if each == "PAIRS" else each for each in arguments], "--name", "toy")
    assert (ran.code, ran.out) == (code, "")
    assert said.rstrip("; ") in ran.err


def test_vectors_are_not_what_a_recipe_encodes(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"image_embedding": [[1.0, 2.0]], "text_embedding": [[1.0]]}), path)
    with pytest.raises(InputRefused, match="precomputed vectors"):
        build_from_recipe(OF_PAIRS["ape-imagenet-captions"], asif_source(path), "toy", home=home)


def asif_source(path: Path) -> Any:
    from asif.pairs import open_pairs

    return open_pairs(path)


# ---- opening and listing


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_set_whose_pairs_are_not_here_says_what_to_do(cli: Cli, home: Path, tmp_path: Path, name: str) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(random_png(1))
    ran = cli("classify", image, "--anchors", name, "--labels", "cat,dog")
    assert ran.code == 2
    assert f"{name} has not been built" in ran.err and OF_PAIRS[name].origin in ran.err
    assert f"asif build-anchors PAIRS --recipe {name} --name {name}" in ran.err


@pytest.mark.usefixtures("fakes")
def test_a_set_by_the_name_of_its_recipe_is_opened_and_stays(
    asif_build: Cli, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the recipe: the pairs are the user's. The same holds under the name of a head's."""
    name = "asif-cc12m-supervised"
    path = stand_in(OF_PAIRS[name], tmp_path)
    for called in (name, "imagenet-head"):
        assert asif_build(path, "--recipe", name, "--name", called).code == 0
        with asif.open_anchors(called, home=home) as anchors:
            assert (anchors.count, anchors.manifest.seq) == (20, 1)
    Store(home).publish_profile(name, "classify", {"aligner": "cca"}, "1")
    with asif.open_anchors(name, home=home) as anchors:
        assert anchors.manifest.operation["recipe"]["sha256"] == OF_PAIRS[name].sha256


def test_the_list_of_recipes(cli: Cli) -> None:
    ran = cli("anchors", "recipes")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["name", "kind", "status", "published"]
    assert [line.split()[0] for line in lines[1:]] == list(READ)
    assert "imagenet acc1 0.609 [paper: arXiv 2210.01738]" in ran.out
    told = {line["name"]: line for line in cli("anchors", "recipes", "--json").lines}
    assert {name: line["kind"] for name, line in told.items()} == {name: each.kind for name, each in READ.items()}
    assert all(math.isclose(each["value"], 0.763) for each in told["freeze-align-concepts"]["expected"][:1])
    assert isinstance(READ["imagenet-head"], HeadRecipe)


def test_the_examples_of_the_page(tmp_path: Path) -> None:
    """What docs/recipes.md shows can be read, and lists what there is."""
    page = (ROOT / "docs" / "recipes.md").read_text()
    examples = [part.partition("```")[0] for part in page.split("```toml\n")[1:]]
    kinds: list[str] = []
    for example in examples:
        (tmp_path / "recipe.toml").write_text(example)
        kinds.append(read_recipe(tmp_path / "recipe.toml").kind)
    assert kinds == ["pairs", "head"]
    listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(listed) == list(READ)
    for name, recipe in OF_PAIRS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        published = [f"{100 * each.value:.4g}" for each in recipe.expected[:1]]
        assert f"`{aligner_name(recipe)}`" in row and "not run" in row
        assert all(float(figure) == float(row.split("|")[4].split("%")[0]) for figure in published)
