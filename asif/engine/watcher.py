"""A thread that follows a reference: when another process moves it to other versions, they are swapped in."""

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
from asif.errors import AsifError, Conflict, UsageError

LOOK_SECONDS = 0.1
RETRY_SECONDS = 5.0  # between attempts to load a version that failed
SETTLED_SECONDS = 2.0  # a younger file may change again with the same stamp

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchState:
    """The reference that an engine follows, the versions it serves, and the error of the last load if it failed."""

    follows: str
    exactly: tuple[str, ...]
    error: Exception | None = None


class _Follower(Protocol):
    """An engine, as the watcher sees it."""

    @property
    def follows(self) -> str: ...

    @property
    def exactly(self) -> tuple[str, ...]:
        """Return the served versions."""
        ...

    def follow(self, ref: str) -> None:
        """Serve the current version of the reference, if it is still followed."""
        ...


class Watcher:
    """Check ten times a second, in a thread, whether the reference of a follower has moved.

    A check reads the stamp of one file for each set, and the file only if the stamp has changed. A version that
    fails to load is logged once, and tried again after some seconds, or when the reference moves on. The thread ends
    with the follower.
    """

    def __init__(self, store: Store, follower: _Follower) -> None:
        self.error: Exception | None = None
        self._store = store
        self._follower = weakref.ref(follower)
        self._seen: tuple[str, list[AliasStamp | None]] | None = None
        self._failed: object = None
        self._retry_at = 0.0
        self._stop = threading.Event()
        weakref.finalize(follower, self._stop.set)
        self._thread = threading.Thread(target=self._run, name="asif-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for the swap that it may be doing."""
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

    def look(self, follower: _Follower) -> None:
        """Check once; never raises."""
        ref, target = follower.follows, None
        try:
            stamps = [self._store.stamp(part) for part in parse_union(ref)]
            if (ref, stamps) == self._seen:
                return
            target = tuple(self._store.resolve(part) for part in parse_union(ref))
            if target != follower.exactly:
                if target == self._failed and time.monotonic() < self._retry_at:
                    return
                follower.follow(ref)
            self.error = self._failed = None
            self._seen = (ref, stamps) if all(map(is_settled, stamps)) else None
        except Conflict:
            return  # a version was deleted while it was loaded: look again
        except Exception as error:  # of any kind: the old version stays, and so does the thread
            self._record_failure(target or str(error), ref, error)

    def _record_failure(self, target: object, ref: str, error: Exception) -> None:
        if target != self._failed:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            unforeseen = None if isinstance(error, AsifError) else error
            _log.error("%s moved, but the old version is still served: %s", ref, message, exc_info=unforeseen)
        cause: BaseException | None = error
        while cause is not None:  # tracebacks would keep the failed set, and the engine, in memory
            cause.__traceback__, cause = None, cause.__cause__ or cause.__context__
        self.error, self._failed, self._retry_at = error, target, time.monotonic() + RETRY_SECONDS


def is_settled(stamp: AliasStamp | None) -> bool:
    """Tell whether a file is old enough for its next change to show: clocks of file systems tick in milliseconds."""
    return stamp is not None and time.time() - stamp[2] / 1e9 > SETTLED_SECONDS


def check_can_move(ref: str) -> None:
    """Refuse a reference whose version is fixed."""
    if not any(map(is_movable_reference, parse_union(ref))):
        raise UsageError(
            f"{ref} cannot move, and the engine watches", "an alias of a set", "name the set, or its alias"
        )
