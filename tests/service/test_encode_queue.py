"""The queue: results are in order, batches are shared, turns are taken, nobody's fault is another's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asif.service.encode_queue import EncodeQueue
from asif.service.metrics import Metrics
from asif.service.problem import Problem

NEVER = time.monotonic() + 3600


@pytest.fixture
def queue() -> Iterator[EncodeQueue]:
    queue = EncodeQueue(100, 1_000, Metrics())
    yield queue
    queue.stop()


class Recorder:
    """An encoder that squares numbers, keeps its batches, and waits until it is released."""

    def __init__(self, released: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.released = threading.Event()
        self.began = threading.Event()
        if released:
            self.released.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.began.set()
        assert self.released.wait(10)
        self.batches.append(list(items))
        if -1 in items:
            raise ValueError("minus one")
        return [item * item for item in items]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), max_size=40), min_size=1, max_size=8))
def test_each_request_gets_its_results_in_order(requests: list[list[int]]) -> None:
    queue, encoder = EncodeQueue(1_000, 1_000, Metrics()), Recorder()

    async def ask() -> list[Any]:
        return await asyncio.gather(*(queue.encode("image", "a", some, encoder, NEVER) for some in requests))

    answers = asyncio.run(ask())
    queue.stop()
    assert [each.results for each in answers] == [[item * item for item in some] for some in requests]
    assert max(map(len, encoder.batches), default=0) <= 16


def test_batches_are_passes_of_the_encoder(queue: EncodeQueue) -> None:
    encoder = Recorder(released=False)

    async def ask() -> None:
        first = asyncio.ensure_future(queue.encode("image", "a", [0], encoder, NEVER, 4))
        await asyncio.to_thread(encoder.began.wait)
        others = [queue.encode("image", "a", [number], encoder, NEVER, 4) for number in range(1, 7)]
        waiting = asyncio.gather(first, *others)
        await asyncio.sleep(0.05)
        encoder.released.set()
        await waiting

    asyncio.run(ask())
    assert encoder.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_requests_of_one_encoder_share_a_batch(queue: EncodeQueue) -> None:
    encoder = Recorder(released=False)

    async def ask() -> None:
        first = asyncio.ensure_future(queue.encode("image", "a", [0], encoder, NEVER))
        await asyncio.to_thread(encoder.began.wait)
        others = [queue.encode("image", "a", [number], encoder, NEVER) for number in range(1, 6)]
        other = queue.encode("image", "b", [9], encoder, NEVER)
        waiting = asyncio.gather(first, *others, other)
        await asyncio.sleep(0.05)
        encoder.released.set()
        await waiting

    asyncio.run(ask())
    assert encoder.batches == [[0], [1, 2, 3, 4, 5], [9]]


def test_a_short_request_does_not_wait_for_all_of_a_long_one(queue: EncodeQueue) -> None:
    encoder = Recorder(released=False)
    done: list[str] = []

    async def ask(name: str, items: list[int]) -> None:
        await queue.encode("image", name, items, encoder, NEVER)
        done.append(name)

    async def ask_both() -> None:
        long = asyncio.ensure_future(ask("long", list(range(100))))
        await asyncio.to_thread(encoder.began.wait)
        short = asyncio.ensure_future(ask("short", [1]))
        await asyncio.sleep(0.05)
        encoder.released.set()
        await asyncio.gather(long, short)

    asyncio.run(ask_both())
    assert done == ["short", "long"]


def test_a_fault_in_a_shared_batch_is_of_one_request(queue: EncodeQueue) -> None:
    encoder = Recorder(released=False)

    async def ask() -> list[Any]:
        first = asyncio.ensure_future(queue.encode("image", "a", [0], encoder, NEVER))
        await asyncio.to_thread(encoder.began.wait)
        some = [queue.encode("image", "a", items, encoder, NEVER) for items in ([2], [-1], [3])]
        waiting = asyncio.gather(first, *some, return_exceptions=True)
        await asyncio.sleep(0.05)
        encoder.released.set()
        return list(await waiting)

    first, two, fault, three = asyncio.run(ask())
    assert (first.results, two.results, three.results) == ([0], [4], [9])
    assert isinstance(fault, ValueError)


def test_what_nobody_waits_for_is_not_encoded(queue: EncodeQueue) -> None:
    encoder = Recorder(released=False)

    async def ask() -> None:
        first = asyncio.ensure_future(queue.encode("image", "a", [0], encoder, NEVER))
        await asyncio.to_thread(encoder.began.wait)
        gone = asyncio.ensure_future(queue.encode("image", "b", [1], encoder, NEVER))
        late = asyncio.ensure_future(queue.encode("image", "c", [2], encoder, time.monotonic()))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        encoder.released.set()
        await first
        with pytest.raises(Problem) as problem:
            await late
        assert problem.value.status == 504

    asyncio.run(ask())
    assert encoder.batches == [[0]]


def test_admissions_are_bounded_and_given_back(queue: EncodeQueue) -> None:
    with queue.admit(5_000, 50_000):  # alone, a request may be larger than the queue
        with pytest.raises(Problem) as problem, queue.admit(1, 1):
            pass
        assert problem.value.status == 429
        assert int(problem.value.headers["Retry-After"]) >= 1
    with queue.admit(60, 10), queue.admit(40, 10), pytest.raises(Problem), queue.admit(1, 1):
        pass
    with queue.admit(1, 999), pytest.raises(Problem), queue.admit(1, 2):
        pass
    assert (queue.items, queue.bytes) == (0, 0)


def test_a_queue_that_stops_finishes_what_waits() -> None:
    queue, encoder = EncodeQueue(100, 100, Metrics()), Recorder(released=False)

    async def ask() -> Any:
        waiting = asyncio.ensure_future(queue.encode("image", "a", [3], encoder, NEVER))
        await asyncio.to_thread(encoder.began.wait)
        stopping = asyncio.ensure_future(asyncio.to_thread(queue.stop))
        encoder.released.set()
        await stopping
        return (await waiting).results

    assert asyncio.run(ask()) == [9]
