"""Workers in this process, for tests of what runs on a cluster: they die, or are slow, when a test says so.

Arguments and results are copied, as on their way to another process.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from asif.cluster.pool import ClusterOptions, Outcome, WorkerSpec
from asif.errors import AsifError


class Killed(BaseException):
    """Ends a worker as SIGKILL does: nothing in its process is told."""


class InlinePool:
    """Call workers when their outcome is waited for, one after the other.

    `before` is called with a worker, the name of a method and its arguments; what raises Killed there, or in the
    method, is the death of the worker. `calls` are all calls that were begun; `order` chooses which of the waiting
    calls is next.
    """

    def __init__(
        self,
        specs: Callable[[int], Sequence[WorkerSpec]],
        options: ClusterOptions,
        before: Callable[[int, str, tuple[Any, ...]], None] = lambda worker, method, arguments: None,
        order: Callable[[list[int]], int] = lambda waiting: waiting[0],
    ) -> None:
        self.specs = specs(options.actors or 1)
        self.before, self.order = before, order
        self.made: dict[int, Any] = {}
        self.waiting: dict[int, tuple[str, tuple[Any, ...]]] = {}
        self.calls: list[tuple[int, str, tuple[Any, ...]]] = []
        self.closed = False

    @property
    def workers(self) -> range:
        return range(len(self.specs))

    def submit(self, worker: int, method: str, *arguments: Any) -> None:
        assert worker not in self.waiting
        self.waiting[worker] = method, pickle.loads(pickle.dumps(arguments))

    def wait(self, seconds: float) -> list[Outcome]:
        if not self.waiting:
            return []
        worker = self.order(sorted(self.waiting))
        if worker < 0:
            return []
        method, arguments = self.waiting.pop(worker)
        self.calls.append((worker, method, arguments))
        try:
            self.before(worker, method, arguments)
            if worker not in self.made:
                self.made[worker] = self.specs[worker].make(*self.specs[worker].arguments)
            found = getattr(self.made[worker], method)(*arguments)
            return [Outcome(worker, pickle.loads(pickle.dumps(found)))]
        except AsifError as error:
            return [Outcome(worker, error=error)]
        except Killed:
            return [Outcome(worker, died=True)]

    def replace(self, worker: int) -> None:
        self.made.pop(worker, None)
        self.waiting.pop(worker, None)

    def close(self) -> None:
        self.closed = True


def stop_at(number: int, error: type[BaseException]) -> Callable[..., InlinePool]:
    """Open a pool in which the call `encode` of that number is interrupted."""
    count = [0]

    def before(worker: int, method: str, arguments: tuple[Any, ...]) -> None:
        count[0] += method == "encode"
        if count[0] == number:
            raise error

    return partial(InlinePool, before=before)
