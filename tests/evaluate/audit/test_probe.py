"""Probes: sample queries from pairs, labelled images or images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.audit_results import OPTIONS, find_finding
from support.audit_sets import DIMS, neighbours
from support.engine_sets import IMAGE_DIM, TEXT_DIM, make_set

from asif.engine import Engine
from asif.errors import InputRefused, UsageError
from asif.evaluate.audit import AuditResult, Probe, audit, encode_probe
from asif.vectors import Embeddings


def test_a_probe_of_queries_is_what_use_is_counted_by(store: Path, audited: AuditResult) -> None:
    random = np.random.default_rng(8)
    queries = Embeddings.from_raw(0.1 * random.standard_normal((300, DIMS[0])) + audited.anchors.mean("image")).values
    probed = audit(Engine("planted", home=store), Probe({"image": queries}, {"path": "x"}), OPTIONS)
    rows = np.concatenate([np.asarray(block, np.float64) for block in audited.anchors.blocks("image")])
    similar = queries.astype(np.float64) @ rows.T
    k, expected = probed.method.k, np.zeros(len(rows), int)
    for row in range(len(queries)):
        expected[neighbours(similar, row, set(), k)] += 1
    assert set(probed.usage) == {"image"} and probed.usage["image"].queries == 300
    np.testing.assert_array_equal(probed.usage["image"].counts, expected)
    np.testing.assert_array_equal(find_finding(probed, "disagreement").rows, find_finding(audited, "disagreement").rows)


@pytest.fixture
def toys(home: Path, hashing: None, tmp_path: Path) -> Path:
    """Make a toy set, and a folder of three images that its encoder hashes."""
    make_set(home, count=60)
    folder = tmp_path / "images"
    folder.mkdir()
    for at in range(3):
        (folder / f"{at}.png").write_bytes(b"image %d" % at)
    return folder


def test_probes_are_pairs_labelled_images_or_images(toys: Path, home: Path, tmp_path: Path) -> None:
    engine = Engine("toy", home=home)
    images = encode_probe(engine, str(toys))
    assert set(images.queries) == {"image"} and images.queries["image"].shape == (3, IMAGE_DIM)
    one = encode_probe(engine, str(toys / "1.png"))
    np.testing.assert_array_equal(one.queries["image"], images.queries["image"][1:2])
    (tmp_path / "classes").mkdir()
    toys.rename(tmp_path / "classes" / "cat")
    labels = encode_probe(engine, str(tmp_path / "classes"))
    np.testing.assert_array_equal(labels.queries["image"], images.queries["image"])
    cat = tmp_path / "classes" / "cat"
    (cat / "metadata.jsonl").write_text(
        "\n".join(json.dumps({"file_name": f"{at}.png", "captions": [f"{at}", "dog"]}) for at in range(3))
    )
    pairs = encode_probe(engine, str(cat))
    assert pairs.queries["text"].shape == (6, TEXT_DIM)
    np.testing.assert_array_equal(pairs.queries["image"], images.queries["image"])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputRefused):
        encode_probe(engine, str(tmp_path / "none"))
    with pytest.raises(UsageError):
        encode_probe(engine, str(tmp_path / "nowhere"))


def test_what_a_probe_leaves_out_is_announced(toys: Path, home: Path) -> None:
    engine, said = Engine("toy", home=home), list[str]()
    for name in ("a.txt", "b.TXT", ".c", "d.heix"):
        (toys / name).write_text("x")
    (toys / "more").mkdir()
    encode_probe(engine, str(toys), announce=said.append)
    assert said == [f"{toys}: 3 images\n  not read: 5 files (.txt: 2, .heix: 1, folder: 1, hidden: 1)"]


def test_a_split_of_several_is_chosen(toys: Path, home: Path, tmp_path: Path) -> None:
    engine, splits = Engine("toy", home=home), tmp_path / "splits"
    for name, count in (("train", 3), ("test", 2)):
        (splits / name).mkdir(parents=True)
        for at in range(count):
            (splits / name / f"{at}.png").write_bytes(b"image %d" % at)
    with pytest.raises(InputRefused, match="holds the splits test, train"):
        encode_probe(engine, str(splits))
    with pytest.raises(UsageError, match="'validation'"):
        encode_probe(engine, str(splits), split="validation")
    assert len(encode_probe(engine, str(splits), split="test").queries["image"]) == 2
    for name, count in (("train", 3), ("test", 2)):
        rows = [json.dumps({"file_name": f"{at}.png", "text": "x"}) for at in range(count)]
        (splits / name / "metadata.jsonl").write_text("\n".join(rows))
    probe = encode_probe(engine, str(splits), split="train")
    assert len(probe.queries["image"]) == len(probe.queries["text"]) == 3
    for name in ("train", "test"):
        (splits / name / "metadata.jsonl").unlink()
        (splits / name / "cat").mkdir()
        for file in (splits / name).glob("*.png"):
            file.rename(splits / name / "cat" / file.name)
    assert len(encode_probe(engine, str(splits), split="test").queries["image"]) == 2
