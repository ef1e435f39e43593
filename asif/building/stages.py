"""Stages of a build: read ahead in a thread, and work on one item at a time in a thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

_END_SECONDS = 0.5
"""How long a reader may take to end: one that waits for a network ends once it gets an answer, and is left alone."""


class Stopped(Exception):
    """Ends a stage whose result nobody needs any more."""


def read_ahead(
    items: Iterable[T],
    size: Callable[[T], int] = lambda item: 0,
    *,
    most: int,
    most_bytes: int,
    waited: Callable[[float], None] = lambda seconds: None,
) -> Generator[T, None, None]:
    """Yield items in order, which a thread takes from `items`, at most `most` of them and `most_bytes` ahead.

    An item of any `size` may wait alone. What `items` raises is raised after the last item. `waited` is called with
    the seconds that the thread waited for each item. When the consumer stops, so does the thread.
    """
    waiting: _BoundedQueue[T] = _BoundedQueue(most, most_bytes)

    def read() -> None:
        try:
            every = iter(items)
            while True:
                started = time.perf_counter()
                item = next(every)
                waited(time.perf_counter() - started)
                waiting.put(item, size(item))
        except StopIteration:
            waiting.end()
        except Stopped:
            return
        except BaseException as error:
            waiting.end(error)

    thread = threading.Thread(target=read, name="read", daemon=True)
    try:
        thread.start()
        yield from waiting
    finally:
        waiting.stop()
        if thread.ident is not None:
            thread.join(_END_SECONDS)


class _BoundedQueue(Generic[T]):
    """Hand items from one thread to another; `put` waits while there is no room."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def put(self, item: T, size: int) -> None:
        """Append an item once there is room; raises Stopped if nobody takes items any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._has_room(size))
            if self._stopped:
                raise Stopped
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not self._items or (len(self._items) < self._most and self._bytes + size <= self._most_bytes)

    def end(self, error: BaseException | None = None) -> None:
        """Let the iteration end after the items that wait, with an error if there is one."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def stop(self) -> None:
        """Drop the items, and take no more."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                if not self._items:
                    break
                item, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error


class ForwardRunner(Protocol):
    """Runs the forward passes of a build."""

    def __call__(self, forward: Callable[[], T]) -> T: ...


@contextmanager
def run_forward_passes(*, in_one_thread: bool) -> Iterator[ForwardRunner]:
    """Yield what runs forward passes: in the thread that calls it, or all in one thread, one after the other."""
    if not in_one_thread:
        yield lambda forward: forward()
        return
    with ThreadPoolExecutor(1, thread_name_prefix="forward") as pool:
        pool.submit(int).result()  # its thread starts now, before Ctrl-C could come during the start
        yield lambda forward: pool.submit(forward).result()


class SingleWorker(Generic[T]):
    """Work on one item at a time in a thread, in order; `done` is called with each item in the caller's thread.

    What the work raises is raised by the next call of any method, and the work of later items is not begun.
    """

    def __init__(self, name: str, work: Callable[[T], None], done: Callable[[T], None]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._pool.submit(
            int
        ).result()  # its thread starts now: if Ctrl-C came during the start, `close` would not wait
        self._work, self._done = work, done
        self._running: tuple[T, Future[None]] | None = None

    def put(self, item: T) -> None:
        """Begin to work on an item once the one before is done."""
        self.wait()
        self._running = item, self._pool.submit(self._work, item)

    def check(self) -> None:
        """Raise what went wrong, if anything did; does not wait."""
        if self._running is not None and self._running[1].done():
            self.wait()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the item that is worked on, for `seconds` at most."""
        if self._running is not None:
            item, future = self._running
            if wait([future], seconds).done:
                self._running = None
                future.result()
                self._done(item)

    def close(self) -> None:
        """End the thread after the item that it works on."""
        self._pool.shutdown(wait=True)
