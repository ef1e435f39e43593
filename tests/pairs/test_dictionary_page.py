"""Values by their index: what was written, in any order, and copied only where an index goes back."""

from __future__ import annotations

import errno
import io
import random
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest

from asif.errors import OutOfSpace
from asif.pairs import dictionary_page
from asif.pairs.dictionary_page import DictionaryPage, read_value
from asif.pairs.page_bytes import DamagedPage, DecodedBytes, FileBytes, PageBytes
from asif.pairs.row_parser import Flaw

RANDOM = random.Random(2)
VALUES = [RANDOM.randbytes(RANDOM.randrange(50)) for _ in range(40)]
PAGE = b"".join(len(value).to_bytes(4, "little") + value for value in VALUES)


def as_file() -> PageBytes:
    return FileBytes(io.BytesIO(b"123" + PAGE + b"45"), 3, 3 + len(PAGE))


def as_pieces() -> PageBytes:
    return DecodedBytes((PAGE[at : at + 7] for at in range(0, len(PAGE), 7)), len(PAGE))


@pytest.mark.parametrize("open_page", [as_file, as_pieces])
@pytest.mark.parametrize("held", [1, 1 << 20])
def test_any_order(open_page: Any, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary_page, "_HELD_BYTES", held)
    order = [0, 0, 1, 5, 5, 39, *RANDOM.choices(range(40), k=100)]
    page = DictionaryPage(open_page, len(VALUES))
    assert [page.read(index) for index in order] == [VALUES[index] for index in order]
    page.close()


def test_ascending_indices_copy_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary_page, "_ValueIndex", None)
    page = DictionaryPage(as_pieces, len(VALUES))
    assert [page.read(index) for index in (2, 3, 3, 9, 39, 39)] == [VALUES[index] for index in (2, 3, 3, 9, 39, 39)]
    with pytest.raises(TypeError):
        page.read(38)


def test_temporary_files_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    class Noted(SpooledTemporaryFile[bytes]):
        def __init__(self, size: int) -> None:
            super().__init__(size)
            opened.append(self)

    monkeypatch.setattr(dictionary_page, "SpooledTemporaryFile", Noted)
    page = DictionaryPage(as_pieces, len(VALUES))
    assert page.read(5) == VALUES[5] and not opened
    assert page.read(4) == VALUES[4] and len(opened) == 2
    page.close()
    damaged = DictionaryPage(as_pieces, len(VALUES) + 1)
    damaged.read(5)
    with pytest.raises(DamagedPage):
        damaged.read(4)
    assert len(opened) == 4 and all(file.closed for file in opened)


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dictionary_page, "SpooledTemporaryFile", lambda size: Full())
    page = DictionaryPage(as_pieces, len(VALUES))
    page.read(1)
    with pytest.raises(OutOfSpace, match="set TMPDIR"):
        page.read(0)


def test_values_that_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary_page, "MAX_CELL_BYTES", 4)
    page = FileBytes(io.BytesIO(b"\5\0\0\0abcde\1\0\0\0f\2\0\0\0g"), 0, 19)
    assert read_value(page) == Flaw("has 5 bytes, more than 4") and read_value(page) == b"f"
    with pytest.raises(DamagedPage, match="a value of 2 bytes is longer than its page, which has 1 more"):
        read_value(page)
