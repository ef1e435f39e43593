"""Small sets of anchors as whole numbers, two of int16 for an entry, kept in memory for further searches.

Blocks that cannot change are converted when they are searched for the second time, and kept as long as they exist:
about 4 d bytes a row. Together the two numbers are the entry on the canonical grid, so scores are the same bits;
products of the higher ones propose. docs/kernels.md has the bound.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.kernels.native_binding import get_address, load_native
from asif.kernels.quantised import is_immutable

_CACHE_LINE = 64


@dataclass(frozen=True)
class BlockLayout:
    """Hold where rows lie, as topk.cpp reads it: addresses, bytes from row to row, and the number of the first."""

    words: array[int]  # lives as long as the addresses below are used
    rows: int
    strides: int
    starts: int
    quantised: int | None = None  # of blocks in int8
    whole: int | None = None  # of all rows as whole numbers
    memory: NDArray[np.uint8] | None = None  # of these


def lay_out(blocks: Sequence[NDArray[Any]], quantised: Sequence[NDArray[Any]] | None = None) -> BlockLayout:
    """Lay out blocks, which may have a form in int8. All must outlive the layout."""
    rows, forms = ([get_address(block) or 0 for block in some] for some in (blocks, quantised or ()))
    starts = accumulate(map(len, blocks), initial=0)
    words = array("q", [*rows, *(block.strides[0] for block in blocks), *forms, *starts])
    base, size = words.buffer_info()[0], 8 * len(blocks)
    return BlockLayout(words, base, base + size, base + 2 * size + 8 * len(forms), base + 2 * size if forms else None)


class WholeRowsCache:
    """Keep small sets of blocks as whole numbers, with their layout, keyed weakly by the blocks."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: dict[tuple[int, ...], BlockLayout | None] = {}  # None: searched once
        self._making = Lock()

    def find(self, blocks: Sequence[NDArray[Any]], type_code: int) -> BlockLayout | None:
        """Return the layout of blocks of one type; None at their first search, and where they may change."""
        key = tuple(map(id, blocks))
        if (kept := self._kept.get(key)) is not None:
            return kept
        if not all(map(is_immutable, blocks)) or not self._making.acquire(blocking=False):
            return None  # another thread converts: do not wait
        try:
            if key in self._kept:
                self._kept[key] = self._make(blocks, type_code)
                return self._kept[key]
            self._kept[key] = None
            for block in blocks:
                weakref.finalize(block, self._kept.pop, key, None).atexit = False
            return None
        except MemoryError:
            return None
        finally:
            self._making.release()

    def _make(self, blocks: Sequence[NDArray[Any]], type_code: int) -> BlockLayout:
        """Lay out blocks, as whole numbers too if those hold all rows, and if there is room."""
        native, layout, dim = load_native(), lay_out(blocks), blocks[0].shape[1]
        size = native.asif_whole_bytes(sum(map(len, blocks)), dim)
        held = sum(each.memory.nbytes for each in self._kept.copy().values() if each and each.memory is not None)
        if held + size > self.limit:
            return layout
        memory = np.zeros(size + _CACHE_LINE, np.uint8)
        memory = memory[-(get_address(memory) or 0) % _CACHE_LINE :]
        address = get_address(memory)
        places = layout.rows, layout.strides, layout.starts
        unfit = native.asif_make_whole(*places, len(blocks), dim, type_code, address)
        return layout if unfit else replace(layout, whole=address, memory=memory)


WHOLE_ROWS_CACHE = WholeRowsCache(2**28)
