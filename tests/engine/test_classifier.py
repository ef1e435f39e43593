"""The classifier as scikit-learn's users know it: images of any kind, copies, probabilities, bad images skipped."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skimage
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer
from sklearn.utils.validation import check_is_fitted
from support.engine_sets import fake_image, make_set
from support.late import late

from asif.anchorset import Store
from asif.classify import Labels
from asif.encoders.images import decode_image
from asif.engine import Classification, Classifier, Engine
from asif.errors import BadImage, NotFound, UsageError
from asif.vectors import Embeddings, Float32

if TYPE_CHECKING:
    import torch
else:
    (torch,) = late("torch")

DATA = Path(skimage.__path__[0]) / "data"
LABELS = ["cat", "dog", "owl", "newt"]
IMAGES = [b"image %d" % number for number in range(11)]


@pytest.fixture
def fakes(home: Path, hashing: None) -> Path:
    """Return a store with one set, and let engines load fake encoders."""
    make_set(home).close()
    return home


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fake encoder decode images, so that its vectors depend on the pixels alone."""
    kind = type(fake_image())
    monkeypatch.setattr(kind, "prepare", lambda self, source: decode_image(source).tobytes())


def photo(number: int, kind: str = "PNG", **options: Any) -> bytes:
    drawn = np.random.default_rng(number).integers(0, 256, (9, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, kind, **options)
    return buffer.getvalue()


def same(one: Float32, other: Float32) -> None:
    np.testing.assert_array_equal(one, other)


# ---- images of any kind


def test_each_kind_of_image_gives_the_same_scores(fakes: Path, pixels: None, tmp_path: Path) -> None:
    classifier = Classifier("toy", home=fakes).fit(LABELS)
    contents = [photo(number) for number in range(3)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    arrays = [np.asarray(Image.open(path)) for path in paths]
    expected = classifier.decision_function(paths)
    assert len(np.unique(expected, axis=0)) == 3
    for images in (
        list(map(str, paths)),
        contents,
        iter(contents),
        [io.BytesIO(content) for content in contents],
        [Image.open(path) for path in paths],
        arrays,
        np.stack(arrays),
        torch.from_numpy(np.stack(arrays)),
    ):
        same(classifier.decision_function(images), expected)
    for one in (paths[1], str(paths[1]), contents[1], io.BytesIO(contents[1]), Image.open(paths[1]), arrays[1]):
        same(classifier.decision_function(one), expected[1:2])
        assert classifier.predict(one).tolist() == [LABELS[expected[1].argmax()]]
    with paths[2].open("rb") as file:
        same(classifier.decision_function([contents[0], arrays[1], file]), expected)


def test_a_photograph_as_pillow_opens_it(head_home: Path, preloaded: None, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.jpg"
    Image.open(DATA / "rocket.jpg").save(turned, exif=exif)
    engine = Engine(home=head_home)
    for path in (DATA / "chelsea.png", DATA / "page.png", turned):
        (expected,) = engine.encode_images(path)
        with Image.open(path) as opened:
            (found,) = engine.encode_images(opened)
        same(found, expected)  # type: ignore[arg-type]
    (upright,) = engine.encode_images(DATA / "rocket.jpg")
    assert np.abs(np.asarray(found) - np.asarray(upright)).max() > 0.01


def test_frames_of_one_buffer_and_files_that_close(fakes: Path, pixels: None, tmp_path: Path) -> None:
    contents = [photo(number) for number in range(80)]
    expected = Classifier("toy", home=fakes).fit(LABELS).decision_function(contents)

    def frames() -> Iterator[Any]:
        buffer = np.zeros((9, 8, 3), np.uint8)
        for content in contents:
            buffer[:] = np.asarray(Image.open(io.BytesIO(content)))
            yield buffer

    def opened() -> Iterator[Any]:
        path = tmp_path / "x.png"
        for content in contents:
            path.write_bytes(content)
            with Image.open(path) as image:
                yield image

    for images in (frames(), opened()):
        same(Classifier("toy", home=fakes).fit(LABELS).decision_function(images), expected)


def test_what_is_no_image_is_a_mistake_and_does_not_hang(fakes: Path, pixels: None) -> None:
    classifier = Classifier("toy", home=fakes, on_error="skip").fit(LABELS)
    good = np.zeros((9, 8, 3), np.uint8)
    for images, came in (
        ([good] * 100 + [good.astype(np.float32)], r"ndarray float32 \(9, 8, 3\)"),
        ([good.transpose(2, 0, 1)], r"ndarray uint8 \(3, 9, 8\)"),
        (7, "the images are int 7"),
        ([7], "an image is int 7"),
        ({"a": 1}, "the images are dict"),
    ):
        with pytest.raises(UsageError, match=came):
            classifier.predict(images)


# ---- what an engine gives


def test_labels_are_a_list_and_results_speak_for_themselves(fakes: Path) -> None:
    engine = Engine("toy", home=fakes)
    found = list(engine.classify(IMAGES, LABELS))
    assert found == [
        Classification(**{**vars(one), "timings_ms": two.timings_ms})
        for one, two in zip(engine.classify(IMAGES, Labels(tuple(LABELS))), found, strict=True)
    ]
    first = found[0]
    assert (first.label, first.score) == (first.predictions[0].label, first.predictions[0].score)
    assert first.anchors == engine.anchors.named
    best = ", ".join(f"{each.label} {each.score:.4f}" for each in first.predictions[:3])
    assert repr(first) == f"<Classification bytes: {best}, …, by toy@{engine.anchors.named.version}>"
    (bad,) = engine.classify(b"bad", LABELS)
    assert (bad.label, bad.score) == (None, None)
    assert "<Classification bytes: cannot be read: a bad image" in repr(bad)
    vectors = np.stack([np.asarray(vector) for vector in engine.encode_images(IMAGES)])
    by_vectors = engine.classify_vectors(Embeddings(vectors), LABELS)
    assert [one.predictions for one in by_vectors] == [one.predictions for one in found]
    assert repr(engine) == ("<Engine toy@1: 20 anchors, timm:fake and sentence-transformers:fake, aligner fused>")


@pytest.mark.parametrize("labels", ["cat", b"cat", 3, ["cat", 3]])
def test_labels_that_are_no_list_of_texts(fakes: Path, labels: Any) -> None:
    with pytest.raises(UsageError, match="the label"):
        Engine("toy", home=fakes).classify(IMAGES, labels)


# ---- bad images


def test_bad_images_are_skipped_or_stop(fakes: Path) -> None:
    images = [IMAGES[0], b"bad", IMAGES[1], None]
    classifier = Classifier("toy", home=fakes).fit(LABELS)
    scores = classifier.decision_function(IMAGES[:2])
    with pytest.raises(BadImage, match="image 1, bytes: a bad image"):
        classifier.predict(images)
    for skipping in (clone(classifier).set_params(on_error="skip").fit(LABELS), classifier):
        way: Any = {"on_error": "skip"} if skipping is classifier else {}
        found = skipping.decision_function(images, **way)
        same(found[[0, 2]], scores)
        assert np.isnan(found[[1, 3]]).all()
        right = [LABELS[at] for at in scores.argmax(axis=1)]
        assert skipping.predict(images, **way).tolist() == [right[0], None, right[1], None]
        probabilities = skipping.predict_proba(images, **way)
        assert np.isnan(probabilities[[1, 3]]).all() and np.isfinite(probabilities[[0, 2]]).all()
    skipping = Classifier("toy", home=fakes, on_error="skip").fit(LABELS)
    assert skipping.score(images, [right[0], "cat", right[1], "cat"]) == 0.5
    with pytest.raises(UsageError, match="on_error is 'ignore'"):
        classifier.predict(images, on_error="ignore")  # type: ignore[arg-type]


# ---- probabilities


def test_probabilities_are_the_softmax_at_the_temperature_that_is_recorded(fakes: Path) -> None:
    classifier = Classifier("toy", home=fakes, temperature=0.5).fit(LABELS)
    scores = classifier.decision_function(IMAGES).astype(np.float64)
    for given, used in (({}, 0.5), ({"temperature": 0.02}, 0.02)):
        found = classifier.predict_proba(IMAGES, **given)
        wide = np.exp(scores / used)
        np.testing.assert_allclose(found, wide / wide.sum(axis=1, keepdims=True), rtol=1e-12)
        assert classifier.temperature_ == used
        assert f"temperature={used})" in repr(classifier)
    assert classifier.get_params()["temperature"] == 0.5
    assert np.isfinite(classifier.predict_proba(IMAGES, 1e-6)).all()
    assert classifier.predict_proba([]).shape == (0, 4)
    for temperature in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="the temperature is"):
            classifier.predict_proba(IMAGES, temperature)


def test_scorers_of_scikit_learn(fakes: Path) -> None:
    classifier = Classifier("toy", home=fakes)
    with pytest.raises(NotFittedError):
        check_is_fitted(classifier)
    check_is_fitted(classifier.fit(LABELS))
    true = [LABELS[number % 4] for number in range(len(IMAGES))]
    assert get_scorer("accuracy")(classifier, IMAGES, true) == classifier.score(IMAGES, true)
    sharp, flat = (classifier.set_params(temperature=each).predict_proba(IMAGES) for each in (0.01, 100.0))
    assert sharp.max(axis=1).min() > flat.max()
    assert get_scorer("neg_log_loss")(classifier, IMAGES, sorted(true)) == pytest.approx(-np.log(4), abs=0.02)


# ---- copies


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_answer_alike(fakes: Path, again: Any) -> None:
    first = Classifier("toy", k=3, templates=["{}", "a {}"], home=fakes).fit(LABELS)
    first.predict_proba(IMAGES, 0.1)
    other = again(first)
    assert other.get_params() == first.get_params() and other.temperature_ == 0.1
    assert other.engine_ is not first.engine_
    same(other.decision_function(IMAGES), first.decision_function(IMAGES))
    assert again(Classifier("toy", k=4)).get_params()["k"] == 4
    assert not hasattr(again(Classifier("toy")), "engine_")


def test_a_copy_keeps_its_version_when_the_set_moves_on(fakes: Path) -> None:
    first = Classifier("toy", home=fakes).fit(LABELS)
    expected, stored = first.decision_function(IMAGES), pickle.dumps(first)
    store = Store(fakes)
    store.remove("toy", [store.open("toy").records([0])[0].id])
    other = pickle.loads(stored)
    assert other.engine_.anchors.ref == "toy@1" != Engine("toy", home=fakes).anchors.ref
    same(other.decision_function(IMAGES), expected)


def test_a_copy_of_narrowed_anchors_and_of_a_union(fakes: Path) -> None:
    make_set(fakes, "more", seed=1).close()
    union = Classifier("toy+more", home=fakes).fit(LABELS)
    assert pickle.loads(pickle.dumps(union)).engine_.anchors.digest == union.engine_.anchors.digest
    union.engine_.swap("toy", where="id like '%7'")
    assert 0 < union.engine_.anchors.count < 20
    assert pickle.loads(pickle.dumps(union)).engine_.anchors.digest == union.engine_.anchors.digest


def test_a_copy_finds_equal_anchors_by_their_digest_or_says_what_is_missing(fakes: Path, tmp_path: Path) -> None:
    first = Classifier("toy", home=fakes).fit(LABELS)
    expected, stored = first.decision_function(IMAGES), pickle.dumps(first)
    folder = fakes / "anchors" / "toy"
    shutil.move(folder, tmp_path / "toy")
    with pytest.raises(NotFound, match=r"fitted over toy@000001-\w+ \(digest \w+…\), which is not in"):
        pickle.loads(stored)
    make_set(fakes, seed=5).close()  # another set of this name
    with pytest.raises(NotFound, match="which is not in"):
        pickle.loads(stored)
    make_set(fakes).close()
    make_set(fakes, seed=6).close()  # the equal version is neither the first nor the current one
    other = pickle.loads(stored)
    assert other.engine_.anchors.ref == "toy@2"
    same(other.decision_function(IMAGES), expected)


def test_a_classifier_introduces_itself(fakes: Path) -> None:
    one = Classifier("toy", k=3, home=fakes)
    assert repr(one) == f"Classifier(anchors='toy', k=3, home={fakes!r}, temperature=0.01)"
    assert repr(one.fit(LABELS)).endswith(") fitted to 4 labels over toy@1")
    assert repr(Classifier()) == "Classifier(anchors='imagenet-head', temperature=0.01)"
