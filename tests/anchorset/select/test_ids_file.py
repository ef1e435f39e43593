"""Files of ids: what is written is read back, and a removal touches no pair that was not named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.anchorset_sets import build, pairs

from asif.anchorset import Store
from asif.anchorset.select.ids_file import parse_ids, read_ids_file, serialise_ids, write_ids
from asif.errors import NotFound, UsageError

ANY_CHARACTER = st.characters(codec=None, exclude_categories=())  # lone surrogates, too
IDS = st.lists(st.text(ANY_CHARACTER) | st.sampled_from(["\ufeffa", "a\r", " a", "a ", "[", '["a"]', '"a"', "\n", ""]))
ODD = ["\ufeffa", "a\r", "a\n", "a\u2028b", "a ", " a", "\ta", '"a"', '["a"]', "a\x85", "\ufeff", "[", "a\x00b"]


@given(IDS)
@example(["\ufeffa"])
@example(["a", "\ufeffa"])
@example(['["a"]'])
@example(["[", "1]"])
@example(["\ud800"])
def test_ids_come_back(ids: list[str]) -> None:
    assert parse_ids(serialise_ids(ids)) == ids


@given(st.lists(st.from_regex(r"[A-Za-z0-9_/.-]{1,20}", fullmatch=True), min_size=1))
def test_plain_ids_are_plain_lines(ids: list[str]) -> None:
    assert serialise_ids(ids) == "".join(f"{name}\n" for name in ids).encode()


def test_files_that_people_write_are_read_exactly() -> None:
    assert parse_ids(b"a\nb\n") == parse_ids(b"a\r\n\r\nb") == parse_ids(b"\xef\xbb\xbfa\nb\n\n") == ["a", "b"]
    assert parse_ids(b" a\nb \n") == [" a", "b "]
    assert parse_ids(b'[1] a photo\n["b"\n') == ["[1] a photo", '["b"']
    assert parse_ids(b'["a", "b"]') == ["a", "b"]
    assert parse_ids(b"[1, 2]") == ["[1, 2]"]


def test_what_is_no_file_of_ids_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"\n\r\n")
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    for name, why in (("empty", "has no ids"), ("latin", "cannot be read"), ("nowhere", "cannot be read")):
        with pytest.raises(UsageError, match=why):
            read_ids_file(tmp_path / name)


@pytest.mark.parametrize("name", ODD)
def test_a_removal_touches_the_named_pair_alone(name: str, home: Path, tmp_path: Path) -> None:
    others = sorted({"a", "b", "a\x85b", *ODD} - {name})
    records = [replace(pair, id=each) for pair, each in zip(pairs(40), [name, *others], strict=False)]
    build(home, records).close()
    write_ids(tmp_path / "ids", [name])
    removed = Store(home).remove("toy", read_ids_file(tmp_path / "ids"))
    assert sorted(record.id for record in removed.records(range(removed.count))) == others
    with pytest.raises(NotFound):
        Store(home).remove("toy", read_ids_file(tmp_path / "ids"))
