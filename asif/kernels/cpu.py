"""Top-k similarity by the compiled kernels: cheap proposals above a proved bound, canonical scores (docs/kernels.md).

Memory beside the inputs and the result: per thread half a megabyte of converted anchors, and 20 k bytes a query, for as
many queries at a time as fit 256 MB; never [q, N]. Each anchor is read once per such batch.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.errors import BadEmbedding, OutOfSpace
from asif.kernels.native_binding import address, contiguous, load, threads
from asif.kernels.reference import topk
from asif.vectors import Float32, TopK

KINDS = {np.dtype(np.float16): 0, np.dtype(np.float32): 2}
BFLOAT16 = 1
LONG = 2e11  # multiplications after which a call can be interrupted: about a second
MADE_BYTES = 2**29  # blocks that are made as they are read are held up to this size at a time


def topk_similarity(queries: Float32, anchors: Sequence[NDArray[Any]], k: int) -> TopK:
    """Search block lists whole; blocks that a lazy sequence makes, some at a time, and merge.

    Raises BadEmbedding where scores are not finite, OutOfSpace without memory.
    """
    found, first = None, 0
    for blocks in groups(anchors):
        count = sum(map(len, blocks))
        some = search(queries, blocks, min(k, count))
        if found is None:
            found = some
        else:  # equal scores: earlier anchors stand first, and stay there
            indices = np.concatenate([found.indices, some.indices + first], axis=1)
            best = topk(np.concatenate([found.scores, some.scores], axis=1), k)
            found = TopK(np.take_along_axis(indices, best.indices, axis=1), best.scores)
        first += count
    assert found is not None
    return found


def groups(anchors: Sequence[NDArray[Any]]) -> Iterator[list[NDArray[Any]]]:
    """Take the blocks of a list together, those of any other sequence some at a time."""
    if isinstance(anchors, (list, tuple)):
        yield [rows_of(block) for block in anchors if len(block)]
        return
    group: list[NDArray[Any]] = []
    for block in anchors:
        if len(block):
            group.append(rows_of(block))
        if sum(each.nbytes for each in group) >= MADE_BYTES:
            yield group
            group = []
    if group:
        yield group


def rows_of(block: NDArray[Any]) -> NDArray[Any]:
    """Return a block whose rows the kernels can read: of a known type, entries side by side."""
    known = block if kind(block) is not None else np.asarray(block, np.float32)
    return known if known.strides[1] == known.itemsize or known.shape[1] == 1 else np.ascontiguousarray(known)


def kind(block: NDArray[Any]) -> int | None:
    """Return the kernels' number for a storage type, None for types that they do not read."""
    known = KINDS.get(block.dtype)
    return BFLOAT16 if known is None and block.dtype.name == "bfloat16" and block.dtype.isnative else known


def search(queries: Float32, blocks: list[NDArray[Any]], k: int) -> TopK:
    """Call the kernel; blocks of several types are brought to float32."""
    if len({block.dtype for block in blocks}) > 1:
        blocks = [np.asarray(block, np.float32) for block in blocks]
    asked = contiguous(queries, np.float32)
    starts = list(accumulate(map(len, blocks), initial=0))
    layout = np.array([*map(address, blocks), *(block.strides[0] for block in blocks), *starts], np.int64)
    words = 8 * len(blocks)
    indices, scores = np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.float32)
    stop = ctypes.c_int(0)
    kernel = load().asif_topk

    def call() -> int:
        base = address(layout) or 0  # named here, so that it lives as long as the call
        answer: int = kernel(
            address(asked), len(asked), base, base + words, base + 2 * words, len(blocks), asked.shape[1],
            kind(blocks[0]), k, threads(), ctypes.addressof(stop), address(indices), address(scores),
        )  # fmt: skip
        return answer

    long = asked.size * starts[-1] > LONG
    problem = interruptible(call, stop) if long else call()
    if problem < 0:
        raise OutOfSpace("memory ran out during a search", f"room for {k} candidates per query", "ask fewer at a time")
    if problem:
        raise BadEmbedding(
            f"{problem} of {len(asked)} queries meet scores that are not finite",
            "finite queries and anchors of unit length",
            "run asif anchors verify; look for NaN or infinity among the queries",
        )
    return TopK(indices, scores)


def interruptible(call: Callable[[], int], stop: ctypes.c_int) -> int:
    """Run a long call beside the main thread, so that Ctrl-C is heard; then the kernel stops within a tile."""
    answers: list[int] = []
    done = threading.Event()  # an interrupted join takes the thread for ended, before Python 3.13

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
