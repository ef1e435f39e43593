"""A thread that follows a reference which others move: where it means other versions, they are swapped in."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Protocol

from asif.anchorset import Store
from asif.anchorset.format.folder import AliasStamp
from asif.anchorset.format.references import is_movable_reference, parse_union
from asif.errors import AsifError, UsageError

LOOK_SECONDS = 0.1
RETRY_SECONDS = 5.0  # between attempts to load one that failed
SETTLED_SECONDS = 2.0  # before which a file may have changed again and look the same

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """Hold what an engine follows, which versions that means to it now, and why the last load failed, if it did."""

    follows: str
    exactly: tuple[str, ...]
    error: Exception | None = None


class Follower(Protocol):
    """What follows a reference."""

    @property
    def follows(self) -> str: ...

    @property
    def exactly(self) -> tuple[str, ...]:
        """Return the versions that are served."""
        ...

    def follow(self, ref: str) -> None:
        """Serve what the reference means now, if it is still the one that is followed."""
        ...


class Watch:
    """Look ten times a second, in a thread of its own, whether the reference of a follower has moved.

    A look costs a look at one file for each set; it is read where it has changed. What fails to load is named in the
    log, once, and tried again after some seconds, or when the reference moves on. The thread ends with the follower.
    """

    def __init__(self, store: Store, follower: Follower) -> None:
        self.error: Exception | None = None
        self._store = store
        self._follower = weakref.ref(follower)
        self._seen: list[AliasStamp | None] | None = None
        self._failed: object = None
        self._again = 0.0
        self._stop = threading.Event()
        weakref.finalize(follower, self._stop.set)
        self._thread = threading.Thread(target=self._run, name="asif-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for what it is doing."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            follower = self._follower()
            if follower is None:
                return
            self.look(follower)
            del follower

    def look(self, follower: Follower) -> None:
        """Look once; never raises."""
        ref, target = follower.follows, None
        try:
            stamps = [self._store.stamp(part) for part in parse_union(ref)]
            if stamps == self._seen:
                return
            target = tuple(self._store.resolve(part) for part in parse_union(ref))
            if target != follower.exactly:
                if target == self._failed and time.monotonic() < self._again:
                    return
                follower.follow(ref)
            self.error = self._failed = None
            self._seen = stamps if all(map(settled, stamps)) else None
        except Exception as error:  # whatever it is, the old version goes on serving, and the thread looking
            self._note(target or str(error), ref, error)

    def _note(self, target: object, ref: str, error: Exception) -> None:
        if target != self._failed:
            came = str(error).splitlines()[0] if str(error) else type(error).__name__
            unforeseen = None if isinstance(error, AsifError) else error
            _log.error("%s moved, but the old version goes on serving: %s", ref, came, exc_info=unforeseen)
        cause: BaseException | None = error
        while cause is not None:  # tracebacks hold on to the set that failed, and to the engine
            cause.__traceback__, cause = None, cause.__cause__ or cause.__context__
        self.error, self._failed, self._again = error, target, time.monotonic() + RETRY_SECONDS


def settled(stamp: AliasStamp | None) -> bool:
    """Tell whether a file is old enough for its next change to show: clocks of file systems tick in milliseconds."""
    return stamp is not None and time.time() - stamp[2] / 1e9 > SETTLED_SECONDS


def check_moves(ref: str) -> None:
    """Refuse a reference that means the same for ever."""
    if not any(map(is_movable_reference, parse_union(ref))):
        raise UsageError(
            f"{ref} cannot move, and the engine watches", "an alias of a set", "name the set, or its alias"
        )
