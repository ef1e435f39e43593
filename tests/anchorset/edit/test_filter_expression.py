"""Expressions that choose pairs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edited_sets import EVERY, publish
from support.examples import examples

from asif.anchorset import Store, find_rows
from asif.errors import UsageError
from asif.pairs.filter_expression import parse_where
from asif.pairs.pair import PairRecord

WHERE = {
    "id = '2'": [1],
    "id in ('1', '3')": [0, 2],
    "ID NOT IN ('1', '3')": [1],
    "id in '1'": [0],
    "caption = 'a dog'": [1],
    "caption != 'a dog'": [0, 2],
    "caption like '%dog%'": [1, 2],
    "caption not like '%dog%'": [0],
    "not caption like '%dog%'": [0],
    "caption like 'A%'": [],
    "caption like 'a _og'": [1],
    "source = 'web'": [0],
    "source != 'web'": [1, 2],
    "license = 'CC0' or url like '%example.org/_'": [1, 2],
    "licence != 'CC0' and not (id = '1')": [2],
    "id = '1' or id = '2' and id = '3'": [0],
    r"caption like '%\d%'": [2],
    'caption = "it\'s a dog\\d"': [2],
}  # fmt: skip


RECORDS = [
    PairRecord("1", ("a cat",), "x", source="web"),
    PairRecord("2", ("nothing", "a dog"), "x", licence="CC0"),
    PairRecord("3", ("it's a dog\\d",), "x", source="x", url="https://example.org/3"),
]


@pytest.mark.parametrize("text", WHERE)
def test_expressions(text: str) -> None:
    holds = parse_where(text)
    assert [row for row, record in enumerate(RECORDS) if holds(record)] == WHERE[text]


@pytest.mark.parametrize(
    "text",
    ["", "id", "id =", "id = 1", "id = source", "'a' = 'a'", "size = 'x'", "id < '1'", "id = 'a' = 'b'", "id like id",
    "__import__('os').system('x') = 'a'", "id = f'{1}'", "id = b'x'", "(lambda: 1)", "id = 'a' 'b'", "id = 'it''s'",
    "id = '1'; id = '2'", "id = '1' # x", "id @ 'x'", "id % 'x'", "id is none", "id = 'a' if id else id", "(" * 500,
    "id in ()or", "not " * 9000 + "id = '1'", "id = '1' and", "id = '\0'", "[id for id in id]", "id in ('a', 1)"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write for example"):
        parse_where(text)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    refusal, found = None, set[bool]()
    try:
        holds = parse_where(text)
        found = {holds(record) for record in RECORDS}
    except UsageError as error:
        refusal = error.fix
    assert found <= {True, False}
    assert bool(found) is (refusal is None)  # it says yes or no of every pair, or is refused
    assert refusal is None or "write for example" in refusal


def test_rows_are_found_by_expression(home: Path) -> None:
    opened = publish(home)
    expected = [row for row, pair in enumerate(EVERY) if pair.licence is None and pair.source]
    assert find_rows(opened, where="licence != 'CC-BY-4.0' and source like 'source%'").tolist() == expected != []
    after = Store(home).remove("toy", where="licence != 'CC-BY-4.0' and source like 'source%'")
    assert after.count == 60 - len(expected)
    assert find_rows(after, where="licence != 'CC-BY-4.0' and source like 'source%'").tolist() == []
    last = after.records([after.count - 1])[0].id
    assert find_rows(after, [last]).tolist() == [after.count - 1] and opened.count == 60


@settings(max_examples=examples(300), deadline=None)
@given(st.text("ab%_.", max_size=8), st.text("ab.\n", max_size=10))
def test_like_matches_as_the_regular_expression_does(pattern: str, text: str) -> None:
    defined = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    holds = parse_where(f"caption like '{pattern}'")(PairRecord("1", (text,), "0"))
    assert holds == bool(re.fullmatch(defined, text, re.DOTALL))


def test_many_wildcards_match_without_backtracking() -> None:
    """A regular expression needs more steps than there are atoms for this one."""
    pair = PairRecord("1", ("a" * 10_000,), "0")
    assert not parse_where(f"caption like '{'%a' * 400}b'")(pair)
    assert parse_where(f"caption like '{'%a' * 400}'")(pair)


@pytest.mark.parametrize(
    "deep",
    [
        "not " * 51 + "id = 'a'",
        "not " * 2400 + "id = 'a'",
        "not (" * 51 + "id = 'a'" + ")" * 51,
        "(" * 4000 + "id = 'a'",
    ],
)
def test_deep_expressions_are_refused(deep: str) -> None:
    with pytest.raises(UsageError):
        parse_where(deep)


def test_fifty_levels_are_allowed() -> None:
    assert not parse_where("not " * 49 + "id = 'a'")(PairRecord("a", ("x",), "0"))
