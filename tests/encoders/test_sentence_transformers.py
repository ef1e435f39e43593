"""Encoders of sentence-transformers: fingerprints, vectors that depend on nothing but the text, models elsewhere."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_encoders import WORDS, cosines, texts_of, unreachable

from asif.encoders import TextEncoder, encode_texts, load_text_encoder, sentence_transformers_
from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.errors import AsifError

TEXT = "embedded:all-minilm-l6-v2"


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


@pytest.mark.slow
def test_text_vectors_are_those_of_sentence_transformers(text_encoder: Any) -> None:
    texts = [*texts_of([1, 2, 7, 7, 40, 300]), "ein Bär, 熊", ""]
    plain = text_encoder._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    found = encode_texts(text_encoder, texts).values
    assert (cosines(plain, found) > 0.99999).all()
    assert (np.abs(cosines(plain, np.roll(found, 1, axis=0))) < 0.9).all()


@pytest.mark.slow
def test_a_megabyte_of_text(text_encoder: TextEncoder) -> None:
    start = " ".join(WORDS * 40)
    long = start + " and on" * 150_000
    assert len(long) > 1_000_000
    assert np.array_equal(text_encoder.forward([long]), text_encoder.forward([start]))  # both are cut at 256 tokens


class Asked(Exception):
    """A library was asked for a model."""


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


def test_a_text_model_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", unreachable)
    with pytest.raises(AsifError) as caught:
        load_text_encoder("sentence-transformers:org/none", "cpu")
    assert caught.value.came == "sentence-transformers could not load 'org/none': We couldn't connect to the hub"
    assert "on a hub that can be reached" in caught.value.expected
    assert "use embedded:all-minilm-l6-v2, which needs none" in caught.value.fix
