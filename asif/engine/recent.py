"""The last few values that were asked for."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Keep the values of the keys that were asked for last, at most so many; for any number of threads.

    >>> recent = Recent[str, int](2)
    >>> for key in "abac":
    ...     recent.keep(key, ord(key))
    >>> recent.find("a"), recent.find("b"), recent.latest()
    (97, None, ['c', 'a'])
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Key, Value] = {}  # the latest is the last
        self._lock = Lock()

    def find(self, key: Key) -> Value | None:
        """Return what is kept for a key; None for nothing."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is not None:
                self._kept[key] = found
            return found

    def keep(self, key: Key, value: Value) -> None:
        """Keep a value in place of any earlier one, and forget the one that was not asked for longest."""
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = value
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]

    def latest(self) -> list[Key]:
        """Return the keys, the latest last."""
        with self._lock:
            return list(self._kept)

    def values(self) -> list[Value]:
        """Return the values, the latest last."""
        with self._lock:
            return list(self._kept.values())
