"""What a pool of workers can do; `ray_` has one on Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from asif.errors import AsifError, UsageError


@dataclass(frozen=True)
class ClusterOptions:
    """Hold where workers run: at the `address` of a Ray cluster, or here; `actors` None means one for each device.

    Without a GPU that is one for each machine, which computes with all of its cores. Raises UsageError for no actors.
    """

    actors: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise UsageError(f"{self.actors} actors", "a whole number from 1", "pass --actors 2")


@dataclass(frozen=True)
class WorkerSpec:
    """Say how the object of a worker is made, in its process: `make(*arguments)`."""

    make: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Hold how a call ended: with a `value`, an `error` of this package, or the death of the `worker`."""

    worker: int
    value: Any = None
    error: AsifError | None = None
    died: bool = False


class WorkerPool(Protocol):
    """Workers, numbered from 0, each with an object of its own; a worker answers one call at a time."""

    @property
    def workers(self) -> range:
        """Return the numbers of the workers."""
        ...

    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        """Let a worker that has nothing to do call a method of its object."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """Return the calls that have ended, after at most so many seconds.

        Raises AsifError if the cluster is gone.
        """
        ...

    def replace(self, worker: int) -> None:
        """Start a worker in place of one, which is killed if it lives."""
        ...

    def close(self) -> None:
        """Kill all workers."""
        ...


def call_all(pool: WorkerPool, method: str, arguments: Sequence[tuple[Any, ...]], attempts: int = 3) -> list[Any]:
    """Call a method on each worker, with its own arguments; return the values in the order of the workers.

    A worker that dies is replaced, and called again up to `attempts` times in all. Raises the error of a call, and
    AsifError for a worker that dies each time: no answer is left out. After an error other calls may still be running.
    """
    values: dict[int, Any] = {}
    deaths = dict.fromkeys(pool.workers, 0)
    for worker in pool.workers:
        pool.submit(worker, method, *arguments[worker])
    while len(values) < len(pool.workers):
        for outcome in pool.wait(1.0):
            if outcome.error is not None:
                raise outcome.error
            if not outcome.died:
                values[outcome.worker] = outcome.value
                continue
            deaths[outcome.worker] += 1
            if deaths[outcome.worker] == attempts:
                raise AsifError(
                    f"worker {outcome.worker} died {attempts} times while it answered",
                    f"answers of all {len(pool.workers)} workers",
                    "look at its memory, or use more actors with smaller shards",
                )
            pool.replace(outcome.worker)
            pool.submit(outcome.worker, method, *arguments[outcome.worker])
    return [values[worker] for worker in pool.workers]
