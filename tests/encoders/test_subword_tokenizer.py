"""Tokens without torch: the ids that sentence-transformers gives, for any text."""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_encoders import texts_of
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from asif.encoders.embedded import EMBEDDED_WEIGHTS
from asif.encoders.subword_tokenizer import SubwordTokenizer, serialise_tokenizer, stack_tokens
from asif.errors import InputRefused, UsageError

MOST = 256
STRANGE = [
    "",
    " ",
    "\n\t",
    "\0",
    "a\0b",
    "\x1c\x85 x \u2028",
    "\ufeffbom",
    "[SEP] [MASK] [PAD] [CLS][UNK]",
    "  left and right  ",
    "Ümläut naïve ÅNGSTRÖM İstanbul ΟΔΟΣ",
    "e\u0301 \u0301 combining",
    "שלום عالم",
    "\u202eright to left\u202c",
    "犬の写真 고양이",
    "👩‍👩‍👧‍👦 🇩🇪 👍🏽",
    "\U0010ffff\ue000\ufffd",
    "\u200bzero\u200dwidth",
    "word" * 500,
    "mot " * 400,
    "a " * 253,
    "a " * 254,
    "a " * 255,
    "##ing un##believable",
    "1,234.5e-6 #tag @name https://example.org/?q=a&b=c",
]


@cache
def hugging_face_tokenizer() -> Any:
    """Load the tokenizer of the embedded text encoder as sentence-transformers does, without its weights."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(EMBEDDED_WEIGHTS["all-minilm-l6-v2"].find().parent))


@cache
def embedded(max_tokens: int = MOST, prompt: str = "") -> SubwordTokenizer:
    content = (EMBEDDED_WEIGHTS["all-minilm-l6-v2"].find().parent / "tokenizer.json").read_text("utf-8")
    return SubwordTokenizer(content, max_tokens, prompt)


def expected_ids(texts: Sequence[str], max_tokens: int = MOST) -> list[tuple[int, ...]]:
    read = hugging_face_tokenizer()(list(texts), truncation="longest_first", max_length=max_tokens)
    assert not any(map(any, read["token_type_ids"]))
    assert all(map(all, read["attention_mask"]))
    return [tuple(ids) for ids in read["input_ids"]]


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    hugging_face_tokenizer()
    embedded()


def test_strange_texts() -> None:
    assert [text.ids for text in embedded().tokenize(STRANGE)] == expected_ids(STRANGE)
    assert len({text.ids for text in embedded().tokenize(STRANGE)}) > len(STRANGE) - 6


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_texts(texts: list[str]) -> None:
    assert [text.ids for text in embedded().tokenize(texts)] == (expected_ids(texts) if texts else [])


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60), st.sampled_from([2, 3, 7, 12]))
def test_any_limit(text: str, most: int) -> None:
    (found,) = embedded(most).tokenize([text])
    (whole,) = embedded().tokenize([text])
    assert [found.ids] == expected_ids([text], most)
    assert found.is_cut == (len(whole.ids) > most)


def test_texts_are_cut_from_the_limit_on() -> None:
    texts = ["a " * 253, "a " * 254, "a " * 255, "a " * 5000]
    found = embedded().tokenize(texts)
    assert [(len(text.ids), text.is_cut) for text in found] == [(255, False), (256, False), (256, True), (256, True)]


def test_no_limit() -> None:
    content = (EMBEDDED_WEIGHTS["all-minilm-l6-v2"].find().parent / "tokenizer.json").read_text("utf-8")
    (found,) = SubwordTokenizer(content, None).tokenize(["a " * 1000])
    assert (len(found.ids), found.is_cut) == (1002, False)


@pytest.mark.parametrize("prompt", ["query: ", "", " ", "Frage"])
def test_the_prompt(prompt: str) -> None:
    found = embedded(MOST, prompt).tokenize(STRANGE)
    assert [text.ids for text in found] == expected_ids([prompt + text for text in STRANGE])


@pytest.mark.slow
def test_the_ids_that_the_model_reads(text_encoder: Any) -> None:
    """They are those of `encode`, whose features go into the model, and of the encoder's own `tokenize`."""
    texts = [*STRANGE, *texts_of(list(range(1, 20)))]
    for text, found in zip(texts, embedded().tokenize(texts), strict=True):
        features = text_encoder._model.preprocess([text])
        inputs = stack_tokens([found])
        assert {name: features[name].tolist() for name in inputs} == {
            name: values.tolist() for name, values in inputs.items()
        }
    assert embedded().tokenize(texts) == text_encoder.tokenize(texts)
    assert embedded().vocabulary == text_encoder._model.tokenizer.get_vocab()


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff"])
def test_half_of_a_character_is_refused(text: str) -> None:
    with pytest.raises(InputRefused, match="half of a character") as caught:
        embedded().tokenize(["dog", text])
    assert repr(text) in caught.value.came


