"""Blocks of anchors in int8, kept in memory for further searches with a few queries, which reading the rows limits.

A block that cannot change, such as a mapped one of an anchor set, is quantised when it is searched for the second time,
and kept as long as it exists: d + 8 bytes a row, up to a share of the memory. docs/kernels.md has the bound.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.kernels.native_binding import count_threads, get_address, load_native

MOST_QUERIES = 8
"""More queries make multiplying cost more than reading: they are multiplied by rows as they are stored."""
_MIN_BYTES = 2**21  # of blocks; less stays in a processor's cache
_SHARE = 8  # of memory: one part in so many
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def is_immutable(block: NDArray[Any]) -> bool:
    """Tell whether an array is a view of read-only memory, such as a mapped file.

    >>> rows = np.zeros((2, 3), np.float16)
    >>> frozen = np.frombuffer(bytes(12), np.float16).reshape(2, 3)
    >>> is_immutable(rows), is_immutable(frozen), is_immutable(np.broadcast_to(rows[0], (4, 3)))
    (False, True, False)
    """
    owner: Any = block
    while isinstance(owner, np.ndarray):
        owner = owner.base
    try:
        return memoryview(owner).readonly
    except TypeError:  # an array that owns its memory, of which there may be writeable views
        return False


def freeze(rows: NDArray[Any]) -> NDArray[Any]:
    """Return an array, which the caller gives up, as one that nobody can write to, so that forms of it may be kept.

    >>> is_immutable(freeze(np.zeros((2, 3), np.float32)))
    True
    """
    kept = np.ascontiguousarray(rows)
    memory: Any = kept.view(np.uint8)
    return np.frombuffer(memoryview(memory).toreadonly(), kept.dtype).reshape(kept.shape)


def measure_limit() -> int:
    """Return how many bytes of quantised blocks a process may keep: an eighth of the memory that it may use."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not say
        return 0
    with suppress(OSError, ValueError):  # no limit, or another kind of system
        memory = min(memory, int(_CGROUP_LIMIT.read_text()))
    return memory // _SHARE


class QuantisedCache:
    """Keep blocks in int8, keyed weakly by the blocks; what does not fit is searched as it is stored."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[int, NDArray[np.uint8] | None] = {}  # None: searched once
        self._making = Lock()

    def find(self, blocks: Sequence[NDArray[Any]], type_code: int) -> list[NDArray[np.uint8]] | None:
        """Return blocks in int8; None at their first search, and where they may change, are too large or too small."""
        kept = [each for block in blocks if (each := self._kept.get(id(block))) is not None]
        if len(kept) == len(blocks):
            return kept
        if sum(block.nbytes for block in blocks) < _MIN_BYTES or not all(map(is_immutable, blocks)):
            return None
        if not self._making.acquire(blocking=False):
            return None  # another thread quantises: do not wait
        try:
            return self._make(blocks, type_code) if self._note(blocks) else None
        except MemoryError:
            return None
        finally:
            self._making.release()

    def _note(self, blocks: Sequence[NDArray[Any]]) -> bool:
        """Note that blocks are searched; tell whether all were searched before."""
        unknown = [block for block in blocks if id(block) not in self._kept]
        for block in unknown:
            self._kept[id(block)] = None
            weakref.finalize(block, self._kept.pop, id(block), None).atexit = False
        return not unknown

    def _make(self, blocks: Sequence[NDArray[Any]], type_code: int) -> list[NDArray[np.uint8]] | None:
        """Quantise the blocks that are not kept yet; None if they do not fit."""
        width = load_native().asif_quantised_bytes(blocks[0].shape[1])
        held = sum(each.nbytes for each in self._kept.copy().values() if each is not None)
        missing = [block for block in blocks if self._kept.get(id(block)) is None]
        if held + width * sum(map(len, missing)) > self.limit:
            return None
        for block in missing:
            self._kept[id(block)] = quantise(block, type_code, width)
        return [each for block in blocks if (each := self._kept.get(id(block))) is not None]


QUANTISED_CACHE = QuantisedCache(measure_limit())


def quantise(block: NDArray[Any], type_code: int, width: int) -> NDArray[np.uint8]:
    """Return rows in int8, each with its scale and the bound of its error: [n, width] bytes. May raise MemoryError."""
    made = np.empty((len(block), width), np.uint8)
    failed = load_native().asif_quantise(
        get_address(block), block.strides[0], *block.shape, type_code, count_threads(), get_address(made)
    )
    if failed:
        raise MemoryError
    return made
