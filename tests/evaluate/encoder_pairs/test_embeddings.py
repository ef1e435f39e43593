"""Pairs whose embeddings are read from anchor sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.encoder_pairs import Meaning
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text, make_precomputed, make_set
from support.running import Cli

import asif
from asif.errors import InputRefused
from asif.evaluate.encoder_pairs.embeddings import add_joins, read_stored_pairs
from asif.evaluate.encoder_pairs.ranking import describe_choices, rank_encoder_pairs


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
    seen = read_stored_pairs([anchors], 20)
    stored = np.concatenate(anchors.blocks("image")).astype(np.float64)
    np.testing.assert_allclose(seen.images[0].values, stored / np.linalg.norm(stored, axis=1)[:, None], atol=1e-7)
    assert describe_choices(rank_encoder_pairs(seen, 3)) == []  # one pair leaves no choice
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


def test_joins_of_stored_embeddings(encoders: Cli, home: Path) -> None:
    """Each two encoders of a side, and all of them; neither names nor figures depend on the order of the sets."""
    sets = [
        make_set(home, name, fake_image(model=name), fake_text(model=name), seed=0, texts=rows)
        for name, rows in zip("abc", np.random.default_rng(1).standard_normal((3, 20, TEXT_DIM)), strict=True)
    ]
    assert len(encoders("compare", "a", "b", "c", "--json", "--k", 3, "--permutations", 2).lines) == 9
    ran = encoders("compare", "a", "b", "c", "--joins", "--json", "--k", 3, "--permutations", 2)
    assert len(ran.lines) == 7 * 7
    assert {line["text"]["dim"] for line in ran.lines} == {TEXT_DIM, 2 * TEXT_DIM, 3 * TEXT_DIM}
    turned = encoders("compare", "c", "a", "b", "--joins", "--json", "--k", 3, "--permutations", 2)
    assert ran.code == 0 and turned.lines == ran.lines
    joined = add_joins(read_stored_pairs(sets[:2], 20))
    (*alone, both) = joined.texts
    assert [side.spec for side in alone] == ["sentence-transformers:fake"] * 2
    assert both.spec == "sentence-transformers:fake (a@1)+sentence-transformers:fake (b@1)"
    np.testing.assert_allclose(both.values, np.hstack([side.values for side in alone]) / np.sqrt(2), atol=1e-7)
    refused = encoders("compare", "a", "--joins")
    assert refused.code == 2 and "joins of 1 image and 1 text encoders" in refused.err


def test_captions_that_are_anchors_are_one_pair_again(
    loaded: dict[str, Meaning], monkeypatch: pytest.MonkeyPatch, home: Path, pairs: Path
) -> None:
    image, text = Meaning(IMAGE_DIM, "timm:0", {"model": "i"}), Meaning(TEXT_DIM, "st:1", {"model": "t"}, noise=1)
    monkeypatch.setattr("asif.engine.build.load_image_encoder", lambda *_: image)
    monkeypatch.setattr("asif.engine.build.load_text_encoder", lambda *_: text)
    mean, each = (
        asif.build_anchors(pairs, name, home=home, options=asif.BuildOptions(captions=name, dtype="float32")).anchors
        for name in ("mean", "all")
    )
    assert (mean.count, each.count) == (60, 120)
    one, other = read_stored_pairs([mean], 60), read_stored_pairs([each], 60)
    for left, right in ((one.images, other.images), (one.texts, other.texts)):
        np.testing.assert_allclose(left[0].values, right[0].values, atol=1e-6)
    both = read_stored_pairs([mean, each], 60)
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
        read_stored_pairs([asif.open_anchors(name, home=home) for name in "ca"], 5)


def test_a_set_goes_before_a_folder_of_its_name(
    encoders: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_precomputed(tmp_path / "toy", home, "other").close()
    make_set(home, "toy")
    monkeypatch.chdir(tmp_path)
    assert encoders("compare", "toy", "--json").lines[0]["image"]["encoder"] == "timm:fake"
    assert encoders("compare", "./toy", "--json").lines[0]["image"]["encoder"] == "precomputed"
