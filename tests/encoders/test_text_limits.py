"""What text encoders cannot read: texts that are cut, and scripts outside their vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
from support.short_texts import ShortTexts

from asif.encoders.text_limits import count_cut_texts, find_long_texts, has_english_vocabulary, tokenize_long_texts
from asif.vectors import Fingerprint


def test_only_long_texts_are_tokenized() -> None:
    encoder = ShortTexts()
    texts = ["cat", "a b c d e f g h", "a b c d e f g h i", "a b c d e f g h i", "熊熊"]
    assert count_cut_texts(encoder, texts) == 1
    assert encoder.tokenized == ["a b c d e f g h", "a b c d e f g h i", "熊熊"]
    assert tokenize_long_texts(encoder, ["cat"]) == {}


@pytest.mark.parametrize(
    ("fields", "long"),
    [
        ({"max_tokens": 20}, ["x" * 16, "é" * 8]),
        ({"max_tokens": 20, "prompt": "query: "}, ["x" * 15, "x" * 16, "é" * 8]),
        ({"tokenizer": {"class": "t", "context": 20}}, ["x" * 16, "é" * 8]),
        ({"library": "precomputed"}, []),
    ],
)
def test_texts_that_could_be_cut_by_their_bytes(fields: dict[str, Any], long: list[str]) -> None:
    assert find_long_texts(Fingerprint(fields), ["x" * 15, "x" * 16, "é" * 8]) == long


@pytest.mark.slow
def test_the_embedded_encoder_reads_256_tokens_of_english(text_encoder: Any) -> None:
    texts = ["word " * 254, "word " * 255, "word " * 254 + "cat", "!" * 254, "!" * 255, "cat"]
    read = text_encoder.tokenize(texts)
    assert [each.is_cut for each in read] == [False, True, True, False, True, False]
    assert read[0].ids == read[1].ids == read[2].ids != read[3].ids
    assert [len(each.ids) for each in read] == [256, 256, 256, 256, 256, 3]
    assert text_encoder.is_english_only


def test_vocabularies_of_many_languages_are_not_english() -> None:
    english = (
        [f"word{number}" for number in range(900)] + ["Ġdog", "##s", "▁cat"] + [chr(0x400 + at) for at in range(80)]
    )
    many = english + [f"слово{number}" for number in range(600)]
    assert has_english_vocabulary(english) and not has_english_vocabulary(many)
