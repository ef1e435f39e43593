"""The wiring: what answers, with which set, whatever the batch; what is refused, and what goes on serving meanwhile."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image
from sklearn.base import clone
from support.engine_sets import IMAGE_DIM, TEXT_DIM, fake_image, fake_text, make_precomputed, make_set

from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, Store
from asif.classify import Labels, represent_labels
from asif.compare import rank_candidates
from asif.encoders import ImageEncoder, TextEncoder
from asif.engine import Classification, Classifier, Engine
from asif.engine.predict import IMAGES_PER_BATCH
from asif.engine.snapshots import CACHED_LABELS
from asif.errors import (
    AsifError,
    BadEmbedding,
    BadImage,
    EncoderMismatch,
    IntegrityError,
    NotFound,
    UsageError,
)
from asif.vectors import Embeddings

DATA = Path(skimage.__path__[0]) / "data"
ANIMALS = Labels(("cat", "dog", "owl", "newt"))
RIGHT = {
    "chelsea.png": "cat",
    "coffee.png": "cup of coffee",
    "rocket.jpg": "rocket",
    "hubble_deep_field.jpg": "galaxies",
    "page.png": "printed page",
}
IMAGES = [b"image %d" % number for number in range(11)]


@pytest.fixture
def fakes(home: Path, hashing: None) -> Path:
    """Return a store with one set, and let engines load fake encoders."""
    make_set(home).close()
    return home


def encode(texts: Sequence[str]) -> Embeddings:
    return Embeddings.from_raw(fake_text().forward(texts), tuple((text,) for text in texts))


def oracle(anchors: AnchorSet, images: list[bytes], labels: Labels) -> list[list[tuple[str, float]]]:
    """Answer without an engine."""
    fitted = make_aligner("cca(words)+asif").fit(anchors)
    candidates = represent_labels(labels, encode, fitted)
    rows = fitted.represent("image", Embeddings.from_raw(fake_image().forward(images)))
    found = rank_candidates(rows, candidates, 5)
    return [
        [(labels.labels[label], float(score)) for label, score in zip(*row, strict=True)]
        for row in zip(found.indices, found.scores, strict=True)
    ]


def plain(result: Classification) -> list[tuple[str, float]]:
    return [(prediction.label, prediction.score) for prediction in result.predictions]


# ---- real photographs, with imagenet-head


def test_photographs_are_recognised(head_home: Path, preloaded: None) -> None:
    classifier = Classifier(home=head_home).fit(list(RIGHT.values()))
    photos = [DATA / name for name in RIGHT]
    assert classifier.predict(photos).tolist() == list(RIGHT.values())
    assert classifier.score(photos, list(RIGHT.values())) == 1.0
    assert classifier.score(photos, ["cat"] * 5) == 0.2
    paths = [photos[0], str(photos[0]), photos[0].read_bytes()]
    scores = classifier.decision_function(paths)
    np.testing.assert_array_equal(scores, scores[[0, 0, 0]])
    assert (scores[0].argmax(), scores.dtype, scores.shape) == (0, np.float32, (3, 5))
    assert scores.min() >= 0 and scores.max() <= 1


def small(photo: Path) -> bytes:
    """Return a photograph as a small PNG."""
    with Image.open(photo) as image:
        image.thumbnail((250, 250))
        image.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def test_an_answer_does_not_depend_on_the_batch(head_home: Path, preloaded: None) -> None:
    photos = [small(DATA / name) for name in RIGHT]
    engine, labels = Engine(home=head_home), Labels(tuple(RIGHT.values()), ("{}", "a photo of {}"))
    alone = [next(engine.classify([photo], labels)) for photo in photos]
    many = list(engine.classify(photos * 14, labels))
    assert len(many) == 70 > IMAGES_PER_BATCH
    for at, result in enumerate(many):
        assert plain(result) == plain(alone[at % len(photos)])  # equal bits
        assert result.image == "bytes"
    assert len({result.predictions for result in alone}) == len(photos)


def test_known_labels_load_no_text_encoder(head_home: Path, preloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, photo = Labels(("a tabby", "a saucer"), ("{}", "my {}")), [DATA / "chelsea.png"]
    first = [plain(result) for result in Engine(home=head_home).classify(photo, labels)]

    def refuse(*_: object) -> TextEncoder:
        raise AssertionError("the text encoder was loaded")

    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", refuse)
    assert [plain(result) for result in Engine(home=head_home).classify(photo, labels)] == first
    with pytest.raises(AssertionError, match="was loaded"):
        next(Engine(home=head_home).classify(photo, Labels(("a tabby", "a new label"))))


# ---- the manners of scikit-learn


def test_scikit_learn_manners(fakes: Path) -> None:
    given = {"anchors": "toy", "home": fakes, "k": 3, "power": 1.5, "templates": ["{}", "a {}"], "template_mode": "max"}
    one = Classifier(**given)
    assert {name: one.get_params()[name] for name in given} == given
    copy = clone(one)
    assert copy is not one and copy.get_params() == one.get_params()
    assert one.set_params(k=4, centre=True) is one
    assert (one.get_params()["k"], copy.get_params()["k"], one.centre) == (4, 3, True)
    with pytest.raises(UsageError, match=r"parameters \['kk'\]"):
        one.set_params(kk=3)
    assert one.fit(ANIMALS.labels) is one
    assert one.classes_.tolist() == list(ANIMALS.labels)
    assert one.engine_.role().choice.aligner.parameters == {"k": 4, "power": 1.5, "centre": True, "normalise": "both"}
    assert (one.labels_.templates, one.labels_.mode) == (("{}", "a {}"), "max")
    assert not hasattr(clone(one), "engine_")


@pytest.mark.parametrize(("aligner", "mode"), [("asif", "mean"), ("asif-paper", "max")])
def test_the_template_mode_is_the_aligners_own(fakes: Path, aligner: str, mode: str) -> None:
    assert Classifier("toy", aligner=aligner, home=fakes).fit(["a"]).labels_.mode == mode
    assert Classifier("toy", aligner=aligner, template_mode="mean", home=fakes).fit(["a"]).labels_.mode == "mean"


def test_predict_is_the_argmax_and_scores_are_those_of_the_engine(fakes: Path) -> None:
    classifier = Classifier("toy", home=fakes).fit(ANIMALS.labels)
    scores = classifier.decision_function(IMAGES)
    assert classifier.predict(IMAGES).tolist() == [ANIMALS.labels[at] for at in scores.argmax(axis=1)]
    assert len(set(classifier.predict(IMAGES).tolist())) > 1
    expected = oracle(Store(fakes).open("toy"), IMAGES, ANIMALS)
    for row, answer in zip(scores, expected, strict=True):
        assert {label: float(score) for label, score in zip(ANIMALS.labels, row, strict=True)} == dict(answer)
    assert classifier.predict([]).tolist() == []
    assert classifier.decision_function([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: Classifier("toy").predict(IMAGES), "predict was called before fit"),
        (lambda c: c.fit("cat"), "the labels are one text: 'cat'"),
        (lambda c: c.fit(["cat"], y=["cat"]), "fit was given y"),
        (lambda c: c.fit([]), "there are no labels"),
        (lambda c: c.fit(["cat", "cat"]), "the label 'cat' comes 2 times"),
        (lambda c: c.fit(["cat", 3]), "the label '3' is of type int"),
        (lambda c: c.fit(3), "the labels are of type int"),
        (lambda c: c.fit(ANIMALS), "the labels are of type Labels"),
        (lambda c: c.score(IMAGES, ["cat"]), "11 images, (1,) labels"),
        (lambda c: c.score([], []), "0 images, (0,) labels"),
        (lambda c: clone(c).set_params(aligner="clip").fit(["a"]), "the aligner is 'clip'"),
    ],
)
def test_misuse_is_explained(fakes: Path, call: Any, message: str) -> None:
    classifier = Classifier("toy", home=fakes).fit(["cat", "dog"])
    with pytest.raises(UsageError) as caught:
        call(classifier)
    assert caught.value.came == message


def test_a_bad_image_stops_predict_by_name(fakes: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"bad")
    with pytest.raises(BadImage, match=r"x\.png: a bad image"):
        Classifier("toy", home=fakes).fit(["a", "b"]).predict([IMAGES[0], tmp_path / "x.png"])


# ---- the engine


def test_answers_are_those_of_the_parts(fakes: Path) -> None:
    labels = Labels(ANIMALS.labels, ("{}", "a {}"))
    engine = Engine("toy", home=fakes)
    found = list(engine.classify(iter(IMAGES), labels))
    assert [plain(result) for result in found] == oracle(engine.anchors, IMAGES, labels)
    assert all(result.anchors == engine.anchors.named for result in found)
    assert all(set(result.timings_ms) == {"labels", "encode", "represent", "compare"} for result in found)
    assert [plain(result)[:2] for result in found] == [
        plain(result) for result in engine.classify(IMAGES, labels, top=2)
    ]


def test_a_bad_image_does_not_stop_the_others(fakes: Path) -> None:
    images = [b"bad 1", IMAGES[0], b"bad 2", *IMAGES[1:], b"bad 3"]
    found = list(Engine("toy", home=fakes).classify(images, ANIMALS))
    assert [at for at, result in enumerate(found) if result.error] == [0, 2, 13]
    good = [plain(result) for result in found if not result.error]
    assert good == oracle(Store(fakes).open("toy"), IMAGES, ANIMALS)
    assert all(isinstance(found[at].error, BadImage) and found[at].predictions == () for at in (0, 2, 13))
    every = list(Engine("toy", home=fakes).classify([b"bad"] * (IMAGES_PER_BATCH + 1), ANIMALS))
    assert len(every) == IMAGES_PER_BATCH + 1 and all(result.error for result in every)
    assert list(Engine("toy", home=fakes).classify([], ANIMALS)) == []


def test_an_encoder_that_gives_nan_is_refused(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = fake_image()
    monkeypatch.setattr(broken, "forward", lambda inputs: np.full((len(inputs), IMAGE_DIM), np.nan, np.float32))
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: broken)
    with pytest.raises(BadEmbedding, match="2 of 2 vectors cannot be used"):
        list(Engine("toy", home=fakes).classify(IMAGES[:2], ANIMALS))


def test_the_last_questions_are_remembered_and_only_those(fakes: Path) -> None:
    engine = Engine("toy", home=fakes)
    questions = [Labels((f"thing {number}", "other")) for number in range(CACHED_LABELS + 3)]
    for labels in questions:
        next(engine.classify(IMAGES[:1], labels))
    assert engine._snapshot.represented.keys() == questions[-CACHED_LABELS:]


def test_many_threads_ask_many_questions(fakes: Path) -> None:
    engine = Engine("toy", home=fakes)
    questions = [Labels((f"thing {number}", "other", "third")) for number in range(3 * CACHED_LABELS)]
    expected = [oracle(engine.anchors, IMAGES[:3], labels) for labels in questions]

    def ask(turn: int) -> bool:
        at = turn % len(questions)
        return [plain(result) for result in engine.classify(IMAGES[:3], questions[at])] == expected[at]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(6 * len(questions))))
    assert len(engine._snapshot.represented.keys()) <= CACHED_LABELS


# ---- swap


def endless(stop: threading.Event) -> Iterator[bytes]:
    """Yield images until told to stop."""
    for number in range(10_000):
        if stop.is_set():
            return
        yield IMAGES[number % len(IMAGES)]


def test_calls_in_flight_finish_on_the_old_set(fakes: Path) -> None:
    make_set(fakes, "other", seed=1).close()
    engine, stop = Engine("toy", home=fakes), threading.Event()
    old = engine.anchors
    begun, waiting = engine.classify(endless(stop), ANIMALS), engine.classify(IMAGES, ANIMALS)
    first = [next(begun) for _ in range(3)]
    new = engine.swap("other")
    stop.set()
    rest = [*first, *begun]
    assert len(rest) > IMAGES_PER_BATCH
    expected = oracle(old, IMAGES, ANIMALS)
    for at, result in enumerate(rest):
        assert result.anchors == old.named
        assert plain(result) == expected[at % len(IMAGES)]
    assert [plain(result) for result in waiting] == expected  # called before the swap, consumed after it
    after = list(engine.classify(IMAGES, ANIMALS))
    assert new is engine.anchors and all(result.anchors == new.named for result in after)
    assert [plain(result) for result in after] == oracle(new, IMAGES, ANIMALS) != expected


def damage(home: Path, name: str) -> None:
    manifest = next((home / "anchors" / name / "versions").glob("*.json"))
    content = bytearray(manifest.read_bytes())
    content[len(content) // 2] ^= 1
    manifest.write_bytes(bytes(content))


def truncate(home: Path, name: str) -> None:
    block = next((home / "anchors" / name / "blocks").iterdir())
    block.write_bytes(block.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("ref", "spoil", "error"),
    [
        ("missing", None, NotFound),
        ("../../etc", None, NotFound),
        ("Bad Name", None, UsageError),
        ("toy@7", None, NotFound),
        ("damaged", damage, IntegrityError),
        ("damaged", truncate, IntegrityError),
    ],
)
def test_a_failed_swap_leaves_the_old_set_serving(fakes: Path, ref: str, spoil: Any, error: type[AsifError]) -> None:
    make_set(fakes, "damaged", seed=2).close()
    if spoil:
        spoil(fakes, "damaged")
    engine = Engine("toy", home=fakes)
    before = engine.anchors
    with pytest.raises(error):
        engine.swap(ref)
    assert engine.anchors is before
    assert [plain(r) for r in engine.classify(IMAGES, ANIMALS)] == oracle(before, IMAGES, ANIMALS)


def test_a_set_of_another_encoder_is_refused_at_the_swap(fakes: Path) -> None:
    make_set(fakes, "other", image=fake_image(weights="others")).close()
    engine = Engine("toy", home=fakes)
    expected = [plain(result) for result in engine.classify(IMAGES, ANIMALS)]
    with pytest.raises(EncoderMismatch, match="weights: 'others' in the set, None here"):
        engine.swap("other")
    assert [plain(result) for result in engine.classify(IMAGES, ANIMALS)] == expected


# ---- P8: the wrong encoder, in each part of its fingerprint


def changed(value: Any) -> Any:
    """Return something of the same kind that differs."""
    if isinstance(value, dict):
        return {**value, next(iter(value)): changed(next(iter(value.values())))}
    if isinstance(value, list):
        return [changed(value[0]), *value[1:]]
    return value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.mark.parametrize("side", ["image", "text"])
def test_every_part_of_the_fingerprint_counts(
    side: str, home: Path, image_encoder: ImageEncoder, text_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = (image_encoder if side == "image" else text_encoder).fingerprint.fields
    assert {"library", "model", "weights_sha256", "dtype", "backend", "pooling"} <= set(fields)
    encoders = {"image": fake_image(), "text": fake_text()}
    encoders[side].fields = fields
    make_set(home, "toy", **encoders).close()
    monkeypatch.setattr("asif.engine.encoder_pool.load_image_encoder", lambda *_: encoders["image"])
    monkeypatch.setattr("asif.engine.encoder_pool.load_text_encoder", lambda *_: encoders["text"])
    theirs = encoders[side].fingerprint.digest[:12]
    for name, value in [*fields.items(), ("something new", 1)]:
        encoders[side].fields = {**fields, name: changed(value)}
        with pytest.raises(EncoderMismatch) as caught:
            next(Engine("toy", home=home).classify(IMAGES, Labels(("never asked before", name))))
        mine = encoders[side].fingerprint.digest[:12]
        assert mine != theirs
        assert mine in caught.value.came and f"({name}: " in caught.value.came
        assert theirs in caught.value.expected and "toy@1" in caught.value.expected
        spec = encoders[side].spec
        assert f"asif build-anchors PAIRS --name toy --{side}-encoder {spec}" in caught.value.fix
    encoders[side].fields = fields
    assert next(Engine("toy", home=home).classify(IMAGES, ANIMALS)).predictions


# ---- precomputed vectors


@pytest.fixture
def vectors(home: Path, tmp_path: Path) -> Engine:
    make_precomputed(tmp_path / "pairs", home).close()
    return Engine("vectors", home=home, aligner=make_aligner("asif"))


def rows(count: int, dim: int, seed: int = 3) -> Embeddings:
    return Embeddings.from_raw(np.random.default_rng(seed).standard_normal((count, dim)))


def test_vectors_instead_of_encoders(vectors: Engine) -> None:
    labels = Labels(("a", "b", "c"), ("{}", "a {}"), "max")
    images, prompts = rows(5, IMAGE_DIM), rows(6, TEXT_DIM, 4)
    found = vectors.classify_vectors(images, labels, prompts, explain=3)
    fitted = make_aligner("asif").fit(vectors.anchors)
    every = fitted.represent("image", images).to_dense() @ fitted.represent("text", prompts).to_dense().T
    best = every.reshape(5, 3, 2).max(axis=2)
    for row, result in zip(best, found, strict=True):
        assert [labels.labels.index(label) for label, _ in plain(result)] == np.argsort(-row).tolist()
        assert [score for _, score in plain(result)] == pytest.approx(sorted(row, reverse=True), abs=1e-6)
        assert result.evidence is not None and len(result.evidence.records) == 3
    assert [result.image for result in found] == [f"vector {at}" for at in range(5)]
    alone = vectors.classify_vectors(Embeddings(images.values[2:3]), labels, prompts)[0]
    assert alone.predictions == found[2].predictions
    assert vectors.classify_vectors(Embeddings(images.values[:0]), labels, prompts) == []


def test_prompts_that_read_the_same_keep_their_own_vectors(vectors: Engine) -> None:
    labels = Labels(("x", "a x"), ("a {}", "{}"), "max")
    assert labels.prompts() == ["a x", "x", "a a x", "a x"]
    prompts, images = rows(4, TEXT_DIM, 4), rows(30, IMAGE_DIM)
    other = vectors.classify_vectors(images, Labels(("p", "q"), labels.templates, "max"), prompts)
    found = vectors.classify_vectors(images, labels, prompts)
    renamed = [[({"x": "p", "a x": "q"}[label], score) for label, score in plain(result)] for result in found]
    assert renamed == [plain(result) for result in other]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.classify_vectors(rows(1, 12), ANIMALS, rows(3, 5)), "3 label vectors"),
        (lambda e: e.classify_vectors(rows(1, 12), ANIMALS, rows(4, 6)), "queries have 6 dimensions, anchors 5"),
        (lambda e: e.classify_vectors(rows(1, 13), ANIMALS, rows(4, 5)), "queries have 13 dimensions, anchors 12"),
        (lambda e: e.classify_vectors(rows(1, 12), ANIMALS), "a text to encode, with an anchor set of precomputed"),
        (lambda e: list(e.classify(IMAGES, ANIMALS)), "a text to encode, with an anchor set of precomputed vectors"),
    ],
)
def test_vectors_that_do_not_fit(vectors: Engine, call: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        call(vectors)
    assert caught.value.came.startswith(message)
