"""Decompress raw snappy piece by piece; pyarrow decompresses a block as a whole only.

The lengths of elements are added up here. pyarrow decodes them, some 64 KiB at a time, as a block that begins with the
64 KiB before them as a literal, so that copies find what they repeat. Layout of a block:
https://github.com/google/snappy/blob/main/format_description.txt.
"""

from __future__ import annotations

from collections.abc import Iterator

from asif.pairs.page_bytes import PIECE_BYTES, DamagedPage, FileBytes

_WHOLE_BYTES = 8 << 20  # a smaller block is decompressed as a whole, which is faster
_REACH = 1 << 16  # snappy's own compressor starts again after 64 KiB, so its copies reach no further
_RUN_BYTES = 1 << 16  # compressed
_LONG = 1 << 14  # a literal from here on is passed on as it is
_MARGIN = _LONG + 5  # no element of a run is longer
_MAX_RATIO = 22  # a copy of three bytes makes 64


def _measure_element(tag: int) -> tuple[int, int]:
    """Return the compressed and the decoded bytes of an element; 0 for a literal whose length follows its tag.

    >>> _measure_element(0b1000), _measure_element(0b10101), _measure_element(0b11111110)
    ((4, 3), (2, 9), (3, 64))
    """
    kind, number = tag & 3, tag >> 2
    if kind == 0:
        return (number + 2, number + 1) if number < 60 else (0, 0)
    return (0, 2, 3, 5)[kind], (number & 7) + 4 if kind == 1 else number + 1


_SIZES, _COUNTS = map(bytes, zip(*map(_measure_element, range(256)), strict=True))


def decompress_snappy(compressed: FileBytes, size: int) -> Iterator[bytes | memoryview]:
    """Yield the `size` bytes of a block in pieces; raises DamagedPage.

    A block with copies from more than 64 KiB before, which a few compressors make, is held as a whole from there on.
    """
    begin, total = compressed.at, compressed.left
    declared = _read_size(compressed)
    if declared != size or size > total * _MAX_RATIO:
        raise DamagedPage(
            f"{total:,} bytes of snappy say that they are {declared:,}, their page that they are {size:,}"
        )
    if size <= _WHOLE_BYTES:
        compressed.at = begin
        yield _decompress(compressed.read(total), size)
        return
    decoder = _Decoder(compressed, size)
    yield from decoder.decode()
    if decoder.made < size:
        compressed.at = begin
        yield _decompress(compressed.read(total), size)[decoder.made :]


def _read_size(compressed: FileBytes) -> int:
    size = 0
    for shift in range(0, 35, 7):
        (byte,) = compressed.read(1)
        size |= (byte & 127) << shift
        if byte < 128:
            break
    return size


class _Decoder:
    """Decode the elements of a block; `made` counts the bytes so far."""

    def __init__(self, compressed: FileBytes, size: int) -> None:
        self._compressed, self._size = compressed, size
        self.made = 0
        self._data = self._before = b""

    def decode(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes in pieces, up to the first copy that reaches too far."""
        while self.made < self._size:
            end, count = self._find_run()
            piece = self._decode_run(end, count) if end else None
            if end and piece is None:
                return
            for part in self._read_literal() if piece is None else (piece,):
                self._before = (self._before + part[-_REACH:])[-_REACH:]
                self.made += len(part)
                yield part
        if self._data or self._compressed.left:
            raise DamagedPage(f"more snappy elements than {self._size:,} bytes need")

    def _find_run(self) -> tuple[int, int]:
        """Return the compressed and decoded bytes of the elements before a long literal; 0 where it comes next."""
        if len(self._data) < _RUN_BYTES + _MARGIN:
            self._data += self._compressed.read(min(2 * _RUN_BYTES, self._compressed.left))
        last = len(self._data) - (_MARGIN if self._compressed.left else 0)
        end, count = _add_elements(self._data, min(_RUN_BYTES, last))
        if not self._data or end > len(self._data):
            raise DamagedPage(f"snappy elements end after {self.made:,} of {self._size:,} bytes")
        return end, self._check_count(count)

    def _check_count(self, count: int) -> int:
        if count > self._size - self.made:
            raise DamagedPage(f"snappy elements have more than {self._size:,} bytes")
        return count

    def _decode_run(self, end: int, count: int) -> memoryview | None:
        """Return the bytes of the next elements; None if a copy reaches too far."""
        run, self._data = self._data[:end], self._data[end:]
        known = len(self._before)
        literal = bytes([61 << 2]) + (known - 1).to_bytes(2, "little") + self._before if known else b""
        try:
            return _decompress(_write_size(known + count) + literal + run, known + count)[known:]
        except OSError as error:
            if self._reaches_far(run):
                return None
            raise DamagedPage(f"snappy copies from before the beginning, after {self.made:,} bytes") from error

    def _reaches_far(self, run: bytes) -> bool:
        """Return whether each copy is from bytes that there are, one of them from before those that are held."""
        made, far = 0, False
        for at, tag, count in _iter_elements(run):
            if tag & 3:
                offset = _read_offset(run, at, tag)
                if not 0 < offset <= self.made + made:
                    return False
                far |= offset > len(self._before) + made
            made += count
        return far

    def _read_literal(self) -> Iterator[bytes]:
        """Yield the bytes of a long literal."""
        head, length = _measure_literal(self._data, 0)
        self._check_count(length)
        part, self._data = self._data[head : head + length], self._data[head + length :]
        length -= len(part)
        yield part
        while length:
            part = self._compressed.read(min(length, PIECE_BYTES))
            length -= len(part)
            yield part


def _add_elements(data: bytes, last: int) -> tuple[int, int]:
    """Return where the element ends that holds byte `last`, or where a long literal begins, and the decoded bytes."""
    at = total = 0
    sizes, counts = _SIZES, _COUNTS
    while at < last:
        tag = data[at]
        if size := sizes[tag]:
            at += size
            total += counts[tag]
        else:
            head, length = _measure_literal(data, at)
            if length >= _LONG:
                break
            at += head + length
            total += length
    return at, total


def _iter_elements(run: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield where each element begins, its tag, and its decoded bytes."""
    at = 0
    while at < len(run):
        tag = run[at]
        head, count = (0, _COUNTS[tag]) if _SIZES[tag] else _measure_literal(run, at)
        yield at, tag, count
        at += _SIZES[tag] or head + count


def _measure_literal(data: bytes, at: int) -> tuple[int, int]:
    """Return the bytes before a literal with a length after its tag, and that length."""
    head = (data[at] >> 2) - 58
    return head, int.from_bytes(data[at + 1 : at + head], "little") + 1


def _read_offset(run: bytes, at: int, tag: int) -> int:
    if tag & 3 == 1:
        return (tag >> 5 << 8) | run[at + 1]
    return int.from_bytes(run[at + 1 : at + _SIZES[tag]], "little")


def _write_size(size: int) -> bytes:
    """Return a number as snappy writes it: 7 bits a byte, the low ones first.

    >>> _write_size(300).hex()
    'ac02'
    """
    head = bytearray()
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size])


def _decompress(block: bytes, size: int) -> memoryview:
    import pyarrow as pa

    return memoryview(pa.Codec("snappy").decompress(block, size))
