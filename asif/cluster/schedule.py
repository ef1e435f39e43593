"""Let workers do tasks: each is done once, however often workers die, and slow ones are tried twice at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Generic, Protocol, TypeVar

from asif.cluster.pool import Outcome, WorkerPool

Task = TypeVar("Task", bound=Hashable)
HandledTask_contra = TypeVar("HandledTask_contra", bound=Hashable, contravariant=True)
_POLL_SECONDS = 0.5
_LEAST_SLOW_SECONDS = 30.0
"""A task is slow above this, and above twice the median of those that are done."""


class TaskHandler(Protocol[HandledTask_contra]):
    """Makes attempts at tasks, and takes what comes of them."""

    def begin(self, task: HandledTask_contra) -> tuple[Any, ...]:
        """Return the arguments of the next attempt at a task; the first one identifies it."""
        ...

    def finish(self, task: HandledTask_contra, value: Any) -> None:
        """Take the result of a task, once."""
        ...

    def note_death(self, task: HandledTask_contra, attempt: Any) -> None:
        """Note that a worker died in an attempt; raises AsifError if the task is not to be tried again."""
        ...


@dataclass(frozen=True)
class _Attempt(Generic[Task]):
    task: Task
    identity: Any
    started: float


@dataclass
class TaskRun(Generic[Task]):
    """Hold the state of a run: what waits, what each worker does, and how long finished tasks took."""

    pool: WorkerPool
    method: str
    handler: TaskHandler[Task]
    slow_seconds: float = _LEAST_SLOW_SECONDS
    _waiting: deque[Task] = field(default_factory=deque)
    _running: dict[int, _Attempt[Task]] = field(default_factory=dict)
    _done: set[Task] = field(default_factory=set)
    _seconds: list[float] = field(default_factory=list)

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all tasks; raises the first error of an attempt, and what the handler raises."""
        self._waiting = deque(tasks)
        while len(self._done) < len(tasks):
            self._hand_out()
            for outcome in self.pool.wait(_POLL_SECONDS):
                self._take(outcome)

    def _hand_out(self) -> None:
        """Give idle workers the tasks that wait, else the slow ones a second time."""
        for worker in self.pool.workers:
            if worker not in self._running:
                task = self._waiting.popleft() if self._waiting else self._find_slow()
                if task is None:
                    return
                arguments = self.handler.begin(task)
                self._running[worker] = _Attempt(task, arguments[0], time.monotonic())
                self.pool.submit(worker, self.method, *arguments)

    def _find_slow(self) -> Task | None:
        """Return the task that has been running for longest, if it is slow and tried once."""
        if not self._seconds:
            return None
        limit = max(self.slow_seconds, 2 * median(self._seconds))
        now, tried = time.monotonic(), [each.task for each in self._running.values()]
        slow = [
            each
            for each in self._running.values()
            if now - each.started > limit and tried.count(each.task) == 1 and each.task not in self._done
        ]
        return min(slow, key=lambda each: each.started).task if slow else None

    def _take(self, outcome: Outcome) -> None:
        attempt = self._running.pop(outcome.worker)
        if outcome.died:
            self.pool.replace(outcome.worker)
            if attempt.task not in self._done:
                self.handler.note_death(attempt.task, attempt.identity)
                if attempt.task not in {each.task for each in self._running.values()}:
                    self._waiting.appendleft(attempt.task)
            return
        if outcome.error is not None:
            if attempt.task not in self._done:
                raise outcome.error
            return
        if attempt.task not in self._done:
            self._done.add(attempt.task)
            self._seconds.append(time.monotonic() - attempt.started)
            self.handler.finish(attempt.task, outcome.value)
