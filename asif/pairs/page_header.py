"""Parse the headers of parquet pages: structs in Thrift's compact protocol."""

from __future__ import annotations

from typing import IO, Any

from asif.pairs.page_bytes import DamagedPage

_HEADER_BYTES = (1 << 12, 1 << 16, 1 << 24)  # tried in turn
_MAX_DEPTH = 8


def read_page_header(file: IO[bytes], at: int) -> tuple[dict[int, Any], int]:
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
        length, at = read_varint(data, at)
        if at + length > len(data):
            raise IndexError
        return None, at + length
    if kind == 12:
        return _parse_struct(data, at, depth + 1)
    raise DamagedPage(f"a field of the type {kind} in a page header")


def _read_zigzag(data: bytes, at: int) -> tuple[int, int]:
    number, at = read_varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins there, 7 bits a byte, and where it ends."""
    number = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise DamagedPage("a number of more than 64 bits")
