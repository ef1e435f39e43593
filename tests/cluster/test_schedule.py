"""Tasks on workers in this process: each once, slow ones twice at a time, errors at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.worker_pools import InlinePool, Killed

from asif.cluster.pool import ClusterOptions, WorkerSpec, call_all
from asif.cluster.schedule import TaskRun
from asif.errors import AsifError, UsageError


class Doubler:
    def double(self, task: int, attempt: int) -> int:
        if task < 0:
            raise UsageError("a negative task", "a positive one", "pass one")
        return 2 * task

    def name(self, prefix: str) -> str:
        return prefix + "!"


@dataclass
class Handler:
    """Note what happens to each task."""

    begun: list[int] = field(default_factory=list)
    finished: dict[int, int] = field(default_factory=dict)
    deaths: list[int] = field(default_factory=list)

    def begin(self, task: int) -> tuple[int, int]:
        self.begun.append(task)
        return task, len(self.begun)

    def finish(self, task: int, value: int) -> None:
        assert task not in self.finished
        self.finished[task] = value

    def note_death(self, task: int, attempt: Any) -> None:
        self.deaths.append(task)


def open_pool(count: int, **options: Any) -> InlinePool:
    return InlinePool(lambda number: [WorkerSpec(Doubler)] * number, ClusterOptions(count), **options)


def raise_at(*calls: int, error: Callable[[], BaseException] = Killed) -> Callable[..., None]:
    count = [0]

    def before(*_: Any) -> None:
        count[0] += 1
        if count[0] in calls:
            raise error()

    return before


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_each_task_is_done_once(workers: int) -> None:
    handler = Handler()
    TaskRun(open_pool(workers), "double", handler).run(range(10))
    assert handler.finished == {task: 2 * task for task in range(10)}
    assert sorted(handler.begun) == list(range(10))


def test_tasks_of_dead_workers_are_done_again() -> None:
    handler, pool = Handler(), open_pool(2, before=raise_at(1, 4, 5))
    TaskRun(pool, "double", handler).run(range(6))
    assert handler.finished == {task: 2 * task for task in range(6)}
    assert len(handler.begun) == 6 + 3 == len(pool.calls)
    assert len(handler.deaths) == 3


def test_first_error_ends_the_run() -> None:
    handler = Handler()
    with pytest.raises(UsageError, match="negative"):
        TaskRun(open_pool(2), "double", handler).run([1, 2, -3, 4])
    assert handler.finished == {1: 2}
    assert 4 not in handler.begun


@pytest.mark.parametrize("late", ["never", "afterwards", "dies"])
def test_slow_task_is_tried_a_second_time_and_counts_once(late: str) -> None:
    """Worker 0 gets the first task and does not answer until all others have, and one has had it too."""
    handler = Handler()

    def choose(waiting: list[int]) -> int:
        if waiting == [0]:
            return -1  # nothing ends
        if handler.begun.count(0) == 2 and late != "never" and 0 in waiting:
            return 0
        return waiting[-1]

    def die(worker: int, *_: Any) -> None:
        if worker == 0 and late == "dies":
            raise Killed

    pool = open_pool(2, order=choose, before=die)
    started = time.monotonic()
    TaskRun(pool, "double", handler, slow_seconds=0.05).run(range(5))
    assert time.monotonic() - started < 20
    assert handler.finished == {task: 2 * task for task in range(5)}
    assert handler.begun.count(0) == 2
    assert [handler.begun.count(task) for task in range(1, 5)] == [1] * 4


def test_quick_tasks_are_tried_once() -> None:
    handler = Handler()
    TaskRun(open_pool(8), "double", handler).run(range(3))
    assert sorted(handler.begun) == [0, 1, 2]


def test_all_workers_answer_in_order() -> None:
    pool = open_pool(3, order=lambda waiting: waiting[-1], before=raise_at(1, 2))
    assert call_all(pool, "name", [("a",), ("b",), ("c",)]) == ["a!", "b!", "c!"]


def test_worker_that_dies_each_time_is_an_error_not_a_missing_answer() -> None:
    with pytest.raises(AsifError, match="worker 2 died 3 times"):
        call_all(open_pool(3, order=lambda waiting: waiting[-1], before=raise_at(1, 2, 3)), "name", [("a",)] * 3)


def test_actors_are_counted_from_one() -> None:
    with pytest.raises(UsageError, match="0 actors"):
        ClusterOptions(0)
