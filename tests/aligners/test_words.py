"""Words: how texts are cut into them, which ones are counted, and their rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from asif.aligners.words import MOST_WORDS, Vocabulary, find_words

WORDS = ["dog", "dogs", "cat", "runs", "running", "red", "ball", "grass", "猫", "犬と猫"]
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
anchors = st.lists(st.lists(texts, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dogs, dog; DOG's 2nd-hand", {"dog", "s", "nd", "hand"}),
        ("flies fly bus ring red", {"fli", "fly", "bus", "ring", "red"}),
        ("\uff21 \ufb01sh CAFÉ cafe\u0301", {"a", "fish", "café"}),
        ("Straße, dağ", {"straße", "dağ"}),
        ("हिन्दी में", {"हिन्दी", "में"}),
        ("东京塔 Tower", {"东京", "京塔", "tower"}),
        ("猫", {"猫"}),
        ("犬3匹が走る", {"犬", "匹が", "が走", "走る"}),
        ("แมว", {"แม", "มว"}),
        ("한국어 문장", {"한국어", "문장"}),
        ("iPhone用ケース", {"iphone", "用ケ", "ケー", "ース"}),
        ("", set()),
        ("123 … !?", set()),
    ],
)
def test_a_text_is_cut_into_words(text: str, expected: set[str]) -> None:
    assert find_words(text) == expected


def test_a_row_is_the_mean_of_unit_rows_of_weighted_words() -> None:
    captions = [("a red dog", "a dog"), ("a red cat", "the cat"), ("grass", "a red ball")]
    vocabulary = Vocabulary.count(captions)
    assert vocabulary.words == ("a", "cat", "dog", "red")  # in two of the six captions
    np.testing.assert_allclose(vocabulary.weights, np.log(6 / np.array([4, 2, 2, 3])))
    a, cat, _, red = vocabulary.weights
    first = np.array([a, 0, 0, red]) / np.hypot(a, red)
    found = vocabulary.represent([("red a red",), ("cat", "red a"), ("unknown",), ()]).toarray()
    expected = [first, (np.array([0, cat / cat, 0, 0]) + first) / 2, np.zeros(4), np.zeros(4)]
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_words_of_all_captions_and_rare_words_do_not_count() -> None:
    many = [("every one",)] * 7 + [("every two",)] * 8 + [("every",)] * 985
    assert Vocabulary.count(many).words == ("one", "two")
    assert Vocabulary.count([*many, ("every",)]).words == ("two",)  # from 1,001 anchors on


def test_the_vocabulary_is_bounded() -> None:
    names = ["w" + "".join("bcfhjklmnp"[int(digit)] for digit in f"{number:05}") for number in range(MOST_WORDS + 5)]
    captions = [(" ".join(names),), (" ".join(names),), (names[-1],), ("other",)]
    assert Vocabulary.count(captions).words == (*names[: MOST_WORDS - 1], names[-1])


@settings(deadline=None, max_examples=examples(60))
@given(captions=anchors, order=st.randoms())
def test_neither_the_order_of_anchors_nor_of_words_matters(captions: list[tuple[str, ...]], order: object) -> None:
    vocabulary = Vocabulary.count(captions)
    mixed = [tuple(" ".join(reversed(text.split())) for text in reversed(some)) for some in captions]
    rows = vocabulary.represent(captions).toarray()
    np.testing.assert_array_equal(vocabulary.represent([some[::-1] for some in mixed]).toarray(), rows)
    order.shuffle(mixed)  # type: ignore[attr-defined]
    again = Vocabulary.count(mixed)
    assert again.words == vocabulary.words
    np.testing.assert_array_equal(again.weights, vocabulary.weights)
    for start in range(len(captions)):
        np.testing.assert_array_equal(vocabulary.represent(captions[start:]).toarray(), rows[start:])


@settings(deadline=None, max_examples=examples(30))
@given(captions=anchors)
def test_what_is_written_is_read_back(captions: list[tuple[str, ...]]) -> None:
    vocabulary = Vocabulary.count(captions)
    again = Vocabulary.from_arrays(vocabulary.as_arrays())
    assert again.words == vocabulary.words
    np.testing.assert_array_equal(again.weights, vocabulary.weights)
