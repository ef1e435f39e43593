"""Read large binary columns of parquet files value by value, whatever the size of their pages.

pyarrow holds a page as a whole, and a dictionary page twice; it checks the size of a page that it writes every 1,024
values only, so one page may be an entire row group of images. Here only levels and places of a page are kept in
memory. Columns must be uncompressed. Layout: https://parquet.apache.org/docs/file-format/.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from asif.pairs.row_parser import Flaw

MAX_CELL_BYTES = 256 << 20
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _RLE, _DICTIONARY_ENCODINGS = 0, 3, (2, 8)
_KNOWN_ENCODINGS = {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_HEADER_BYTES = (1 << 12, 1 << 16, 1 << 24)  # tried in turn
_MAX_PAGE_VALUES = 1 << 26
_MAX_DEPTH = 8
_Place = tuple[int, int]
"""Where a value begins in the file, and its length."""


class DamagedPage(ValueError):
    """A page is not as its header says; raised to the caller that knows the file."""


@dataclass(frozen=True)
class BinaryChunk:
    """Locate the values of one column in one row group: bytes `begin` to `end` of the file, `values` with nulls."""

    begin: int
    end: int
    values: int
    max_level: int


def find_binary_chunk(file: Any, group: int, path: str) -> BinaryChunk | None:
    """Return where a column of a row group is, by its path in the schema; None if it cannot be read value by value."""
    about = file.metadata.row_group(group)
    number = next((at for at in range(about.num_columns) if about.column(at).path_in_schema == path), None)
    if number is None:
        return None
    column, schema = about.column(number), file.metadata.schema.column(number)
    plain = column.physical_type == "BYTE_ARRAY" and column.compression == "UNCOMPRESSED"
    if (
        not plain
        or column.num_values != about.num_rows
        or schema.max_repetition_level
        or not set(column.encodings) <= _KNOWN_ENCODINGS
    ):
        return None
    begin = min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
    return BinaryChunk(begin, begin + column.total_compressed_size, column.num_values, schema.max_definition_level)


def find_dictionary_bytes(file: IO[bytes], begin: int) -> int:
    """Return the decoded size of the dictionary page that begins there: no value of it is larger."""
    header, _ = _read_header(file, begin)
    return int(header.get(2, 0))


def read_binary_values(file: IO[bytes], chunk: BinaryChunk, start: int) -> Iterator[bytes | Flaw | None]:
    """Yield the values of a column from row `start` on: None for null, a Flaw for more than 256 MiB.

    Raises DamagedPage.
    """
    row = 0
    for count, places in _read_pages(file, chunk):
        if row + count > start:
            for at, place in enumerate(places, row):
                if at >= start:
                    yield _read_value(file, place)
        row += count


def _read_value(file: IO[bytes], place: _Place | None) -> bytes | Flaw | None:
    if place is None:
        return None
    if place[1] > MAX_CELL_BYTES:
        return Flaw(f"has {place[1]:,} bytes, more than {MAX_CELL_BYTES:,}")
    return _read_bytes(file, *place)


def _read_pages(file: IO[bytes], chunk: BinaryChunk) -> Iterator[tuple[int, Iterator[_Place | None]]]:
    """Yield the number of values of each data page, and where they are (None for nulls)."""
    at, seen = chunk.begin, 0
    dictionary: list[_Place] = []
    while seen < chunk.values:
        header, size = _read_header(file, at)
        body, at = at + size, at + size + header.get(3, 0)
        if at > chunk.end or at <= body:
            raise DamagedPage(f"a page of {header.get(3, 0):,} bytes at byte {body:,} is longer than its column")
        _check_sum(file, body, at, header.get(4))
        if header.get(1) == _DICTIONARY_PAGE:
            dictionary = list(_locate_plain(file, body, at, header[7][1]))
        elif header.get(1) in (_DATA_PAGE, _DATA_PAGE_V2):
            count, encoding, levels, values = _read_levels(file, body, header, chunk.max_level)
            seen += count
            if encoding == _PLAIN:
                places = _locate_plain(file, values, at, int(levels.sum()))
            elif encoding in _DICTIONARY_ENCODINGS:
                places = _locate_indexed(_read_bytes(file, values, at - values), dictionary, int(levels.sum()))
            else:
                raise DamagedPage(f"values in the encoding {encoding}")
            yield count, _insert_nulls(levels, places)
    if seen != chunk.values:
        raise DamagedPage(f"{seen:,} values instead of {chunk.values:,}")


def _read_levels(
    file: IO[bytes], body: int, header: dict[int, Any], max_level: int
) -> tuple[int, int, NDArray[np.bool_], int]:
    """Return the number of values of a page, their encoding, which are not null [n], and where the values begin."""
    second = header[1] == _DATA_PAGE_V2
    about = header[8] if second else header[5]
    count, encoding = about[1], about[4] if second else about[2]
    if not 0 <= count <= _MAX_PAGE_VALUES:
        raise DamagedPage(f"a page of {count:,} values")
    if second:
        begin, length = body + about.get(6, 0), about.get(5, 0)
    elif max_level:
        if about[3] != _RLE:
            raise DamagedPage(f"levels in the encoding {about[3]}")
        begin, length = body + 4, int.from_bytes(_read_bytes(file, body, 4), "little")
    else:
        begin, length = body, 0
    if not max_level:
        return count, encoding, np.ones(count, np.bool_), begin + length
    levels = _decode_hybrid(_read_bytes(file, begin, length), max_level.bit_length(), count)
    return count, encoding, levels == max_level, begin + length


def _locate_plain(file: IO[bytes], begin: int, end: int, count: int) -> Iterator[_Place]:
    """Yield where each of `count` values is, of which each has its length before it."""
    at = begin
    for _ in range(count):
        length = int.from_bytes(_read_bytes(file, at, 4), "little")
        if at + 4 + length > end:
            raise DamagedPage(f"a value of {length:,} bytes at byte {at:,} is longer than its page")
        yield at + 4, length
        at += 4 + length


def _locate_indexed(data: bytes, dictionary: list[_Place], count: int) -> Iterator[_Place]:
    indices = _decode_hybrid(data[1:], data[0], count) if count else np.empty(0, np.int64)
    if count and int(indices.max()) >= len(dictionary):
        raise DamagedPage(f"the index {int(indices.max()):,} into a dictionary of {len(dictionary):,} values")
    return (dictionary[index] for index in indices.tolist())


def _insert_nulls(present: NDArray[np.bool_], places: Iterator[_Place]) -> Iterator[_Place | None]:
    return (next(places) if there else None for there in present.tolist())


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
        run, at = _read_varint(data, at)
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


def _read_header(file: IO[bytes], at: int) -> tuple[dict[int, Any], int]:
    """Return the fields of the page header that begins there, by number, and its length."""
    for size in _HEADER_BYTES:
        file.seek(at)
        data = file.read(size)
        try:
            return _parse_struct(data, 0, 0)
        except IndexError:
            if len(data) < size:
                break
    raise DamagedPage(f"no page header at byte {at:,}")


def _parse_struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Parse a struct of Thrift's compact protocol: {field number: value}."""
    if depth > _MAX_DEPTH:
        raise DamagedPage("a page header of too many levels")
    fields: dict[int, Any] = {}
    number = 0
    while (byte := data[at]) != 0:
        at += 1
        if byte >> 4:
            number += byte >> 4
        else:
            number, at = _read_zigzag(data, at)
        fields[number], at = _parse_value(data, at, byte & 15, depth)
    return fields, at + 1


def _parse_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _read_zigzag(data, at)
    if kind == 8:
        length, at = _read_varint(data, at)
        if at + length > len(data):
            raise IndexError
        return None, at + length
    if kind == 12:
        return _parse_struct(data, at, depth + 1)
    raise DamagedPage(f"a field of the type {kind} in a page header")


def _read_zigzag(data: bytes, at: int) -> tuple[int, int]:
    number, at = _read_varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise DamagedPage("a number of more than 64 bits")


def _check_sum(file: IO[bytes], begin: int, end: int, expected: int | None) -> None:
    if expected is None:
        return
    found = 0
    for at in range(begin, end, 1 << 20):
        found = zlib.crc32(_read_bytes(file, at, min(1 << 20, end - at)), found)
    if found != expected & 0xFFFFFFFF:
        raise DamagedPage(f"the page at byte {begin:,} does not have its checksum")


def _read_bytes(file: IO[bytes], at: int, length: int) -> bytes:
    file.seek(at)
    data = file.read(length)
    if len(data) != length:
        raise DamagedPage(f"the file ends before byte {at + length:,}")
    return data
