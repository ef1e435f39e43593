"""Read large binary columns of parquet files value by value, whatever the size of their pages.

pyarrow holds a page as a whole, and a dictionary page twice; it checks the size of a page that it writes every 1,024
values only, so one page may be an entire row group of images. Here only levels and indices of a page are kept in
memory, and pages are decompressed in pieces. Layout: https://parquet.apache.org/docs/file-format/.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from asif.pairs.dictionary_page import DictionaryPage, read_value, skip_value
from asif.pairs.page_bytes import PIECE_BYTES, DamagedPage, DecodedBytes, FileBytes, PageBytes, decompress_stream
from asif.pairs.page_header import read_page_header, read_varint
from asif.pairs.row_parser import Flaw
from asif.pairs.snappy import decompress_snappy

_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _RLE, _DICTIONARY_ENCODINGS = 0, 3, (2, 8)
_KNOWN_ENCODINGS = {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_CODECS = {"UNCOMPRESSED": None, "SNAPPY": "snappy", "GZIP": "gzip", "ZSTD": "zstd", "BROTLI": "brotli"}
_MAX_PAGE_VALUES = 1 << 26
_MAX_PAGE_BYTES = (1 << 31) - 1
_NUMBER_BYTES = 16  # more than a level or an index takes in any run


@dataclass(frozen=True)
class BinaryChunk:
    """Locate the values of one column in one row group: bytes `begin` to `end` of the file, `values` with nulls.

    `decoded` is the size without compression, `codec` pyarrow's name of the compression.
    """

    begin: int
    end: int
    values: int
    max_level: int
    codec: str | None
    decoded: int


def find_binary_chunk(file: Any, group: int, path: str) -> BinaryChunk | None:
    """Return where a column of a row group is, by its path in the schema; None if it cannot be read value by value."""
    about = file.metadata.row_group(group)
    number = next((at for at in range(about.num_columns) if about.column(at).path_in_schema == path), None)
    if number is None:
        return None
    column, schema = about.column(number), file.metadata.schema.column(number)
    known = column.physical_type == "BYTE_ARRAY" and column.compression in _CODECS
    if (
        not known
        or column.num_values != about.num_rows
        or schema.max_repetition_level
        or not set(column.encodings) <= _KNOWN_ENCODINGS
    ):
        return None
    begin = min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
    end = begin + column.total_compressed_size
    codec, decoded = _CODECS[column.compression], column.total_uncompressed_size
    return BinaryChunk(begin, end, column.num_values, schema.max_definition_level, codec, decoded)


def find_dictionary_bytes(file: IO[bytes], begin: int) -> int:
    """Return the decoded size of the dictionary page that begins there: no value of it is larger."""
    header, _ = read_page_header(file, begin)
    return int(header.get(2, 0))


def read_binary_values(file: IO[bytes], chunk: BinaryChunk, start: int) -> Iterator[bytes | Flaw | None]:
    """Yield the values of a column from row `start` on: None for null, a Flaw for more than 256 MiB.

    Pages before that row are not read. Raises DamagedPage, and OutOfSpace where a temporary copy does not fit.
    """
    row = 0
    dictionary: DictionaryPage | None = None
    try:
        for page in _iter_pages(file, chunk):
            if page.header.get(1) == _DICTIONARY_PAGE:
                if dictionary is not None:
                    raise DamagedPage("a second dictionary")
                _check_sum(page)
                dictionary = DictionaryPage(partial(_open_body, page, page.begin), page.header[7][1])
            elif page.header.get(1) in (_DATA_PAGE, _DATA_PAGE_V2):
                count = _read_count(page)
                if row + count > start:
                    _check_sum(page)
                    yield from _read_data_page(page, dictionary, max(start - row, 0))
                row += count
    finally:
        if dictionary is not None:
            dictionary.close()


@dataclass(frozen=True)
class _Page:
    """Hold the header of a page, and where its body is."""

    file: IO[bytes]
    chunk: BinaryChunk
    header: dict[int, Any]
    begin: int
    end: int


def _iter_pages(file: IO[bytes], chunk: BinaryChunk) -> Iterator[_Page]:
    """Yield the pages of a column up to its last value."""
    at, seen = chunk.begin, 0
    while seen < chunk.values:
        header, size = read_page_header(file, at)
        body, at = at + size, at + size + header.get(3, 0)
        if not body <= at <= chunk.end:
            raise DamagedPage(f"a page of {header.get(3, 0):,} bytes at byte {body:,} is longer than its column")
        page = _Page(file, chunk, header, body, at)
        if header.get(1) in (_DATA_PAGE, _DATA_PAGE_V2):
            seen += _read_count(page)
        yield page
    if seen != chunk.values:
        raise DamagedPage(f"{seen:,} values instead of {chunk.values:,}")


def _read_about(page: _Page) -> dict[int, Any]:
    about: dict[int, Any] = page.header[8 if page.header[1] == _DATA_PAGE_V2 else 5]
    return about


def _read_count(page: _Page) -> int:
    """Return the number of values of a data page, with nulls."""
    count: int = _read_about(page)[1]
    if not 0 <= count <= _MAX_PAGE_VALUES:
        raise DamagedPage(f"a page of {count:,} values")
    return count


def _read_data_page(page: _Page, dictionary: DictionaryPage | None, first: int) -> Iterator[bytes | Flaw | None]:
    """Yield the values of a page from its row `first` on."""
    present, body = _read_levels(page)
    encoding = _read_about(page)[4 if page.header[1] == _DATA_PAGE_V2 else 2]
    skipped = int(present[:first].sum())
    if encoding == _PLAIN:
        values = _read_plain(body, skipped)
    elif encoding in _DICTIONARY_ENCODINGS:
        values = _read_indexed(body, dictionary, int(present.sum()), skipped)
    else:
        raise DamagedPage(f"values in the encoding {encoding}")
    for there in present[first:]:
        yield next(values) if there else None


def _read_levels(page: _Page) -> tuple[NDArray[np.bool_], PageBytes]:
    """Return which values of a data page are not null [n], and the bytes of those that are not."""
    about, count, most = _read_about(page), _read_count(page), page.chunk.max_level
    if page.header[1] == _DATA_PAGE_V2:
        length, begin = about.get(5, 0), page.begin + about.get(6, 0)
        levels: PageBytes = FileBytes(page.file, begin, page.end)
        body = _open_body(page, begin + length, about.get(7, True))
    else:
        body = levels = _open_body(page, page.begin)
        if most and about[3] != _RLE:
            raise DamagedPage(f"levels in the encoding {about[3]}")
        length = int.from_bytes(body.read(4), "little") if most else 0
    if not most:
        return np.ones(count, np.bool_), body
    return _read_hybrid(levels, length, most.bit_length(), count) == most, body


def _open_body(page: _Page, begin: int, compressed: bool = True) -> PageBytes:
    """Return the bytes of a page from byte `begin` of the file on, decompressed."""
    raw = FileBytes(page.file, begin, page.end)
    codec = page.chunk.codec if compressed else None
    size = page.header.get(2, 0) - (begin - page.begin)
    if raw.left < 0 or not 0 <= size <= _MAX_PAGE_BYTES:
        raise DamagedPage(f"a page of {page.end - page.begin:,} bytes, {page.header.get(2, 0):,} decompressed")
    if codec is None or not raw.left:
        return raw
    return DecodedBytes(decompress_snappy(raw, size) if codec == "snappy" else decompress_stream(raw, codec), size)


def _read_plain(body: PageBytes, skipped: int) -> Iterator[bytes | Flaw]:
    """Yield values, of which each has its length before it, without the first ones."""
    for _ in range(skipped):
        skip_value(body)
    while True:
        yield read_value(body)


def _read_indexed(
    body: PageBytes, dictionary: DictionaryPage | None, count: int, skipped: int
) -> Iterator[bytes | Flaw]:
    """Yield the values of a dictionary at `count` indices, without the first ones."""
    if not count:
        return
    width = body.read(1)[0]
    indices = _read_hybrid(body, body.left, width, count)
    if dictionary is None or int(indices.max()) >= dictionary.count:
        size = 0 if dictionary is None else dictionary.count
        raise DamagedPage(f"the index {int(indices.max()):,} into a dictionary of {size:,} values")
    for index in indices[skipped:]:
        yield dictionary.read(int(index))


def _read_hybrid(source: PageBytes, length: int, width: int, count: int) -> NDArray[np.int64]:
    """Read `count` numbers from the next `length` bytes."""
    most = min(length, (count + 8) * _NUMBER_BYTES)
    data = source.read(most)
    source.skip(length - most)
    return _decode_hybrid(data, width, count)


def _decode_hybrid(data: bytes, width: int, count: int) -> NDArray[np.int64]:
    """Decode `count` numbers of `width` bits from parquet's mixture of runs and packed groups of eight: [count].

    >>> _decode_hybrid(bytes([6, 1, 3, 0b11000110]), 1, 11).tolist()
    [1, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1]
    """
    if width > 32:
        raise DamagedPage(f"numbers of {width} bits")
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    at = total = 0
    weights = 1 << np.arange(width, dtype=np.int64)
    while total < count:
        run, at = read_varint(data, at)
        if run & 1:
            packed = np.frombuffer(data, np.uint8, min((run >> 1) * width, len(data) - at), at)
            bits = np.unpackbits(packed, bitorder="little")
            numbers = bits[: len(bits) // max(width, 1) * width].reshape(-1, max(width, 1)) @ weights if width else None
            part = np.zeros(count - total, np.int64) if numbers is None else numbers[: count - total]
            at += (run >> 1) * width
        else:
            size = (width + 7) // 8
            part = np.full(min(run >> 1, count - total), int.from_bytes(data[at : at + size], "little"), np.int64)
            at += size
        if not len(part):
            raise DamagedPage("an empty run of levels or indices")
        found.append(part)
        total += len(part)
    return np.concatenate(found)


def _check_sum(page: _Page) -> None:
    expected = page.header.get(4)
    if expected is None:
        return
    found, body = 0, FileBytes(page.file, page.begin, page.end)
    while body.left:
        found = zlib.crc32(body.read(min(PIECE_BYTES, body.left)), found)
    if found != expected & 0xFFFFFFFF:
        raise DamagedPage(f"the page at byte {page.begin:,} does not have its checksum")
