"""Expressions that choose pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edited_sets import EVERY, publish

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
