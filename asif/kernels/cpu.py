"""Top-k similarity by compiled kernels: fast products propose candidates, canonical scores rank them (docs/kernels.md).

Memory in addition to inputs and result: per thread half a megabyte of converted anchors, and 20 k bytes per query, in
batches of queries whose lists fit into 256 MB; never [q, N]. Each anchor is read once per batch.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.errors import BadEmbedding, OutOfSpace
from asif.kernels.native_binding import as_contiguous, count_threads, get_address, load_native
from asif.kernels.quantised import MOST_QUERIES, QUANTISED_CACHE
from asif.kernels.reference import select_topk
from asif.kernels.whole_rows import WHOLE_ROWS_CACHE, lay_out
from asif.vectors import Float32, TopK

_TYPE_CODES = {np.dtype(np.float16): 0, np.dtype(np.float32): 2}
_BFLOAT16 = 1
MIN_INTERRUPTIBLE_PRODUCTS = 2e11  # a call with more multiplications, about a second, can be interrupted
SMALL_ANCHORS = 2048  # up to as many stay in a processor's cache: all products are computed, then the best are scored
LAZY_BYTES = 2**29  # of the blocks of a lazy sequence, in memory at a time


def topk_similarity(queries: Float32, anchors: Sequence[NDArray[Any]], k: int) -> TopK:
    """Search a list of blocks at once; search the blocks of a lazy sequence in groups, and merge the results.

    Raises BadEmbedding if scores are not finite, OutOfSpace if memory runs out.
    """
    found, first = None, 0
    for blocks in _batch_blocks(anchors):
        count = sum(map(len, blocks))
        some = _search(queries, blocks, count, min(k, count))
        if found is None:
            found = some
        else:  # of equal scores, `select_topk` keeps the earlier anchors first
            indices = np.concatenate([found.indices, some.indices + first], axis=1)
            best = select_topk(np.concatenate([found.scores, some.scores], axis=1), k)
            found = TopK(np.take_along_axis(indices, best.indices, axis=1), best.scores)
        first += count
    assert found is not None
    return found


def _batch_blocks(anchors: Sequence[NDArray[Any]]) -> Iterator[list[NDArray[Any]]]:
    """Yield the blocks of a list or tuple together, those of any other sequence in groups of about LAZY_BYTES."""
    if isinstance(anchors, (list, tuple)):
        yield [_as_kernel_rows(block) for block in anchors if len(block)]
        return
    group: list[NDArray[Any]] = []
    for block in anchors:
        if len(block):
            group.append(_as_kernel_rows(block))
        if sum(each.nbytes for each in group) >= LAZY_BYTES:
            yield group
            group = []
    if group:
        yield group


def _as_kernel_rows(block: NDArray[Any]) -> NDArray[Any]:
    """Return a block that the kernels can read: of a known type, with contiguous rows."""
    known = block if _type_code(block) is not None else np.asarray(block, np.float32)
    return known if known.strides[1] == known.itemsize or known.shape[1] == 1 else np.ascontiguousarray(known)


def _type_code(block: NDArray[Any]) -> int | None:
    """Return the kernels' code for a storage type; None for a type that they do not read."""
    known = _TYPE_CODES.get(block.dtype)
    return _BFLOAT16 if known is None and block.dtype.name == "bfloat16" and block.dtype.isnative else known


def _search(queries: Float32, blocks: list[NDArray[Any]], count: int, k: int) -> TopK:
    """Call the kernel; blocks of different types are converted to float32 first."""
    if len({block.dtype for block in blocks}) > 1:
        blocks = [np.asarray(block, np.float32) for block in blocks]
    queries, code = as_contiguous(queries, np.float32), _type_code(blocks[0])
    assert code is not None
    layout = WHOLE_ROWS_CACHE.find(blocks, code) if count <= SMALL_ANCHORS else None
    if layout is None:
        is_memory_bound = len(queries) <= MOST_QUERIES and count > SMALL_ANCHORS
        layout = lay_out(blocks, QUANTISED_CACHE.find(blocks, code) if is_memory_bound else None)
    indices, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    stop, kernel = ctypes.c_int(0), load_native().asif_topk
    arguments = (
        get_address(queries), len(queries), layout.rows, layout.strides, layout.starts, layout.quantised, layout.whole,
        len(blocks), queries.shape[1], code, k, SMALL_ANCHORS, count_threads(), ctypes.addressof(stop),
        get_address(indices), get_address(scores),
    )  # fmt: skip
    is_long = queries.size * count > MIN_INTERRUPTIBLE_PRODUCTS
    problem = run_interruptible(lambda: int(kernel(*arguments)), stop) if is_long else kernel(*arguments)
    if problem < 0:
        raise OutOfSpace(
            "memory ran out during a search", f"room for {k} candidates per query", "search fewer queries at a time"
        )
    if problem:
        raise BadEmbedding(
            f"{problem} of {len(queries)} queries have scores that are not finite",
            "finite queries and anchors of unit length",
            "run asif anchors verify; look for NaN or infinity among the queries",
        )
    return TopK(indices, scores)


def run_interruptible(call: Callable[[], int], stop: ctypes.c_int) -> int:
    """Run a long call in another thread, so that the main thread gets Ctrl-C; the kernel then stops within a tile."""
    answers: list[int] = []
    done = threading.Event()  # before Python 3.13, an interrupted join marks the thread as ended

    def work() -> None:
        try:
            answers.append(call())
        finally:
            done.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        done.wait()
    except BaseException:
        stop.value = 1
        done.wait()
        raise
    return answers[0]
