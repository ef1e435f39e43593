"""Decode images in threads while the model runs, in order and at most a few batches ahead."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def one_thread_each() -> None:
    """Keep torch from spreading one image's preprocessing over all cores: six times faster, and the model needs them.

    The setting holds for the calling thread only.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def ahead(work: Callable[[T], R], items: Iterable[T], depth: int = 64) -> Generator[R, None, None]:
    """Yield work(item) for every item in order, computed by threads up to `depth` items ahead.

    Reading stops, and waiting work is cancelled, when the consumer stops.

    >>> list(ahead(lambda x: x * x, range(4)))
    [0, 1, 4, 9]
    """
    source = iter(items)
    waiting: deque[Future[R]] = deque()
    workers = max(2, (os.cpu_count() or 2) // 2)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode", initializer=one_thread_each)
    try:
        for item in source:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
