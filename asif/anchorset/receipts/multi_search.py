"""Find any of many byte strings in files in one pass, by looking up 8-byte prefixes at every offset."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PREFIX_BYTES = 8
_CHUNK_BYTES = 1 << 24
_TABLE_BITS = 20  # the table has 2^20 slots
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; multiplying by it mixes all bits into the upper ones


class ByteMatcher:
    """Search for byte strings; those of fewer than 8 bytes take a pass each."""

    def __init__(self, strings: Collection[bytes]) -> None:
        self._short = [each for each in strings if len(each) < PREFIX_BYTES]
        self._by_prefix: dict[int, list[bytes]] = {}
        for each in set(strings).difference(self._short):
            self._by_prefix.setdefault(int.from_bytes(each[:PREFIX_BYTES], "little"), []).append(each)
        self._longest = max(map(len, strings), default=0)
        self._table = np.zeros(1 << _TABLE_BITS, bool)
        self._table[_compute_slots(np.array(list(self._by_prefix), np.uint64))] = True

    def find_in(self, data: bytes | mmap.mmap) -> set[bytes]:
        """Return the byte strings that occur in `data`.

        >>> sorted(ByteMatcher([b"a brown dog", b"a white cat"]).find_in(b"two of us: a brown dogs, a white hat"))
        [b'a brown dog']
        """
        found = {each for each in self._short if data.find(each) >= 0}
        for start in range(0, len(data) if self._by_prefix else 0, _CHUNK_BYTES):
            chunk = data[start : start + _CHUNK_BYTES + self._longest]
            for offset in self._find_candidates(chunk):
                candidates = self._by_prefix.get(int.from_bytes(chunk[offset : offset + PREFIX_BYTES], "little"), ())
                found.update(one for one in candidates if chunk[offset : offset + len(one)] == one)
        return found

    def _find_candidates(self, data: bytes) -> Iterator[int]:
        """Yield the offsets whose next 8 bytes share a table slot with a prefix."""
        for offset in range(PREFIX_BYTES):
            count = (len(data) - offset) // PREFIX_BYTES
            if count > 0:
                hits = np.flatnonzero(self._table[_compute_slots(np.frombuffer(data, "<u8", count, offset))])
                yield from (PREFIX_BYTES * hits + offset).tolist()

    def find_in_file(self, path: Path) -> set[bytes]:
        """Return the byte strings that occur in a file."""
        with open(path, "rb") as file:
            if not path.stat().st_size:
                return set()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return self.find_in(mapped)


def _compute_slots(prefixes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    slots: NDArray[np.uint64] = (prefixes * _HASH_FACTOR) >> np.uint64(64 - _TABLE_BITS)
    return slots
