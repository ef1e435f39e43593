"""Decode images in threads while the model runs, in order and at most a few batches ahead."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(work: Callable[[T], R], items: Iterable[T], depth: int = 64) -> Generator[R, None, None]:
    """Yield work(item) for every item in order, computed by threads up to `depth` items ahead.

    Pending work is cancelled when the consumer stops.

    >>> list(prefetch(lambda x: x * x, range(4)))
    [0, 1, 4, 9]
    """
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(_decoder_pool("torch" in sys.modules).submit(work, item))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


@cache
def _decoder_pool(with_torch: bool) -> ThreadPoolExecutor:
    """Start the decoding threads: half as many as there are cores, at least two.

    torch would spread the preprocessing of one image over all cores: six times slower than on one, and these cores are
    taken from the model. torch.set_num_threads sets the calling thread's number and the default of later threads, so
    each decoder sets its own to one, and then this thread restores the default.
    """
    workers = max(2, (os.cpu_count() or 2) // 2)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    if with_torch:
        torch, started = sys.modules["torch"], threading.Barrier(workers + 1)
        default = torch.get_num_threads()

        def start() -> None:
            torch.get_num_threads()  # reads the default once, before it is set
            torch.set_num_threads(1)
            started.wait()

        for _ in range(workers):
            pool.submit(start)
        started.wait()
        torch.set_num_threads(default)
    return pool


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        after_in_child=_decoder_pool.cache_clear
    )  # a forked process has the pool, but none of its threads