@pytest.mark.parametrize("content", ["", "{}", "[]", "no JSON"])
def test_what_is_no_tokenizer_is_refused(content: str) -> None:
    with pytest.raises(InputRefused, match="a tokenizer that cannot be read"):
        SubwordTokenizer(content, MOST)


def test_threads_read_what_one_reads() -> None:
    texts = [f"{text} {number}" for number in range(30) for text in STRANGE[:12]]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda text: embedded().tokenize([text])[0], texts))
    assert found == embedded().tokenize(texts)


def test_stripping_and_lowercasing_as_before_version_5_4() -> None:
    """A tokenizer to which spaces and capitals matter reads what is left of a text after Python's own methods."""
    content = by_character().to_str()

    def read(text: str, **options: bool) -> str:
        (found,) = SubwordTokenizer(content, MOST, "Q ", **options).tokenize([text])
        return "".join(map(chr, found.ids))

    assert read(" ΑΣ \x1c") == "Q  ΑΣ \x1c"
    assert read(" ΑΣ \x1c", strip=True) == "Q  ΑΣ"
    assert read(" ΑΣ ", strip=True, lowercase=True) == "q  ας"


def by_character() -> Tokenizer:
    """Return a tokenizer whose tokens are the characters up to U+07FF, by their numbers."""
    tokenizer = Tokenizer(models.WordLevel({chr(number): number for number in range(0x800)}, unk_token="\0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def test_serialising_leaves_out_what_calls_change() -> None:
    tokenizer = hugging_face_tokenizer()
    contents = set()
    for options in ({"padding": True}, {"truncation": True, "max_length": 5}, {}):
        tokenizer(STRANGE, **options)
        contents.add(serialise_tokenizer(tokenizer))
    (content,) = contents
    assert (json.loads(content)["truncation"], json.loads(content)["padding"]) == (None, None)
    found = SubwordTokenizer(content, 9).tokenize(STRANGE)
    assert [text.ids for text in found] == expected_ids(STRANGE, 9)
    assert serialise_tokenizer(stand_in(Tokenizer.from_str(content))) == content


def stand_in(tokenizer: Tokenizer, **options: Any) -> Any:
    return types.SimpleNamespace(is_fast=True, backend_tokenizer=tokenizer, **options)


def test_serialising_keeps_a_changed_normaliser() -> None:
    """sentence-transformers from 5.4 on puts lowercasing into the tokenizer itself."""
    tokenizer = by_character()
    tokenizer.normalizer = normalizers.Lowercase()
    (found,) = SubwordTokenizer(serialise_tokenizer(stand_in(tokenizer)), MOST).tokenize(["AbÜ"])
    assert found.ids == tuple(map(ord, "abü"))


def test_tokenizers_that_cannot_be_serialised() -> None:
    typed = by_character()
    typed.post_processor = processors.TemplateProcessing("$A:1", special_tokens=[])
    for tokenizer, why in (
        (types.SimpleNamespace(is_fast=False), "is written in Python"),
        (stand_in(by_character(), truncation_side="left"), "cuts the beginnings of texts"),
        (stand_in(typed), "gives other token types than 0"),
    ):
        with pytest.raises(UsageError, match=why):
            serialise_tokenizer(tokenizer)


def test_inputs_are_64_bit_whole_numbers() -> None:
    inputs = stack_tokens(embedded().tokenize(["dog", "cat"]))
    assert {values.dtype for values in inputs.values()} == {np.dtype(np.int64)}
    assert {values.shape for values in inputs.values()} == {(2, 3)}
