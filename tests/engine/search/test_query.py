"""Queries: parts, weights, and what is refused."""

from __future__ import annotations

import pytest

from asif.engine.search.query import Query, QueryPart, split_weight
from asif.errors import UsageError


def test_parts_of_all_kinds_with_their_weights() -> None:
    query = Query.of(["2.5:a dog", "snow"], ["a.jpg"], ["id 7"], minus=["3:people"])
    assert [(part.kind, part.content, part.weight) for part in query.parts] == [
        ("text", "a dog", 2.5),
        ("text", "snow", 1.0),
        ("image", "a.jpg", 1.0),
        ("item", "id 7", 1.0),
        ("text", "people", -3.0),
    ]
    assert str(query) == "2.5:a dog + snow + a.jpg + item id 7 - 3:people"


@pytest.mark.parametrize("text", ["a dog", "16:9 screen", "12:", ":a", "-2:a", "2 : a", "2.:a"])
def test_only_a_number_and_a_colon_before_words_is_a_weight(text: str) -> None:
    assert split_weight(text) == ((16.0, "9 screen") if text.startswith("16") else (1.0, text))


@pytest.mark.parametrize(
    ("parts", "came"),
    [
        ({"minus": ["a dog"]}, "only takes away"),
        ({}, "without parts"),
        ({"texts": ["  "]}, "without text"),
        ({"texts": ["0:a dog"]}, "the weight 0"),
    ],
)
def test_queries_that_are_none(parts: dict[str, list[str]], came: str) -> None:
    with pytest.raises(UsageError, match=came):
        Query.of(**parts)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the weight inf"):
        QueryPart("text", "a dog", float("inf"))
