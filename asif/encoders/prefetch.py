"""Decode images in threads while the model runs, in order and at most a few batches ahead."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FIRST = 8
"""Items that are computed ahead while the size of no result is known."""


def prefetch(
    work: Callable[[T], R],
    items: Iterable[T],
    depth: int = 64,
    *,
    pool: Executor | None = None,
    size: Callable[[R], int] | None = None,
    most_bytes: int = 64 << 20,
) -> Generator[R, None, None]:
    """Yield work(item) for every item in order, computed by threads up to `depth` items ahead.

    With `size`, which gives the bytes of a result, fewer if those would take more than `most_bytes`, by the largest
    result so far. The threads are those of `pool`, or else shared by all callers. Pending work is cancelled when the
    consumer stops.

    >>> list(prefetch(lambda x: x * x, range(4)))
    [0, 1, 4, 9]
    """
    pending: deque[Future[R]] = deque()
    largest, room = 1, depth if size is None else min(depth, _FIRST)

    def take() -> R:
        nonlocal largest, room
        result = pending.popleft().result()
        if size is not None:
            largest = max(largest, size(result))
            room = max(1, min(depth, most_bytes // largest))
        return result

    try:
        for item in items:
            pending.append((pool or _decoder_pool("torch" in sys.modules)).submit(work, item))
            while len(pending) >= room:
                yield take()
        while pending:
            yield take()
    finally:
        for future in pending:
            future.cancel()


@contextmanager
def open_decoders(count: int) -> Iterator[ThreadPoolExecutor]:
    """Start decoding threads, which end with the block; what they have not begun is cancelled."""
    pool = _start_decoders(count, "torch" in sys.modules)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@cache
def _decoder_pool(with_torch: bool) -> ThreadPoolExecutor:
    """Start the decoding threads that all callers share."""
    return _start_decoders(count_shared_decoders(), with_torch)


def count_shared_decoders() -> int:
    """Count the decoding threads that all callers share: half as many as there are cores, at least two."""
    return max(2, (os.cpu_count() or 2) // 2)


def _start_decoders(count: int, with_torch: bool) -> ThreadPoolExecutor:
    """Start decoding threads.

    torch would spread the preprocessing of one image over all cores: six times slower than on one, and these cores are
    taken from the model. torch.set_num_threads sets the calling thread's number and the default of later threads, so
    each decoder sets its own to one, and then this thread restores the default.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode")
    if with_torch:
        torch, started = sys.modules["torch"], threading.Barrier(count + 1)
        default = torch.get_num_threads()

        def start() -> None:
            torch.get_num_threads()  # reads the default once, before it is set
            torch.set_num_threads(1)
            started.wait()

        for _ in range(count):
            pool.submit(start)
        started.wait()
        torch.set_num_threads(default)
    return pool


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        after_in_child=_decoder_pool.cache_clear
    )  # a forked process has the pool, but none of its threads
