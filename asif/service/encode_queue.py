"""The queue in front of the encoders: one thread encodes, and batches what several requests wait for."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from asif.service.metrics import Metrics
from asif.service.problem import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")
_BATCH_SIZES = {"image": 16, "text": 256, "job": 1}
_RATE_OF_NEW = 50.0
"""Items a second that are assumed before any was encoded."""
_WEIGHT_OF_LAST = 0.2


@dataclass(eq=False)
class _Job:
    """Hold the items of one request; those before `taken` are encoded or on their way."""

    kind: str
    key: Hashable
    items: Sequence[Any]
    encode: Callable[[list[Any]], Sequence[Any]]
    deadline: float
    batch: int
    future: Future[list[Any]] = field(default_factory=Future)
    results: list[Any] = field(default_factory=list)
    taken: int = 0
    queued_at: float = field(default_factory=time.perf_counter)
    started_at: float | None = None

    @property
    def is_over(self) -> bool:
        """Tell whether nobody waits for it any more."""
        return self.future.done() or time.monotonic() > self.deadline


@dataclass(frozen=True)
class Encoded(Generic[Result]):
    """Results in the order of the items, and for how many milliseconds they waited and were encoded."""

    results: list[Result]
    queue_ms: float
    encode_ms: float


class EncodeQueue:
    """Encode the items of many requests in one thread, in batches of those that one encoder serves.

    Requests take turns, a batch each, so that a short one does not wait for all of a long one. A request is admitted
    with all its items before any is encoded; what does not fit is refused with 429 at once.
    """

    def __init__(self, most_items: int, most_bytes: int, metrics: Metrics) -> None:
        self._most_items, self._most_bytes, self._metrics = most_items, most_bytes, metrics
        self._jobs: deque[_Job] = deque()
        self.items = self.bytes = 0
        self._rate = _RATE_OF_NEW
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="asif-encode", daemon=True)
        self._thread.start()

    @contextmanager
    def admit(self, items: int, size: int) -> Iterator[None]:
        """Keep room for the images and texts of a request, and for their bytes; raises Problem, 429, without any.

        A request that is larger than the queue is admitted when no other is.
        """
        with self._changed:
            if self.items and (self.items + items > self._most_items or self.bytes + size > self._most_bytes):
                raise self._refuse()
            self._count(items, size)
        try:
            yield
        finally:
            with self._changed:
                self._count(-items, -size)

    def check_room(self) -> None:
        """Raise Problem, 429, if there is no room for anything: a request is refused before its body is read."""
        with self._changed:
            if self.items >= self._most_items or self.bytes >= self._most_bytes:
                raise self._refuse()

    def _refuse(self) -> Problem:
        seconds = max(1, math.ceil(self.items / self._rate))
        self._metrics.refused.labels("queue").inc()
        return Problem(
            429,
            f"{self.items:,} images and texts of {self.bytes / 1e6:.0f} MB wait to be encoded",
            f"at most {self._most_items:,} and {self._most_bytes / 1e6:.0f} MB",
            f"try again in {seconds} s",
            {"Retry-After": str(seconds)},
        )

    def _count(self, items: int, size: int) -> None:
        self.items += items
        self.bytes += size
        self._metrics.queue_items.set(self.items)
        self._metrics.queue_bytes.set(self.bytes)

    async def encode(
        self,
        kind: str,
        key: Hashable,
        items: Sequence[Item],
        encode: Callable[[list[Item]], Sequence[Result]],
        deadline: float,
        batch: int | None = None,
    ) -> Encoded[Result]:
        """Encode items: `encode` is called with batches of items of any requests with the same `kind` and `key`.

        `deadline` is the time of the monotonic clock after which nobody waits; `batch` is how many items the encoder
        takes in one pass, for a larger batch would fill its last pass with padding while others arrive. Raises Problem,
        504, after the deadline, and what `encode` raises.
        """
        if not items:
            return Encoded([], 0.0, 0.0)
        job = _Job(kind, (kind, key), items, encode, deadline, batch or _BATCH_SIZES[kind])
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        try:
            results = await asyncio.wrap_future(job.future)
        finally:
            job.future.cancel()  # nobody waits any more
        started = job.started_at or job.queued_at
        done = time.perf_counter()
        return Encoded(results, 1000 * (started - job.queued_at), 1000 * (done - started))

    async def run(self, work: Callable[[], Result], deadline: float) -> Result:
        """Run something that uses encoders in the thread that encodes, between two batches."""
        done = await self.encode("job", object(), [work], lambda some: [each() for each in some], deadline)
        return done.results[0]

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stopping:
                    self._changed.wait()
                if self._stopping and not self._jobs:
                    return
                batch = self._take_batch()
            if batch:
                self._encode(batch)

    def _take_batch(self) -> list[tuple[_Job, list[Any]]]:
        """Take items of the first job, and of others that the same encoder serves; the first one goes to the end."""
        batch: list[tuple[_Job, list[Any]]] = []
        room = 0
        for job in list(self._jobs):
            if job.is_over:
                self._drop(job)
                continue
            if not batch:
                room = job.batch
            elif job.key != batch[0][0].key:
                continue
            some = list(job.items[job.taken : job.taken + room])
            batch.append((job, some))
            job.taken += len(some)
            room -= len(some)
            self._jobs.remove(job)
            if job.taken < len(job.items):
                self._jobs.append(job)
            if room <= 0:
                break
        return batch

    def _drop(self, job: _Job) -> None:
        """Drop a job that nobody waits for."""
        self._jobs.remove(job)
        _settle(job, error=Problem(504, "no answer in time", "an answer before the deadline", "send less at once"))

    def _encode(self, batch: list[tuple[_Job, list[Any]]]) -> None:
        started = time.perf_counter()
        for job, _ in batch:
            if job.started_at is None:
                job.started_at = started
                self._metrics.stage.labels("queue").observe(started - job.queued_at)
        items = [item for _, some in batch for item in some]
        try:
            results = list(batch[0][0].encode(items))
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0][0], error=error)
            else:  # one request's items do not fail another's
                for each in batch:
                    self._encode([each])
            return
        seconds = time.perf_counter() - started
        if batch[0][0].kind != "job":
            self._metrics.stage.labels("encode").observe(seconds)
            self._rate += _WEIGHT_OF_LAST * (len(items) / max(seconds, 1e-6) - self._rate)
        for job, some in batch:
            job.results += results[: len(some)]
            del results[: len(some)]
            if len(job.results) == len(job.items):
                _settle(job)

    def stop(self) -> None:
        """Encode what waits, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()


def _settle(job: _Job, error: BaseException | None = None) -> None:
    """Give the request its results, or the error, unless it is gone."""
    with suppress(InvalidStateError):
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(job.results)
