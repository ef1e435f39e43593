"""Labels and texts that their encoder cuts or cannot read: reported once; refused if the cut makes them equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.build_fakes import FakeImages, build_set, list_source, write_parquet
from support.engine_sets import fake_image, make_set
from support.running import Cli
from support.short_texts import ShortTexts

from asif.classify import Labels
from asif.engine import Engine
from asif.errors import UsageError
from asif.vectors import Embeddings

LONG = "one two three four five six seven"


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return an engine whose text encoder reads eight words."""
    make_set(home, text=ShortTexts()).close()
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: fake_image())
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: ShortTexts())
    return Engine("toy", home=home)


def scores(engine: Engine, *labels: str, template: str = "{}") -> dict[str, float]:
    (result,) = engine.classify([b"image"], Labels(labels, (template,)))
    return {each.label: each.score for each in result.predictions}


def test_labels_that_are_cut_are_reported_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    found = scores(engine, f"{LONG} a cat", f"{LONG} the boat", "owl")
    assert len(set(found.values())) == 3
    scores(engine, f"{LONG} a cat", f"{LONG} the boat", "owl")
    expected = (
        "2 of 3 labels are longer than the 8 tokens that sentence-transformers:short reads: their ends are cut off"
    )
    assert caplog.messages == [expected]
    engine.swap("toy")
    assert caplog.messages == [expected]


def test_no_remark_about_texts_that_are_read_to_their_end(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    scores(engine, f"{LONG} cat", f"{LONG} boat", "Käse", "β-carotene")
    engine.encode_texts([f"{LONG} cat"])
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("labels", "template"),
    [
        (("owl", f"{LONG} long cat", f"{LONG} long boat"), "{}"),
        (("owl", f"{LONG} long", f"{LONG} long boat"), "{}"),
        (("cat", "boat"), f"{LONG} of {{}}"),
    ],
)
def test_labels_that_become_equal_are_refused(engine: Engine, labels: tuple[str, ...], template: str) -> None:
    with pytest.raises(UsageError, match=r"are equal in the 8 tokens that .*short reads") as caught:
        scores(engine, *labels, template=template)
    assert "labels that differ in that part of their prompts" in str(caught.value)


def test_one_prompt_of_several_may_become_equal(engine: Engine) -> None:
    labels = Labels(("cat", "boat"), ("{}", f"{LONG} of {{}}"))
    (result,) = engine.classify([b"image"], labels)
    assert len(result.predictions) == 2


def test_texts_that_are_cut_are_reported_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.encode_texts([f"{LONG} long cat", "owl"])
    engine.encode_texts([f"{LONG} long boat"])
    assert caplog.messages == [
        "1 of 2 texts are longer than the 8 tokens that sentence-transformers:short reads: their ends are cut off"
    ]
    assert engine.count_cut_texts([f"{LONG} long cat", "owl", f"{LONG} long boat"]) == 2


def test_labels_in_another_script_are_reported_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        scores(engine, "собака", "cat", "犬")
    (remark,) = caplog.messages
    assert remark.startswith("2 of 3 labels, such as собака, are in a script that sentence-transformers:short hardly")


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("0", "1.0"), "the labels are numbers: 0, 1.0"), (("cat", "nan"), "label 2 is 'nan', which marks images")],
)
def test_labels_that_are_numbers_need_names_or_vectors(engine: Engine, labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scores(engine, *labels)
    images = Embeddings.from_raw(np.ones((1, engine.anchors.dims["image"])))
    with pytest.raises(UsageError, match=message):
        engine.classify_vectors(images, labels)
    vectors = Embeddings.from_raw(np.ones((2, engine.anchors.dims["text"])))
    assert len(engine.classify_vectors(images, labels, vectors)[0].predictions) == 2
    assert engine.classify_vectors(images, Labels(("0", "1"), names=(("cat",), ("dog",))))


def test_captions_that_are_cut_are_counted(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(str(row), b"image %d" % row, (f"{LONG} of {row}", "short")) for row in range(600)]
    text = ShortTexts()
    built = build_set(list_source(*rows), home, FakeImages(), text)
    assert built.clock.cut_texts == 600
    assert caplog.messages == [
        "600 of 602 captions are longer than the 8 tokens that sentence-transformers:short reads: "
        "their ends are cut off"
    ]


def test_cut_captions_are_in_the_json_of_builds_and_evaluations(
    engine: Engine, asif_build: Cli, cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asif.engine.build.load_image_encoder", lambda *_: fake_image())
    monkeypatch.setattr("asif.engine.build.load_text_encoder", lambda *_: ShortTexts())
    captions = [f"{LONG} of the cat", "a dog", f"{LONG} of the owl"]
    pairs = write_parquet(tmp_path / "a.parquet", [b"image 0", b"image 1", b"image 2"], captions)
    (built,) = asif_build(pairs, "--name", "new", "--json").lines
    assert built["captions_cut"] == 2
    (short,) = asif_build(pairs, "--name", "one", "--captions", "first", "--fresh", "--json", "--limit", 2).lines
    assert short["captions_cut"] == 1
    given = ("eval", "--anchors", "toy", "--dataset", pairs, "--task", "zeroshot_retrieval", "--json")
    (measured,) = cli(*given).lines
    assert measured["counts"]["captions_cut"] == 2
