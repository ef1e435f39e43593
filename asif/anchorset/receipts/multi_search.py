"""Find any of many byte strings in files, in one pass: what they begin with is looked up at every offset."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH = 8  # bytes that are looked up
CHUNK = 1 << 24
TABLE = 20  # bits of the table
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # an odd number: multiplying by it moves all bits to the upper ones


class Needles:
    """Look for byte strings; those of fewer than 8 bytes take a pass each."""

    def __init__(self, strings: Collection[bytes]) -> None:
        self._short = [each for each in strings if len(each) < WIDTH]
        self._by_start: dict[int, list[bytes]] = {}
        for each in set(strings).difference(self._short):
            self._by_start.setdefault(int.from_bytes(each[:WIDTH], "little"), []).append(each)
        self._longest = max(map(len, strings), default=0)
        self._table = np.zeros(1 << TABLE, bool)
        self._table[_slots(np.array(list(self._by_start), np.uint64))] = True

    def within(self, data: bytes | mmap.mmap) -> set[bytes]:
        """Return those that occur.

        >>> sorted(Needles([b"a brown dog", b"a white cat"]).within(b"two of us: a brown dogs, a white hat"))
        [b'a brown dog']
        """
        found = {each for each in self._short if data.find(each) >= 0}
        for start in range(0, len(data) if self._by_start else 0, CHUNK):
            some = data[start : start + CHUNK + self._longest]
            for place in self._likely(some):
                starting = self._by_start.get(int.from_bytes(some[place : place + WIDTH], "little"), ())
                found.update(one for one in starting if some[place : place + len(one)] == one)
        return found

    def _likely(self, data: bytes) -> Iterator[int]:
        for offset in range(WIDTH):
            count = (len(data) - offset) // WIDTH
            if count > 0:
                hits = np.flatnonzero(self._table[_slots(np.frombuffer(data, "<u8", count, offset))])
                yield from (WIDTH * hits + offset).tolist()

    def within_file(self, path: Path) -> set[bytes]:
        """Return those that occur in a file."""
        with open(path, "rb") as file:
            if not path.stat().st_size:
                return set()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return self.within(mapped)


def _slots(starts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    slots: NDArray[np.uint64] = (starts * _SPREAD) >> np.uint64(64 - TABLE)
    return slots
