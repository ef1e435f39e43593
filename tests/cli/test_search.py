"""asif search from the terminal: forms of output, queries from files, errors, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from support.build_fakes import build_set, list_source, write_parquet
from support.build_images import random_png
from support.galleries import write_files
from support.running import Cli
from support.stand_in_encoders import make_image_encoder, make_text_encoder, replace_encoders


@pytest.fixture
def photos(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    """Return a folder with twelve pictures, of which there is a gallery `g`; the anchors are `toy`."""
    replace_encoders(monkeypatch, tmp_path)
    monkeypatch.setenv("ASIF_SEARCH_ANCHORS", "toy")
    pairs = list_source(*((str(seed), random_png(100 + seed), (f"caption {seed}",)) for seed in range(30)))
    build_set(pairs, home, make_image_encoder(), make_text_encoder()).anchors.close()
    write_files(
        tmp_path / "photos", {f"{'cat' if seed % 2 else 'dog'}/{seed:02}.png": random_png(seed) for seed in range(12)}
    )
    monkeypatch.chdir(tmp_path)
    built = cli("gallery", "build", "photos", "--name", "g", "--anchors", "toy")
    assert built.code == 0, built.err
    return tmp_path / "photos"


def test_a_search_in_all_forms(photos: Path, cli: Cli) -> None:
    found = cli("search", "g", "--text", "a dog", "-k", "3", "--json")
    assert found.code == 0, found.err
    answer = found.json
    assert (answer["query"], answer["searched"], answer["space"], len(answer["results"])) == ("a dog", 12, "shared", 3)
    assert set(answer["results"][0]) == {"id", "uri", "score", "chance"}
    assert answer["gallery"]["name"] == "g" and answer["anchors"]["name"] == "toy"
    assert answer["aligner"] == "cca(words)" and set(answer["timings_ms"]) == {
        *("encode", "represent", "compare", "chance", "describe")
    }
    shown = cli("search", "g", "--text", "a dog", "-k", "3").out.splitlines()
    assert shown[0] == "a dog" and shown[1].endswith("of 12 are above chance")
    assert [line.split()[-1] for line in shown[2:]] == [result["uri"] for result in answer["results"]]
    rows = list(csv.DictReader(cli("search", "g", "--text", "a dog", "-k", "3", "--csv").out.splitlines()))
    assert [(row["id"], float(row["score"])) for row in rows] == [
        (result["id"], result["score"]) for result in answer["results"]
    ]


def test_images_ids_and_parts(photos: Path, cli: Cli) -> None:
    image = cli("search", "g", "--image", "photos/cat/03.png", "--json").json
    item = cli("search", "g", "--id", "cat/03.png", "--json").json
    assert image["results"][0]["id"] == item["results"][0]["id"] == "cat/03.png"
    assert (image["space"], image["aligner"]) == ("image", None) and "hubness" not in image
    both = cli(
        "search", "g", "--text", "2:a dog", "--image", "photos/cat/03.png", "--minus", "x", "--explain", "--json"
    )
    assert both.json["query"] == "2:a dog + photos/cat/03.png - x"
    for result in both.json["results"]:
        reasons = result["explanation"]
        total = sum(each["contribution"] for each in reasons["contributions"]) + reasons["remainder"]
        assert total + reasons.get("hubness", 0) == pytest.approx(result["score"], abs=1e-4)
        assert [part["weight"] for part in reasons["parts"]] == [2.0, 1.0, -1.0]
    shown = cli("search", "g", "--text", "a dog", "--text", "a cat", "-k", "1", "--explain").out
    assert "of which a dog " in shown and "25 further anchors" in shown


def test_queries_from_files(photos: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\ufeffa dog\n\n  a cat \n", encoding="utf-8")
    answers = cli("search", "g", "--texts-file", "texts.txt", "-k", "2", "--json").lines
    assert [(answer["query"], len(answer["results"])) for answer in answers] == [("a dog", 2), ("a cat", 2)]
    (tmp_path / "images.txt").write_text("photos/cat/03.png\nmissing.png\nphotos/dog/02.png\n")
    ran = cli("search", "g", "--images-file", "images.txt", "-k", "1", "--json")
    assert ran.code == 3 and "1 of 3 queries" in ran.err
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["results"][0]["id"] if "results" in line else "error" for line in lines] == [
        *("cat/03.png", "error", "dog/02.png")
    ]


def test_filters_pages_and_relevance(photos: Path, cli: Cli) -> None:
    cats = cli("search", "g", "--text", "a dog", "--where", "label = 'cat'", "--json").json
    assert cats["searched"] == len(cats["results"]) == 6
    page = cli("search", "g", "--text", "a dog", "--where", "label = 'cat'", "--offset", "4", "--json").json
    assert page["results"] == cats["results"][4:]
    nothing = cli("search", "g", "--text", "a dog", "--where", "label = 'bird'")
    assert nothing.code == 2 and "known values of label: cat, dog" in nothing.err
    relevant = cli("search", "g", "--text", "a dog", "--only-relevant").out.splitlines()
    assert relevant[1].startswith(f"  {len(relevant) - 2} of 12 are above chance")


def test_a_search_by_words_too(photos: Path, cli: Cli) -> None:
    with_words, without = (
        cli("search", "g", "--text", "caption 3", "--aligner", name, "--json").json for name in ("cca(words)", "cca")
    )
    assert (with_words["aligner"], with_words["parameters"]["vocabulary"]) == (
        "cca(words)",
        0,
    )  # one word, in all captions
    assert "vocabulary" not in without["parameters"]
    assert [each["id"] for each in with_words["results"]] != [each["id"] for each in without["results"]]


def test_an_approximate_search_is_called_so(photos: Path, cli: Cli) -> None:
    ran = cli("search", "g", "--text", "a dog", "--approximate", "--aligner", "cca")
    assert ran.code == 0 and "the search is approximate and finds " in ran.out
    assert 0.95 <= cli("search", "g", "--text", "a dog", "--approximate", "--json").json["recall"] <= 1
    assert "recall" not in cli("search", "g", "--text", "a dog", "--json").json


def test_duplicates(photos: Path, cli: Cli) -> None:
    write_files(photos, {"copy.png": random_png(3), "copy2.png": random_png(3), "copy of 4.png": random_png(4)})
    assert cli("gallery", "update", "g").code == 0
    groups = cli("gallery", "duplicates", "g", "--near", "1", "--json").lines
    assert [[item["id"] for item in group["items"]] for group in groups] == [
        ["cat/03.png", "copy.png", "copy2.png"],
        ["copy of 4.png", "dog/04.png"],
    ]
    assert "2 groups; 3 of 15 items" in cli("gallery", "duplicates", "g", "--near", "1").out
    assert cli("gallery", "duplicates", "g", "--near", "0").code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", " "], "a query without text"),
        ([], "no query"),
        (["--minus", "a dog"], "only takes away"),
        (["--text", "a", "--texts-file", "x.txt"], "several kinds of queries"),
        (["--texts-file", "x.txt"], "x.txt cannot be read"),
        (["--text", "a", "--csv", "--json"], "--csv with --json"),
        (["--id", "no/such.png"], "no item 'no/such.png'"),
        (["--text", "a", "--where", "size = '1'"], "size"),
    ],
)
def test_what_is_refused(photos: Path, cli: Cli, arguments: list[str], message: str) -> None:
    ran = cli("search", "g", *arguments)
    assert ran.code == 2 and message in ran.err and ran.out == ""


def test_an_unknown_gallery(photos: Path, cli: Cli) -> None:
    ran = cli("search", "gg", "--text", "a")
    assert ran.code == 2 and "there is no gallery 'gg'" in ran.err


def test_a_page_with_thumbnails_and_reasons(photos: Path, cli: Cli, tmp_path: Path) -> None:
    assert cli("gallery", "build", "photos", "--name", "g", "--anchors", "toy", "--thumbnails", "--fresh").code == 0
    ran = cli("search", "g", "--text", "a <dog>", "-k", "4", "--html", "out.html")
    assert ran.code == 0, ran.err
    assert "further" not in ran.out
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 4 and "a &lt;dog&gt;" in page and "caption " in page
    assert "<script src" not in page and "further" in page
    assert "<use" not in page and "no picture" not in ran.err  # the pairs came from no file
    again = cli("search", "g", "--text", "a dog", "--html", "out.html")
    assert again.code == 2 and "exists already" in again.err
    assert cli("search", "g", "--text", "a dog", "--html", "out.html", "--overwrite").code == 0


def test_the_page_has_pictures_of_the_pairs_that_are_still_there(photos: Path, cli: Cli, tmp_path: Path) -> None:
    images = [random_png(200 + seed) for seed in range(8)]
    captions, ids = [f"a {seed}" for seed in range(8)], [f"p{seed}" for seed in range(8)]
    pairs = write_parquet(tmp_path / "pairs.parquet", images, captions, id=ids)
    encoders = ("--image-encoder", "timm:fake", "--text-encoder", "sentence-transformers:fake")
    assert cli("build-anchors", pairs, "--name", "seen", *encoders).code == 0
    search = ("search", "g", "--text", "a dog", "-k", "12", "--anchors", "seen", "--html", "out.html", "--overwrite")
    ran = cli(*search)
    assert ran.code == 0 and "no picture" not in ran.err, ran.err
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    embedded = page.count("<image ")
    assert 5 <= embedded <= 8 and page.count("<use ") == 12 * 5 and page.count("data:image/webp;base64,") == embedded
    write_parquet(pairs, [*images[:-1], images[0]], captions, id=ids)
    ran = cli(*search, "--explain", "--json")
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    named = [one["id"] for each in ran.json["results"] for one in each["explanation"]["contributions"]]
    assert page.count("<use ") == 60 - named.count("p7") < 60
    assert f"1 of {embedded} pairs have no picture: their images are not in {pairs}" in ran.err
