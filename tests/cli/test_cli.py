"""The command line as other programs see it: exit codes, stdout, stderr, JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text, make_precomputed, make_set
from support.paths import SUPPORT
from support.running import Cli, Ran

from asif.anchorset import Store
from asif.cli.app import COMMANDS, asif
from asif.engine import Engine
from asif.prompts import TEMPLATES_BY_NAME

DATA = Path(skimage.__path__[0]) / "data"
CHELSEA = str(DATA / "chelsea.png")
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


@pytest.fixture
def fakes(home: Path, hashing: None) -> Path:
    """Return ASIF_HOME with the sets `toy` and `vectors`, and let engines load fake encoders."""
    make_set(home).close()
    make_precomputed(home.parent / "pairs", home).close()
    return home


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with images, one of them broken, and other files."""
    for name in ("b.png", "a.JPG", "sub/c.jpeg", "sub/notes.txt", "z.webp"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bad" if name == "z.webp" else name.encode())
    return tmp_path / "images"


def classify(cli: Cli, *arguments: object, **given: Any) -> Ran:
    return cli("classify", "--anchors", "toy", "--labels", "cat,dog,owl", *arguments, **given)


# ---- classify: what other programs rely on


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


def test_aligner_and_templates_are_recorded(cli: Cli, fakes: Path, images: Path) -> None:
    options = ("--aligner", "asif-paper", "--k", 7, "--power", 2, "--template", "a {}", "--template", "{c}!", "--json")
    (answer,) = classify(cli, images / "b.png", *options).lines
    assert (answer["aligner"], answer["template_mode"]) == ("asif-paper", "max")
    assert answer["parameters"] == {"k": 7, "power": 2.0, "centre": False, "normalise": "text"}
    assert answer["templates"] == ["a {}", "{c}!"]
    (other,) = classify(cli, images / "b.png", *options, "--template-mode", "mean").lines
    assert other["template_mode"] == "mean" and other["predictions"] != answer["predictions"]


def test_templates_by_name(cli: Cli, fakes: Path, images: Path) -> None:
    (named,) = classify(cli, images / "b.png", "--templates", "aerial", "--json").lines
    written = [option for template in TEMPLATES_BY_NAME["aerial"] for option in ("--template", template)]
    (same,) = classify(cli, images / "b.png", *written, "--json").lines
    assert named["templates"] == same["templates"] == list(TEMPLATES_BY_NAME["aerial"])
    assert named["predictions"] == same["predictions"]


def test_more_labels_asked_for_than_there_are(cli: Cli, fakes: Path, images: Path) -> None:
    every, one = (classify(cli, images / "b.png", "--json", "--top", top).lines[0] for top in (99, 1))
    assert sorted(each["label"] for each in every["predictions"]) == ["cat", "dog", "owl"]
    assert one["predictions"] == every["predictions"][:1]


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
    fakes: Path,
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


def test_an_unreadable_image_among_good_ones(cli: Cli, fakes: Path, images: Path) -> None:
    alone = classify(cli, images / "b.png", "--json").lines[0]["predictions"]
    ran = classify(cli, images, "--json")
    assert ran.code == 3
    by_name = {Path(answer["image"]).name: answer for answer in ran.lines}
    assert list(by_name) == ["a.JPG", "b.png", "c.jpeg", "z.webp"]
    assert by_name["b.png"]["predictions"] == alone
    assert by_name["z.webp"] == {"image": str(images / "z.webp"), "error": "a bad image"}
    assert ran.err == "1 of 4 images could not be read\n"
    people = classify(cli, images)
    assert people.code == 3
    assert people.out.count("  cat\n") == 3 and "z.webp" not in people.out
    assert f"{images / 'z.webp'}: cannot be read: a bad image" in people.err


def test_a_real_unreadable_image(cli: Cli, head_home: Path, preloaded: None, tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(Path(CHELSEA).read_bytes()[:5000])
    ran = cli(
        "classify", tmp_path / "half.png", CHELSEA, "--labels", "dog,cat", "--home", head_home, "--json", "--top", 1
    )
    assert ran.code == 3
    assert "cannot be decoded" in ran.lines[0]["error"]
    assert ran.lines[1]["predictions"][0]["label"] == "cat"


def test_names_that_are_no_utf8(cli: Cli, fakes: Path, tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        file.write(b"an image")
    for arguments, stdin in (((tmp_path / "*.png",), b""), (("-",), path)):
        ran = classify(cli, *arguments, "--json", stdin=stdin)
        assert ran.code == 0
        assert ran.lines[0]["image"] == f"{tmp_path}/caf\ufffd.png"
    assert classify(cli, tmp_path, tmp_path).out.count(f"{tmp_path}/caf\ufffd.png\n") == 2
    assert cli("classify", tmp_path, "--anchors", "toy", "--labels", "caf\udce9,dog").code == 2


# ---- labels


def test_labels_from_a_file(cli: Cli, fakes: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffcat\r\ndog \r\nred, and blue\r\n\r\n".encode())
    ran = cli("classify", images / "b.png", "--anchors", "toy", "--labels-file", tmp_path / "labels.txt", "--json")
    assert ran.code == 0
    assert sorted(each["label"] for each in ran.lines[0]["predictions"]) == ["cat", "dog", "red, and blue"]


def files(tmp_path: Path) -> dict[str, Path]:
    """Return label files that cannot be used."""
    contents = {
        "empty": b"",
        "blank": b"cat\n\ndog\n",
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
        ("empty", "label 1 of 1 is blank"),
        ("blank", "label 2 of 3 is blank"),
        ("twice", "the label 'cat' comes 2 times"),
        ("latin", "can't decode byte 0xe9"),
        ("nul", "contains a NUL character"),
        ("missing", "No such file"),
        ("folder", "Is a directory"),
    ],
)
def test_label_files_that_cannot_be_used(cli: Cli, fakes: Path, tmp_path: Path, name: str, message: str) -> None:
    ran = cli("classify", CHELSEA, "--anchors", "toy", "--labels-file", files(tmp_path)[name])
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err and "expected:" in ran.err and "to do:" in ran.err


# ---- the table of what is refused


GOOD = ["--labels", "cat,dog", "--anchors", "toy"]
REFUSED = [
    (["classify", CHELSEA], 2, "neither --labels nor --labels-file"),
    (["classify", CHELSEA, "--labels", "a", "--labels-file", "f"], 2, "both --labels and --labels-file"),
    (["classify", CHELSEA, "--labels", "", "--labels-file", "f"], 2, "both --labels and --labels-file"),
    (["classify", CHELSEA, "--labels", ""], 2, "label 1 of 1 is blank"),
    (["classify", CHELSEA, "--labels", "cat,,dog"], 2, "label 2 of 3 is blank"),
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
    (["classify", CHELSEA, "--labels", "a", "--anchors", "vectors"], 2, "with an anchor set of precomputed vectors"),
    (["anchors", "info", "../../x"], 2, "../../x is no anchor set"),
    (["anchors", "info", "/etc/passwd"], 2, "/etc/passwd is no anchor set"),
    (["anchors", "info", "a" * 300], 2, "the anchor set name"),
    (["anchors", "info", "Toy"], 2, "the anchor set name 'Toy'"),
    (["anchors", "info", "tоy"], 2, "the anchor set name 't\\u043ey'"),  # noqa: RUF001  a look-alike
    (["anchors", "info", "toy@"], 2, "the alias ''"),
    (["anchors", "info", "toy..x"], 2, "no '..'"),
    (["anchors", "verify", "nothing"], 2, "there is no anchor set 'nothing'"),
    (["anchors", "verify", "../toy"], 2, "../toy is no anchor set"),
    (["anchors", "forget"], 2, "No such command 'forget'"),
    (["build-anchors", "pairs", "--name", "../../x"], 2, "the anchor set name '../../x'"),
    (["build-anchors", "pairs", "--name", "/tmp/x"], 2, "the anchor set name '/tmp/x'"),
    (["build-anchors", "pairs", "--name", "a" * 300], 2, "the anchor set name"),
    (["bogus"], 2, "No such command 'bogus'"),
    (["--bogus"], 2, "No such option"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(
    cli: Cli, fakes: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, text: str
) -> None:
    monkeypatch.chdir(fakes.parent)
    before = sorted(path for path in fakes.rglob("*") if path.is_file())
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err and "Traceback" not in ran.err
    assert sorted(path for path in fakes.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("side", ["image", "text"])
def test_another_encoder_is_exit_4(
    cli: Cli, fakes: Path, images: Path, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = (fake_image, fake_text)[side == "text"]().fingerprint.digest, None
    other = (fake_image, fake_text)[side == "text"](weights="mine")
    mine = other.fingerprint.digest
    monkeypatch.setattr(f"asif.engine.encoder_pool.load_{side}_encoder", lambda spec, device: other)
    ran = classify(cli, images / "b.png")
    assert (ran.code, ran.out) == (4, "")
    assert mine[:12] in ran.err and theirs[:12] in ran.err
    assert f"asif build-anchors PAIRS --name toy --{side}-encoder {other.spec}" in ran.err


# ---- vectors


def save(path: Path, count: int, dim: int, seed: int) -> Path:
    np.save(path, np.random.default_rng(seed).standard_normal((count, dim)))
    return path


def test_vectors_instead_of_images(cli: Cli, fakes: Path, tmp_path: Path) -> None:
    first, second = save(tmp_path / "a.npy", 3, IMAGE_DIM, 1), save(tmp_path / "b.npy", 2, IMAGE_DIM, 2)
    prompts = save(tmp_path / "prompts.npy", 2, TEXT_DIM, 3)
    given = ("--labels", "x,y", "--anchors", "vectors", "--label-vectors", prompts)
    ran = cli("classify", first, second, *given, "--json", "--explain")
    assert ran.code == 0
    names = [f"{first}: vector {at}" for at in range(3)] + [f"{second}: vector {at}" for at in range(2)]
    assert [answer["image"] for answer in ran.lines] == names
    assert ran.lines[3]["predictions"] == cli("classify", second, *given, "--json").lines[0]["predictions"]
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
    cli: Cli, fakes: Path, tmp_path: Path, count: int, dim: int, labels: str, message: str
) -> None:
    images, prompts = save(tmp_path / "a.npy", count, dim, 1), save(tmp_path / "p.npy", 2, TEXT_DIM, 3)
    ran = cli("classify", images, "--labels", labels, "--anchors", "vectors", "--label-vectors", prompts)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_images_among_vectors_are_refused(cli: Cli, fakes: Path, tmp_path: Path) -> None:
    vectors, prompts = save(tmp_path / "a.npy", 2, IMAGE_DIM, 1), save(tmp_path / "p.npy", 2, TEXT_DIM, 3)
    ran = cli("classify", CHELSEA, vectors, "--labels", "x,y", "--anchors", "vectors", "--label-vectors", prompts)
    assert (ran.code, "chelsea.png cannot be read as .npy" in ran.err) == (2, True)
    np.save(tmp_path / "nan.npy", np.full((2, IMAGE_DIM), np.nan))
    ran = cli("classify", tmp_path / "nan.npy", "--labels", "x,y", "--anchors", "vectors", "--label-vectors", prompts)
    assert (ran.code, "2 of 2 vectors cannot be used (not finite)" in ran.err) == (3, True)


# ---- anchors


def test_list_and_info(cli: Cli, fakes: Path) -> None:
    entries = {entry["name"]: entry for entry in cli("anchors", "list", "--json").lines}
    assert list(entries) == ["toy", "vectors"]
    assert entries["toy"]["count"] == 20 and entries["toy"]["error"] is None
    assert entries["toy"]["encoders"] == {"image": "timm:fake", "text": "sentence-transformers:fake"}
    (about,) = cli("anchors", "info", "toy", "--json").lines
    assert (about["version"], about["anchors"]) == (entries["toy"]["version"], 20)
    assert about["encoders"]["image"]["fingerprint"] == fake_image().fingerprint.digest
    assert cli("anchors", "info", "toy@1", "--json").lines == [about]
    table = cli("anchors", "list").out.splitlines()
    assert table[0].split() == ["name", "version", "anchors", "size", "encoders"]
    assert [line.split()[:3] for line in table[1:]] == [[n, e["version"], "20"] for n, e in entries.items()]
    assert f"digest: {about['digest']}" in cli("anchors", "info", "toy").out.splitlines()


def test_no_sets_yet(cli: Cli, home: Path) -> None:
    ran = cli("anchors", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "no anchor sets yet" in ran.err
    assert cli("anchors", "list", "--json") == Ran(0, "", "")
    assert not home.exists()


def test_a_broken_set_does_not_hide_the_others(cli: Cli, fakes: Path) -> None:
    shutil.copytree(fakes / "anchors" / "toy", fakes / "anchors" / "misnamed")
    (fakes / "anchors" / "empty").mkdir()
    shutil.copytree(fakes / "anchors" / "toy", fakes / "anchors" / "garbled")
    (fakes / "anchors" / "garbled" / "aliases.json").write_text("{")
    ran = cli("anchors", "list", "--json")
    errors = {entry["name"]: entry["error"] for entry in ran.lines}
    assert ran.code == 0
    assert {name for name, error in errors.items() if error is None} == {"toy", "vectors"}
    assert set(errors) == {"toy", "vectors", "misnamed", "empty", "garbled"}
    table = {line.split()[0]: line for line in cli("anchors", "list").out.splitlines()}
    assert all("broken: " in table[name] for name in ("misnamed", "empty", "garbled"))
    assert "broken" not in table["toy"]
    assert cli("anchors", "info", "garbled").code == 5


def test_verify_finds_a_flipped_byte(cli: Cli, fakes: Path) -> None:
    ran = cli("anchors", "verify", "toy")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("toy: ") and ran.out.endswith("all as written\n")
    assert cli("anchors", "verify", "toy", "--json").lines[0]["problems"] == []
    block = next((fakes / "anchors" / "toy" / "blocks").iterdir())
    content = bytearray(block.read_bytes())
    content[-100] ^= 1
    block.write_bytes(bytes(content))
    ran = cli("anchors", "verify", "toy")
    assert (ran.code, ran.out) == (5, "")
    assert block.name in ran.err
    ran = cli("anchors", "verify", "toy", "--json")
    assert ran.code == 5 and block.name in ran.lines[0]["problems"][0]
    assert cli("anchors", "verify", "vectors").code == 0
    block.write_bytes(bytes(content[:-1]))
    assert cli("classify", CHELSEA, *GOOD).code == 5  # opening sees the size at least


# ---- the surroundings


def test_every_command_has_help(cli: Cli) -> None:
    overview = cli("--help")
    assert (overview.code, overview.err) == (0, "")
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name}" in overview.out and summary in overview.out
        ran = cli(name, "-h")
        assert (ran.code, ran.err) == (0, "")
        assert f"Usage: asif {name}" in ran.out
    assert cli("--version").out.startswith("asif, version ")


def test_every_option_has_its_variable() -> None:
    context: Any = None
    for name in COMMANDS:
        command: Any = asif.get_command(context, name)
        for one, prefix in [
            (command, name),
            *((sub, f"{name}_{key}") for key, sub in getattr(command, "commands", {}).items()),
        ]:
            for option in one.params:
                if option.param_type_name == "option":
                    longest = max(option.opts, key=len)[2:]
                    variable = f"ASIF_{prefix}_{longest}".upper().replace("-", "_")
                    assert variable in option.envvar


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("ASIF_CLASSIFY_TOP", "2", lambda ran: len(ran.lines[0]["predictions"]) == 2),
        ("ASIF_CLASSIFY_K", "3", lambda ran: ran.lines[0]["parameters"]["k"] == 3),
        (
            "ASIF_CLASSIFY_TEMPLATE",
            "a photo of {}\nthe {c}",
            lambda ran: ran.lines[0]["templates"] == ["a photo of {}", "the {c}"],
        ),
        ("ASIF_CLASSIFY_EXPLAIN", "1", lambda ran: "explanation" in ran.lines[0]),
        ("ASIF_CLASSIFY_ALIGNER", "asif-paper", lambda ran: ran.lines[0]["aligner"] == "asif-paper"),
    ],
)
def test_options_by_environment(
    cli: Cli, fakes: Path, images: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: Any
) -> None:
    monkeypatch.setenv("ASIF_CLASSIFY_JSON", "1")
    plain = classify(cli, images / "b.png")
    assert plain.code == 0 and not check(plain)
    monkeypatch.setenv(variable, value)
    assert check(classify(cli, images / "b.png"))


def test_the_command_line_goes_before_the_environment(
    cli: Cli, fakes: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASIF_CLASSIFY_TOP", "1")
    assert len(classify(cli, images / "b.png", "--json", "--top", 3).lines[0]["predictions"]) == 3
    monkeypatch.setenv("ASIF_CLASSIFY_TOP", "none")
    assert classify(cli, images / "b.png").code == 2


@pytest.mark.parametrize("arguments", [["--labels", "cat,dog"], ["--labels", ""]])
def test_no_color(cli: Cli, fakes: Path, images: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    (images / "z.webp").unlink()
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = cli("classify", images, "--anchors", "toy", *arguments)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = cli("classify", images, "--anchors", "toy", *arguments)
    assert "\x1b[" in coloured.out + coloured.err
    assert "\x1b[" not in plain.out + plain.err
    assert plain.code == coloured.code
    assert len(plain.out + plain.err) > 50


def test_stdout_has_data_only(cli: Cli, fakes: Path, images: Path) -> None:
    ran = classify(cli, images, "--json")
    assert len(ran.lines) == 4 and "could not be read" in ran.err
    assert cli("anchors", "info", "coco").out == ""


def test_a_full_disk_is_exit_6_and_an_interruption_130(cli: Cli, fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_with(error: BaseException) -> Ran:
        def open_anchors(*_: Any, **__: Any) -> Any:
            raise error

        monkeypatch.setattr("asif.engine.snapshots.open_anchors", open_anchors)
        return cli("classify", CHELSEA, *GOOD)

    assert fail_with(OSError(28, "No space left on device")).code == 6
    assert fail_with(MemoryError()).code == 6
    assert fail_with(PermissionError(13, "Permission denied")).code == 1
    interrupted = fail_with(KeyboardInterrupt())
    assert interrupted.code == 130
    assert "interrupted" in interrupted.err


HEAVY = "{'torch', 'timm', 'pyarrow', 'numpy', 'PIL', 'transformers', 'sentence_transformers', 'faiss', 'scipy'}"


@pytest.mark.parametrize(
    "code",
    [
        "import asif",
        "import asif.cli; sys.argv = ['asif', '--help']; asif.cli.main()",
        "import asif.cli; sys.argv = ['asif', 'classify', '--help']; asif.cli.main()",
        "import asif.cli; sys.argv = ['asif', 'eval', '--help']; asif.cli.main()",
    ],
)
def test_light_at_first(code: str) -> None:
    script = f"import sys; {code}; assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


# ---- P26, P11: without a network, and executing nothing that was stored


def offline(report: Path, home: Path, labels: str, tmp_path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    script = SUPPORT / "engine_offline.py"
    command = [
        sys.executable,
        str(script),
        str(report),
        "classify",
        CHELSEA,
        "--labels",
        labels,
        "--json",
        "--home",
        str(home),
    ]
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HF_HOME": str(tmp_path / "hf")},
    )
    assert ran.returncode == 0, ran.stderr
    return Ran(0, ran.stdout, ran.stderr).lines, json.loads(report.read_text())


@pytest.mark.parametrize("cached", [True, False])
def test_offline_and_executing_nothing(head_home: Path, preloaded: None, tmp_path: Path, cached: bool) -> None:
    labels = ("a kitten", "a hound") if cached else ("a feline never asked for", "a canine never asked for")
    if cached:
        Engine(home=head_home).encode_texts(labels)
    (answer,), seen = offline(tmp_path / "report.json", head_home, ",".join(labels), tmp_path)
    assert answer["predictions"][0]["label"] == labels[0]
    assert seen["events"] == {}
    assert seen["loads"] == [{"file": "efficientnet-lite0-57934424.pth", "weights_only": True}]
    assert ("sentence_transformers" in seen["modules"]) is not cached
    assert "timm" in seen["modules"]


# ---- licences, masks and unions


@pytest.fixture
def licensed(home: Path, hashing: None) -> Path:
    """Return ASIF_HOME with the sets `toy` and `own`: half of their pairs are CC-BY-4.0."""
    make_set(home).close()
    make_set(home, "own", seed=1).close()
    return home


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


def test_masks_and_unions_answer_as_the_sets_would(cli: Cli, licensed: Path, images: Path) -> None:
    given = ("classify", images / "b.png", "--labels", "cat,dog,owl", "--aligner", "cca", "--json", "--anchors")
    assert cli("anchors", "merge", "toy", "own", "--name", "both").code == 0
    assert cli("anchors", "subset", "both", "--where", "licence = 'CC-BY-4.0'", "--name", "by").code == 0
    for view, name in ((("toy+own",), "both"), (("toy+own", "--license", "cc-by"), "by"), (("by+toy@1+own",), "both")):
        (found,), (expected,) = (cli(*given, *which).lines for which in (view, (name,)))
        assert found["predictions"] == expected["predictions"]
        assert found["anchors"]["digest"] == expected["anchors"]["digest"]
    assert found["anchors"]["name"] == "by+toy+own"


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
