"""Bytes of a page, as they are or decompressed: order, ends, damage."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pytest

from asif.pairs.page_bytes import DamagedPage, DecodedBytes, FileBytes, PageBytes, decompress_stream

DATA = random.Random(1).randbytes(3000) + bytes(3_000_000)


def test_a_file_is_read_between_two_places_while_others_read_it() -> None:
    file = io.BytesIO(b"0123456789")
    source = FileBytes(file, 2, 8)
    assert source.read(2) == b"23"
    file.seek(0)
    source.skip(1)
    assert source.left == 3 and source.read(3) == b"567" and source.read(0) == b""
    with pytest.raises(DamagedPage, match="1 bytes are expected at byte 8, the page has 0"):
        source.read(1)
    with pytest.raises(DamagedPage, match="the file ends before byte 12"):
        FileBytes(file, 8, 12).read(4)


def test_pieces_are_joined_and_their_size_is_held_to() -> None:
    source = DecodedBytes(iter([b"ab", memoryview(b"cdef"), b"g"]), 8)
    assert source.read(3) == b"abc" and source.left == 5
    source.skip(2)
    with pytest.raises(DamagedPage, match="4 bytes are expected where the page has 3"):
        source.read(4)
    assert source.read(2) == b"fg"
    with pytest.raises(DamagedPage, match="ends 1 bytes before its size"):
        source.read(1)
    for move in (source.read, source.skip):
        with pytest.raises(DamagedPage):
            move(-1)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "brotli"])
def test_streams_are_decompressed_in_pieces(codec: str) -> None:
    compressed = bytes(pa.Codec(codec).compress(DATA))
    file = io.BytesIO(b"before" + compressed + b"after")
    end = 6 + len(compressed)
    pieces = list(decompress_stream(FileBytes(file, 6, end), codec))
    assert b"".join(pieces) == DATA and max(map(len, pieces)) <= 1 << 20
    cut: PageBytes = DecodedBytes(decompress_stream(FileBytes(file, 6, end - 9), codec), len(DATA))
    with pytest.raises((OSError, DamagedPage)):
        cut.read(len(DATA))
