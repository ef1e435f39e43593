"""The workers of an engine: started on the first search, called all at once, and merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, TypeAlias
from weakref import finalize

from asif.cluster.pool import ClusterOptions, WorkerPool, WorkerSpec, call_all
from asif.engine.search.gallery_rows import merge_best
from asif.engine.sharded.worker import SearchWorker
from asif.vectors import TopK

SearchPoolOpener: TypeAlias = "Callable[[Callable[[int], Sequence[WorkerSpec]], ClusterOptions], WorkerPool]"


def open_ray_pool(specs: Callable[[int], Sequence[WorkerSpec]], options: ClusterOptions) -> WorkerPool:
    """Open workers on Ray."""
    from asif.cluster.ray_ import RayPool

    return RayPool(specs, options)


class SearchWorkers:
    """Call the search workers of one engine; safe for threads, which take turns.

    A worker that dies is replaced, and maps its share again; if that fails three times the call raises AsifError. No
    answer lacks the rows of a worker. After an error the workers end, and the next call starts others.
    """

    def __init__(self, options: ClusterOptions, open_pool: SearchPoolOpener | None = None) -> None:
        self._options, self._open_pool = options, open_pool or open_ray_pool
        self._pool: WorkerPool | None = None
        self._lock = Lock()

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of each worker, and return what they return, in order."""
        with self._lock:
            if self._pool is None:
                self._pool = self._open_pool(_make_specs, self._options)
                finalize(self, self._pool.close)
            try:
                return call_all(self._pool, method, [arguments] * len(self._pool.workers))
            except BaseException:
                self._close()  # calls may be running, whose answers nobody waits for
                raise

    def find_best(self, k: int, method: str, *arguments: Any) -> TopK:
        """Call a method that finds the best of each worker's rows, and merge what they find by score, then row."""
        return merge_best(self.call(method, *arguments), k)

    def close(self) -> None:
        """End the workers; the next call starts others."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def _make_specs(count: int) -> list[WorkerSpec]:
    return [WorkerSpec(SearchWorker, (number, count)) for number in range(count)]
