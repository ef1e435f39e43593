"""Encoder pairs ranked on the command line: order, verdict, warnings, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.encoder_pairs import FOUR, Meaning, vectors
from support.engine_sets import IMAGE_DIM, TEXT_DIM, make_set
from support.running import Cli

from asif.evaluate.encoder_pairs.alignment import EncoderSpace, measure_alignment
from asif.evaluate.encoder_pairs.embeddings import EncodedPairs, EncodedSide
from asif.evaluate.encoder_pairs.ranking import describe_choices, find_ranking_warnings, rank_encoder_pairs
from asif.vectors import Embeddings, Fingerprint

MEASURES = ("cka", "cka_debiased", "mutual_knn")


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


def test_a_disagreement_is_said(home: Path) -> None:
    """One encoder keeps the one direction that matters most, the other everything but that."""
    random = np.random.default_rng(0)
    loud, fine = 3 * random.standard_normal((80, 1)), random.standard_normal((80, 4))
    noise = random.standard_normal((80, 5))
    text = np.hstack([loud, fine])

    def encoded(side: Any, name: str, rows: Any) -> EncodedSide:
        return EncodedSide(side, name, Fingerprint({"model": name}), Embeddings.from_raw(rows).values)

    images = (encoded("image", "loud", np.hstack([loud, noise])), encoded("image", "fine", np.hstack([loud / 9, fine])))
    ranked = rank_encoder_pairs(EncodedPairs(images, (encoded("text", "t", text),)), k=5)
    lines = describe_choices(ranked)
    by = {measure: max(ranked, key=lambda pair: getattr(pair.alignment, measure).value).name for measure in MEASURES}
    assert by["cka"] == "loud + t" and by["mutual_knn"] == "fine + t" == ranked[0].name
    assert lines[0].endswith("linear CKA: loud + t")
    assert lines[-1].startswith("they disagree")
    assert find_ranking_warnings(ranked) == []


@pytest.mark.realdata
def test_real_pairs_align_and_shuffled_ones_do_not(realdata: Path) -> None:
    folder = realdata / "flickr8k" / "features"
    image = Embeddings.from_raw(np.load(folder / "dev-image-lite0.npy")).values
    text = Embeddings.from_raw(np.load(folder / "dev-text-minilm.npy")[:, 0]).values
    right, order = EncoderSpace.of(text), np.random.default_rng(1).permutation(len(text))
    real = measure_alignment(EncoderSpace.of(image), right, permutations=50)
    apart = measure_alignment(EncoderSpace.of(image), EncoderSpace.of(text[order]), permutations=50)
    for measure in MEASURES:
        found, chance = getattr(real, measure), getattr(apart, measure)
        assert found.p == pytest.approx(1 / 51) and found.z > 50
        assert abs(chance.z) < 4
