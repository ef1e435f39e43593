"""`asif classify` as other programs see it: JSON, names of images, vectors, credits, exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.classify_command import CHELSEA, GOOD, classify
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text
from support.running import Cli

from asif.anchorset import Store
from asif.engine import Engine

KEYS = {
    "image",
    "predictions",
    "anchors",
    "aligner",
    "parameters",
    "template_mode",
    "templates",
    "timings_ms",
}


def test_the_json_contract(cli: Cli, head_home: Path, preloaded: None) -> None:
    ran = cli("classify", CHELSEA, "--labels", "dog, cat", "--home", head_home, "--json", "--aligner", "asif")
    assert (ran.code, ran.err) == (0, "")
    (answer,) = ran.lines
    assert set(answer) == KEYS
    assert answer["image"] == CHELSEA
    assert [list(prediction) for prediction in answer["predictions"]] == [["label", "score"]] * 2
    assert answer["predictions"][0]["label"] == "cat"
    assert answer["predictions"][0]["score"] > 10 * answer["predictions"][1]["score"] >= 0
    anchors = Engine(home=head_home).anchors
    assert answer["anchors"] == {"name": "imagenet-head", "version": anchors.version, "digest": anchors.digest}
    assert (answer["aligner"], answer["template_mode"], answer["templates"]) == ("asif", "mean", ["{}"])
    assert answer["parameters"] == {"k": 58, "power": 3.0, "centre": False, "normalise": "both"}
    assert set(answer["timings_ms"]) == {"labels", "encode", "represent", "compare"}
    assert all(milliseconds >= 0 for milliseconds in answer["timings_ms"].values())


def test_the_explanation_contract(cli: Cli, head_home: Path, preloaded: None) -> None:
    ran = cli("classify", CHELSEA, "--labels", "dog,cat", "--home", head_home, "--json", "--explain")
    (answer,) = ran.lines
    assert set(answer) == KEYS | {"explanation", "credits", "profile"}
    assert (answer["aligner"], answer["profile"]) == ("fused", "classify")
    explanation = answer["explanation"]
    assert set(explanation) == {"label", "score", "contributions", "remainder", "others"}
    assert [set(each) for each in explanation["contributions"]] == [{"id", "captions", "contribution"}] * 5
    assert "cat" in explanation["contributions"][0]["captions"][0]
    total = sum(each["contribution"] for each in explanation["contributions"]) + explanation["remainder"]
    assert explanation["label"] == "cat"
    assert total == pytest.approx(answer["predictions"][0]["score"], abs=1e-6)
    assert explanation["score"] == pytest.approx(total, abs=1e-6)


def test_for_people(cli: Cli, head_home: Path, preloaded: None) -> None:
    ran = cli("classify", CHELSEA, "--labels", "cat,dog", "--home", head_home, "--explain")
    (answer,) = cli("classify", CHELSEA, "--labels", "cat,dog", "--home", head_home, "--json", "--explain").lines
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    expected = [f"{each['score']:7.4f}  {each['label']}" for each in answer["predictions"]]
    assert lines[:2] == expected
    assert lines[2] == f"  'cat' has {answer['predictions'][0]['score']:.4f} from these anchors:"
    assert lines[3].split()[1] == answer["explanation"]["contributions"][0]["id"]
    assert lines[8].endswith(f"{answer['explanation']['others']} further anchors")
    assert lines[9:] == [
        *(f"  credit: {pair['id']}  no licence given  {pair['source']}" for pair in answer["credits"]["pairs"]),
        f"  credit: {answer['credits']['others']:,} further pairs: all anchors have a part in such a score",
    ]
    assert answer["credits"]["others"] == answer["explanation"]["others"] > 900


def test_aligner_and_templates_are_recorded(cli: Cli, toys: Path, images: Path) -> None:
    options = ("--aligner", "asif-paper", "--k", 7, "--power", 2, "--template", "a {}", "--template", "{c}!", "--json")
    (answer,) = classify(cli, images / "b.png", *options).lines
    assert (answer["aligner"], answer["template_mode"]) == ("asif-paper", "max")
    assert answer["parameters"] == {"k": 7, "power": 2.0, "centre": False, "normalise": "text"}
    assert answer["templates"] == ["a {}", "{c}!"]
    (other,) = classify(cli, images / "b.png", *options, "--template-mode", "mean").lines
    assert other["template_mode"] == "mean" and other["predictions"] != answer["predictions"]


def test_more_labels_asked_for_than_there_are(cli: Cli, toys: Path, images: Path) -> None:
    every, one = (classify(cli, images / "b.png", "--json", "--top", top).lines[0] for top in (99, 1))
    assert sorted(each["label"] for each in every["predictions"]) == ["cat", "dog", "owl"]
    assert one["predictions"] == every["predictions"][:1]


def test_labels_with_commas_are_quoted(cli: Cli, toys: Path, images: Path) -> None:
    given = ("classify", images / "b.png", "--anchors", "toy", "--json")
    labels = cli(*given, "--labels", 'cat , "red, and blue",6" pipe').lines[0]["predictions"]
    assert sorted(each["label"] for each in labels) == ['6" pipe', "cat", "red, and blue"]


@pytest.mark.parametrize(
    ("given", "stdin", "found"),
    [
        (["images"], b"", ["a.JPG", "b.png", "sub/c.jpeg"]),
        (["images/*.png"], b"", ["b.png"]),
        (["images/**/*.jp*g"], b"", ["sub/c.jpeg"]),
        (["images/b.png", "images/sub"], b"", ["b.png", "sub/c.jpeg"]),
        (["-"], b"images/b.png\r\n\nimages/a.JPG\n", ["b.png", "a.JPG"]),
        (["images/a.JPG", "-"], b"images/b.png", ["a.JPG", "b.png"]),
    ],
)
def test_ways_to_name_images(
    cli: Cli,
    toys: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    stdin: bytes,
    found: list[str],
) -> None:
    (images / "z.webp").unlink()
    monkeypatch.chdir(images.parent)
    ran = classify(cli, *given, "--json", stdin=stdin)
    assert (ran.code, [answer["image"] for answer in ran.lines]) == (0, [f"images/{name}" for name in found])


def test_an_unreadable_image_among_good_ones(cli: Cli, toys: Path, images: Path) -> None:
    alone = classify(cli, images / "b.png", "--json").lines[0]["predictions"]
    ran = classify(cli, images, "--json")
    assert ran.code == 3
    by_name = {Path(answer["image"]).name: answer for answer in ran.lines}
    assert list(by_name) == ["a.JPG", "b.png", "c.jpeg", "z.webp"]
    assert by_name["b.png"]["predictions"] == alone
    assert by_name["z.webp"] == {"image": str(images / "z.webp"), "error": "a bad image"}
    unread, failed = ran.err.splitlines()
    assert unread == f"{images}: not read: 1 file (.txt: 1)"
    assert failed == "1 of 4 images could not be read"
    people = classify(cli, images)
    assert people.code == 3
    expected = [(answer["image"], answer["predictions"][0]) for answer in ran.lines if "predictions" in answer]
    assert [line.split() for line in people.out.splitlines()] == [
        [name, first["label"], f"{first['score']:.4f}"] for name, first in expected
    ]
    assert f"{images / 'z.webp'}: cannot be read: a bad image" in people.err


def test_a_real_unreadable_image(cli: Cli, head_home: Path, preloaded: None, tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(Path(CHELSEA).read_bytes()[:5000])
    ran = cli(
        "classify", tmp_path / "half.png", CHELSEA, "--labels", "dog,cat", "--home", head_home, "--json", "--top", 1
    )
    assert ran.code == 3
    assert "cannot be decoded" in ran.lines[0]["error"]
    assert ran.lines[1]["predictions"][0]["label"] == "cat"


def test_names_that_are_no_utf8(cli: Cli, toys: Path, tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        file.write(b"an image")
    for arguments, stdin in (((tmp_path / "*.png",), b""), (("-",), path)):
        ran = classify(cli, *arguments, "--json", stdin=stdin)
        assert ran.code == 0
        assert ran.lines[0]["image"] == f"{tmp_path}/caf\ufffd.png"
    assert classify(cli, tmp_path, tmp_path).out.count(f"{tmp_path}/caf\ufffd.png  ") == 2
    assert cli("classify", tmp_path, "--anchors", "toy", "--labels", "caf\udce9,dog").code == 2


REFUSED = [
    (["classify", CHELSEA], 2, "neither --labels nor --labels-file"),
    (["classify", CHELSEA, "--labels", "a", "--labels-file", "f"], 2, "both --labels and --labels-file"),
    (["classify", CHELSEA, "--labels", "", "--labels-file", "f"], 2, "both --labels and --labels-file"),
    (["classify", CHELSEA, "--labels", ""], 2, "label 1 of 1 is blank"),
    (["classify", CHELSEA, "--labels", "cat,,dog"], 2, "label 2 of 3 is blank"),
    (["classify", CHELSEA, "--labels", "3, 4.0"], 2, "the labels of --labels are numbers: 3, 4.0"),
    (["classify", CHELSEA, "--labels", "cat,-1"], 2, "label 2 of --labels is '-1', which marks images without a label"),
    (["classify", CHELSEA, "--labels", '"cat" and dog,owl'], 2, "cannot be read"),
    (["classify", CHELSEA, "--labels", "cat,cat "], 2, "the label 'cat' comes 2 times"),
    (["classify", "no.png", *GOOD], 2, "'no.png' is no file, and matches none"),
    (["classify", "no*.png", *GOOD], 2, "'no*.png' is no file, and matches none"),
    (["classify", "x" * 300 + ".png", *GOOD], 2, "is no file, and matches none"),
    (["classify", "-", *GOOD], 2, "no file is listed on stdin"),
    (["classify", *GOOD], 2, "Missing argument 'IMAGE...'"),
    (["classify", CHELSEA, *GOOD, "--top", "0"], 2, "Invalid value for '--top'"),
    (["classify", CHELSEA, *GOOD, "--top", "many"], 2, "Invalid value for '--top'"),
    (["classify", CHELSEA, *GOOD, "--bogus"], 2, "No such option"),
    (["classify", CHELSEA, *GOOD, "--aligner", "clip"], 2, "the aligner is 'clip'"),
    (["classify", CHELSEA, *GOOD, "--aligner", "asif-paper", "--centre"], 2, "asif-paper was given centre"),
    (["classify", CHELSEA, *GOOD, "--k", "0"], 2, "k is 0"),
    (["classify", CHELSEA, *GOOD, "--power", "0"], 2, "power is 0"),
    (["classify", CHELSEA, *GOOD, "--power", "nan"], 2, "power is nan"),
    (["classify", CHELSEA, *GOOD, "--template", "a photo"], 2, "has no place for the label"),
    (["classify", CHELSEA, *GOOD, "--templates", "clip"], 2, "the templates are 'clip'"),
    (["classify", CHELSEA, *GOOD, "--templates", "photo", "--template", "{}"], 2, "--template and --templates"),
    (["classify", CHELSEA, *GOOD, "--template-mode", "median"], 2, "Invalid value for '--template-mode'"),
    (["classify", CHELSEA, *GOOD, "--device", "tpu"], 2, "Invalid value for '--device'"),
    (["classify", CHELSEA, "--labels", "a", "--anchors", "coco"], 2, "one of: toy, vectors"),
    (["classify", CHELSEA, "--labels", "a", "--anchors", "toy@9"], 2, "has no '9'"),
    (["classify", CHELSEA, "--labels", "a", "--anchors", "../../x"], 2, "../../x is no anchor set"),
    (["classify", CHELSEA, "--labels", "a", "--anchors", "/etc"], 2, "/etc is no anchor set"),
    (["classify", CHELSEA, "--labels", "a", "--anchors", "a" * 300], 2, "the anchor set name 'aaaa"),
    (["classify", CHELSEA, "--labels", "a", "--anchors", "./" + "a" * 300], 2, "is no anchor set"),
    (
        ["classify", CHELSEA, "--labels", "a", "--anchors", "vectors", "--aligner", "asif"],
        2,
        "with an anchor set of precomputed vectors",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(check_refused: Callable[..., None], arguments: list[str], code: int, text: str) -> None:
    check_refused(arguments, code, text)


@pytest.mark.parametrize("side", ["image", "text"])
def test_another_encoder_is_exit_4(
    cli: Cli, toys: Path, images: Path, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = (fake_image, fake_text)[side == "text"]().fingerprint.digest, None
    other = (fake_image, fake_text)[side == "text"](weights="mine")
    mine = other.fingerprint.digest
    monkeypatch.setattr(f"asif.engine.encoder_pool.load_{side}_encoder", lambda *_: other)
    ran = classify(cli, images / "b.png")
    assert (ran.code, ran.out) == (4, "")
    assert mine[:12] in ran.err and theirs[:12] in ran.err
    assert f"asif build-anchors PAIRS --name toy --{side}-encoder {other.spec}" in ran.err


def save(path: Path, count: int, dim: int, seed: int) -> Path:
    np.save(path, np.random.default_rng(seed).standard_normal((count, dim)))
    return path


def test_vectors_instead_of_images(cli: Cli, toys: Path, tmp_path: Path) -> None:
    first, second = save(tmp_path / "a.npy", 3, IMAGE_DIM, 1), save(tmp_path / "b.npy", 2, IMAGE_DIM, 2)
    prompts = save(tmp_path / "prompts.npy", 2, TEXT_DIM, 3)
    given = ("--labels", "x,y", "--anchors", "vectors", "--label-vectors", prompts)
    ran = cli("classify", first, second, *given, "--json", "--explain")
    assert ran.code == 0
    names = [f"{first}: vector {at}" for at in range(3)] + [f"{second}: vector {at}" for at in range(2)]
    assert [answer["image"] for answer in ran.lines] == names
    assert ran.lines[3]["predictions"] == cli("classify", second, *given, "--json").lines[0]["predictions"]
    numbered = cli("classify", second, *given, "--labels", "0,1", "--json").lines[0]["predictions"]
    assert [each["score"] for each in numbered] == [each["score"] for each in ran.lines[3]["predictions"]]
    people = cli("classify", first, *given, "--explain")
    assert [f"{first}: vector {at}" in people.out for at in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("count", "dim", "labels", "message"),
    [
        (2, IMAGE_DIM + 1, "x,y", "image vectors, floating point [n, 12]"),
        (2, IMAGE_DIM, "x,y,z", "3: one per label and template"),
    ],
)
def test_vectors_that_do_not_fit(
    cli: Cli, toys: Path, tmp_path: Path, count: int, dim: int, labels: str, message: str
) -> None:
    images, prompts = save(tmp_path / "a.npy", count, dim, 1), save(tmp_path / "p.npy", 2, TEXT_DIM, 3)
    ran = cli("classify", images, "--labels", labels, "--anchors", "vectors", "--label-vectors", prompts)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_images_among_vectors_are_refused(cli: Cli, toys: Path, tmp_path: Path) -> None:
    vectors, prompts = save(tmp_path / "a.npy", 2, IMAGE_DIM, 1), save(tmp_path / "p.npy", 2, TEXT_DIM, 3)
    ran = cli("classify", CHELSEA, vectors, "--labels", "x,y", "--anchors", "vectors", "--label-vectors", prompts)
    assert (ran.code, "chelsea.png cannot be read as .npy" in ran.err) == (2, True)
    np.save(tmp_path / "nan.npy", np.full((2, IMAGE_DIM), np.nan))
    ran = cli("classify", tmp_path / "nan.npy", "--labels", "x,y", "--anchors", "vectors", "--label-vectors", prompts)
    assert (ran.code, "2 of 2 vectors cannot be used (not finite)" in ran.err) == (3, True)


def test_answers_list_the_credits_of_their_pairs(cli: Cli, licensed: Path, images: Path) -> None:
    toy = Store(licensed).open("toy")
    every = {pair.id: pair for pair in toy.records(range(toy.count))}
    given = ("--aligner", "asif", "--k", 20, "--json")
    (plain,) = classify(cli, images / "b.png", *given).lines
    assert "credits" not in plain and set(plain["anchors"]) == {"name", "version", "digest"}
    (explained,) = classify(cli, images / "b.png", *given, "--explain").lines
    (masked,) = classify(cli, images / "b.png", *given, "--license", "CC BY, cc0").lines
    for answer in (explained, masked):
        credits = answer["credits"]
        assert set(credits) == {"label", "pairs", "others"} and credits["others"] == 0
        assert credits["label"] == answer["predictions"][0]["label"]
        for pair in credits["pairs"]:
            record = every[pair["id"]]
            assert pair == {
                "id": record.id, "source": record.source, "licence": record.licence, "url": record.url
            }  # fmt: skip
    named = [each["id"] for each in explained["explanation"]["contributions"]]
    assert named == [pair["id"] for pair in explained["credits"]["pairs"]][: len(named)]
    assert explained["explanation"]["others"] == len(explained["credits"]["pairs"]) - len(named)
    assert {pair["licence"] for pair in masked["credits"]["pairs"]} == {"CC-BY-4.0"}
    every_image = classify(cli, images / "*", "--aligner", "asif", "--json", "--explain").lines
    unmasked = {pair["licence"] for answer in every_image if "credits" in answer for pair in answer["credits"]["pairs"]}
    assert unmasked == {"CC-BY-4.0", None}
    assert masked["anchors"]["licences"] == ["cc-by", "cc0"] and "explanation" not in masked
    people = classify(cli, images / "b.png", "--aligner", "asif", "--k", 20, "--licence", "cc-by", "--explain").out
    credited = [line.split()[1:3] for line in people.splitlines() if line.startswith("  credit: ")]
    assert credited == [[pair["id"], "CC-BY-4.0"] for pair in masked["credits"]["pairs"]]
    for pair in masked["credits"]["pairs"]:
        assert pair["url"] is None or pair["url"] in people


def test_words_of_labels_count_with_an_aligner_that_reads_them(cli: Cli, toys: Path, images: Path) -> None:
    (answer,) = classify(cli, images / "b.png", "--aligner", "cca(words)", "--json", "--explain").lines
    assert (answer["aligner"], answer["parameters"]["words"]) == ("cca(words)", 0.5)
    assert answer["parameters"]["vocabulary"] > 0
    given = cli("classify", "--anchors", "toy", images / "b.png", "--labels", "cat", "--aligner", "cca(words=9)")
    assert given.code == 2 and "words is 9" in given.err


def test_a_dense_aligner_credits_all_anchors(cli: Cli, licensed: Path, images: Path) -> None:
    (answer,) = classify(cli, images / "b.png", "--aligner", "cca", "--json", "--where", "id != 'x'").lines
    assert (len(answer["credits"]["pairs"]), answer["credits"]["others"]) == (5, 15)
    assert answer["anchors"]["where"] == "id != 'x'"
    corrected, plain = (
        classify(cli, images / "b.png", "--aligner", "asif", "--json", "--explain", "--hubness", hubness).lines[0][
            "credits"
        ]
        for hubness in ("nnn", "none")
    )
    assert (len(corrected["pairs"]) + corrected["others"], plain["others"]) == (20, 0)
    people = classify(cli, images / "b.png", "--aligner", "cca+0.5*asif", "--explain").out
    assert people.splitlines()[-1] == "  credit: 15 further pairs: all anchors have a part in such a score"
