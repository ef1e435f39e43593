"""Selected anchors: what each method chooses and records, concepts from texts that repeat, encoders that fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.engine_sets import IMAGE_DIM, fake_text, make_precomputed, make_set
from support.running import Cli
from support.select_command import concept_file, select
from support.unit_rows import unit

from asif import selection
from asif.anchorset import Store
from asif.engine import select_anchors
from asif.vectors import Embeddings, Int64, canonical_json


@pytest.fixture
def toy(home: Path, hashing: None) -> Path:
    """Return a store with the sets `toy` and `vectors`, and let engines load fake encoders."""
    make_set(home).close()
    make_precomputed(home.parent / "pairs", home).close()
    return home


def test_every_method_end_to_end(cli: Cli, toy: Path, tmp_path: Path) -> None:
    whole = Store(toy).open("toy")
    image, text = (whole.blocks(side) for side in ("image", "text"))
    prompts = [f"a photo of a {word}." for word in ("red panda", "owl", "newt")]
    vectors = Embeddings.from_raw(fake_text().forward(prompts)).values
    said = hashlib.sha256(canonical_json(["red_panda", "owl", "newt"])).hexdigest()
    about = {"count": 3, "sha256": said, "templates": ["a photo of a {}."]}
    asked: list[tuple[tuple[object, ...], Int64, dict[str, Any]]] = [
        (("random", "--seed", 5), selection.choose_at_random(20, 7, 5), {"seed": 5}),
        (("kmeans",), selection.choose_by_kmeans(image, 7), {"side": "image", "seed": 0}),
        (("kmeans", "--side", "text"), selection.choose_by_kmeans(text, 7), {"side": "text", "seed": 0}),
        (("kdpp",), selection.choose_by_kdpp(image, 7), {"side": "image"}),
        (
            ("concepts", "--concepts", concept_file(tmp_path)),
            selection.choose_by_concepts(text, vectors, 7),
            {"concepts": about},
        ),
        (
            ("concept-lists", "--concepts", concept_file(tmp_path)),
            selection.choose_by_concept_lists(text, vectors, 7),
            {"concepts": about},
        ),
    ]
    for seq, (arguments, rows, how) in enumerate(asked, start=1):
        ran = select(cli, "--size", 7, "--json", "--method", *arguments)
        assert ran.code == 0, ran.err
        few = Store(toy).open("few")
        assert few.records(range(len(rows))) == whole.records(rows)
        origin = {"kind": "select", "from": "toy@1", "digest": whole.digest}
        operation = {**origin, "method": arguments[0], "size": 7, **how}
        assert few.manifest.operation == ran.json["operation"] == operation
        shown = {"name": "few", "version": few.version, "digest": few.digest, "anchors": len(rows)}
        assert {key: ran.json[key] for key in shown} == shown
        assert few.manifest.seq == seq
    Store(toy).verify("few").raise_if_bad()
    again = select(cli, "--size", 7, "--json", "--method", *asked[-1][0])
    assert again.json["version"] == few.version  # the same choice is the same version
    assert cli("anchors", "info", "few").code == 0


def test_chosen_anchors_answer_as_themselves(toy: Path) -> None:
    everything = select_anchors("toy", method="kmeans", size=20, name="few", home=toy)
    assert everything.digest == Store(toy).open("toy").digest
    Store(toy).publish_profile("toy", "classify", {"aligner": "cca"}, "1")
    same = select_anchors("toy", method="kmeans", size=5, name="toy", home=toy)
    assert (same.count, same.manifest.seq, same.manifest.operation["from"]) == (5, 3, "toy@2")
    assert same.profiles == {}  # it was found for 20


def test_texts_that_repeat_need_no_file_and_no_encoder(cli: Cli, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "labelled"
    folder.mkdir()
    whose = np.array([0] * 9 + [1] * 6 + [2])
    np.save(folder / "img_emb_0.npy", unit(16, IMAGE_DIM, 0))
    np.save(folder / "text_emb_0.npy", np.eye(3, dtype=np.float32)[whose])
    assert cli("build-anchors", folder, "--name", "labelled").code == 0
    ran = select(cli, "--method", "concepts", "--size", 8, "--json", ref="labelled")
    assert ran.json["operation"]["concepts"] == {"count": 3, "source": "texts"}
    few = Store(home).open("few")
    assert np.concatenate(few.blocks("text")).argmax(axis=1).tolist().count(2) == 1
    assert sorted(np.concatenate(few.blocks("text")).sum(axis=0).tolist()) == [1, 3, 4]


def test_another_encoder_than_the_sets_is_refused(
    cli: Cli, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fake_text(model="another")
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: other)
    given = ("--method", "concepts", "--size", 3, "--concepts", concept_file(tmp_path))
    assert select(cli, *given).code == 4
    assert select(cli, "--method", "kmeans", "--size", 3).code == 0  # nothing is encoded
