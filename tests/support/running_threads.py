"""Threads in tests: those that a test starts must end with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

SECONDS = 10


def check_threads_end() -> Iterator[None]:
    """Fail a test after which a thread runs that did not run before: the body of a fixture."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does, then a moment more, in which it might do too much."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.02)
