"""Sets and galleries of joined encoders do all that others do: build, edit, classify, search, explain, audit, purge."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_fakes import stored_rows, write_parquet
from support.build_images import random_png
from support.running import Cli
from support.stand_in_encoders import make_image_encoder, replace_encoders

import asif
from asif.encoders import ClassifierHead
from asif.encoders.joined import JoinedImageEncoder, join_vectors
from asif.encoders.text_cache import hash_text

IMAGE, TEXT = "timm:a+timm:b", "sentence-transformers:a+sentence-transformers:b"
ENCODERS = ("--image-encoder", IMAGE, "--text-encoder", TEXT)
ROWS = 30


@pytest.fixture
def pairs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    replace_encoders(monkeypatch, tmp_path)
    images = [random_png(row, 6, 6) for row in range(ROWS)]
    captions = [[f"a thing of {row} mm", f"thing {row}"] for row in range(ROWS)]
    ids = [f"id-{row:02}" for row in range(ROWS)]
    write_parquet(tmp_path / "new.parquet", images[-3:], captions[-3:], id=ids[-3:])
    write_parquet(tmp_path / "old.parquet", images[:-3], captions[:-3], id=ids[:-3])
    return write_parquet(tmp_path / "pairs.parquet", images, captions, id=ids)


def test_a_set_is_built_once_and_edited_as_any_other(pairs: Path, home: Path, cli: Cli) -> None:
    built = cli("build-anchors", pairs, "--name", "parts", *ENCODERS, "--json").json
    assert (built["anchors"], built["rejected"]) == (ROWS, 0)
    assert cli("build-anchors", pairs, "--name", "parts", *ENCODERS, "--json").json["already_built"]
    other = cli(
        "build-anchors", pairs, "--name", "parts", "--image-encoder", "timm:b+timm:a", ENCODERS[2], TEXT, "--json"
    )
    assert other.json["digest"] != built["digest"]  # the blocks are in another order
    cli("build-anchors", pairs.with_name("old.parquet"), "--name", "grown", *ENCODERS)
    added = cli("anchors", "add", "grown", pairs.with_name("new.parquet"), "--json")
    assert added.json["digest"] == built["digest"]
    removed = cli("anchors", "remove", "grown", "--id", "id-29", "--id", "id-28", "--id", "id-27", "--json")
    assert removed.json["anchors"] == ROWS - 3
    info = cli("anchors", "info", "grown", "--json").json["encoders"]["image"]
    assert (info["spec"], info["dims"]) == (IMAGE, [6, 6]) and len(info["parts"]) == 2
    assert cli("anchors", "verify", "grown").code == 0


def test_stored_rows_have_a_block_for_each_part(pairs: Path, home: Path) -> None:
    with asif.build_anchors(pairs, "parts", image_encoder=IMAGE, text_encoder=TEXT, home=home).anchors as anchors:
        rows: Any = stored_rows(anchors, "image")
        assert rows.shape == (ROWS, 12)
        for block in (rows[:, :6], rows[:, 6:]):
            np.testing.assert_allclose(np.linalg.norm(block.astype(np.float64), axis=1), 1 / np.sqrt(2), atol=1e-3)


def test_answers_explanations_and_audits(pairs: Path, home: Path, cli: Cli, tmp_path: Path) -> None:
    cli("build-anchors", pairs, "--name", "parts", *ENCODERS)
    (tmp_path / "photos").mkdir()
    for row in range(8):
        (tmp_path / "photos" / f"{row}.png").write_bytes(random_png(row, 6, 6))
    photo = tmp_path / "photos" / "3.png"
    ran = cli("classify", photo, "--anchors", "parts", "--labels", "thing 3,thing 4,dog", "--explain", "--json")
    assert ran.code == 0 and len(ran.json["predictions"]) == 3
    assert cli("gallery", "build", photo.parent, "--name", "album", "--anchors", "parts").code == 0
    found = cli("search", "album", "--image", photo, "--anchors", "parts", "-k", 1, "--json").json
    assert found["results"][0]["id"].endswith("3.png")
    assert cli("search", "album", "--text", "a thing of 3 mm", "--anchors", "parts", "--explain").code == 0
    assert cli("gallery", "update", "album").code == 0
    assert cli("anchors", "audit", "parts", "--json").code == 0
    assert cli("tune", "--anchors", "parts", "--task", "search", "--seconds", "1").code == 0


def test_a_gallery_may_be_of_joined_encoders_without_anchors(pairs: Path, home: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(random_png(1, 6, 6))
    assert cli("gallery", "build", tmp_path / "photos", "--name", "album", "--image-encoder", IMAGE).code == 0
    ran = cli("gallery", "build", tmp_path / "photos", "--name", "g", "--image-encoder", "timm:a+timm:a")
    assert ran.code == 2 and "joins timm:a twice" in ran.err


def test_a_purge_forgets_cached_texts(pairs: Path, home: Path, cli: Cli) -> None:
    cli("build-anchors", pairs, "--name", "parts", *ENCODERS)
    engine = asif.Engine("parts", home=home)
    vectors = engine.encode_texts(["thing 5", "thing 6"]).values
    assert np.array_equal(engine.encode_texts(["thing 6"]).values, vectors[1:])
    fingerprint = engine.anchors.fingerprint("text").digest
    assert isinstance(engine.image_encoder(engine.anchors), JoinedImageEncoder)
    assert cli("anchors", "remove", "parts", "--id", "id-05", "--purge").code == 0
    with closing(sqlite3.connect(home / "cache" / "texts.sqlite")) as cache:
        keys = {row[0] for row in cache.execute("SELECT key FROM texts")}
    assert hash_text(fingerprint, "thing 5") not in keys and hash_text(fingerprint, "thing 6") in keys


def test_heads_are_joined_class_by_class(pairs: Path, home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, *_: Any) -> tuple[Any, ClassifierHead]:
        rows = np.random.default_rng(ord(name)).standard_normal((4, 6)).astype(np.float32)
        ids = ("n1", "n2", "n3", "n4") if name != "x" else ("n1", "n2", "n4", "n3")
        return make_image_encoder(name), ClassifierHead(rows, ids, tuple(f"thing {i}" for i in ids), ("what",) * 4)

    monkeypatch.setattr("asif.encoders.timm_.load_timm_classifier", load)
    assert cli("build-anchors", "--from-head", IMAGE, "--name", "heads").code == 0
    with asif.open_anchors("heads", home=home) as anchors:
        assert (anchors.count, anchors.encoder_spec("image")) == (4, IMAGE)
        expected = join_vectors([load(name)[1].prototypes for name in "ab"])
        np.testing.assert_allclose(stored_rows(anchors, "image"), expected, atol=1e-3)
    photo = home / "photo.png"
    photo.write_bytes(random_png(1, 6, 6))
    assert cli("classify", photo, "--anchors", "heads", "--labels", "bolt,nut").code == 0
    ran = cli("build-anchors", "--from-head", "timm:a+timm:x", "--name", "others")
    assert ran.code == 3 and "timm:a has 4 classes, timm:x 4 others" in ran.err


def test_estimates_take_the_speeds_and_sizes_of_the_parts(pairs: Path, home: Path, cli: Cli) -> None:
    lite = "embedded:efficientnet-lite0"
    one, three = (
        cli("build-anchors", pairs, "--name", "x", "--dry-run", "--json", "--image-encoder", spec).json
        for spec in (lite, f"{lite}+1+2")
    )
    assert three["bytes"] - one["bytes"] == ROWS * 2 * 1280 * 2
    assert three["seconds"] > 1.5 * one["seconds"]
