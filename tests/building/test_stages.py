"""Reading ahead and working in a thread: order, bounds, errors, and ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from support.running_threads import check_threads_end, wait_until

from asif.building.clock import EncoderClock
from asif.building.stages import SingleWorker, read_ahead

SECONDS = 10  # a stage that waits longer waits for ever
threads_end = pytest.fixture(autouse=True)(check_threads_end)


@pytest.mark.parametrize("most", [1, 2, 7, 1000])
def test_items_keep_their_order(most: int) -> None:
    assert list(read_ahead(iter(range(300)), most=most, most_bytes=1 << 20)) == list(range(300))


@pytest.mark.parametrize(
    ("most", "most_bytes", "read"),
    [(4, 1 << 20, 6), (1000, 30, 5), (1000, 1, 3)],  # the first was taken, and one is in the reader's hands
)
def test_no_more_is_read_than_there_is_room_for(most: int, most_bytes: int, read: int) -> None:
    started: list[int] = []
    with closing(
        read_ahead((started.append(at) or at for at in range(50)), lambda at: 10, most=most, most_bytes=most_bytes)
    ) as found:
        assert next(found) == 0
        wait_until(lambda: len(started) >= read)
        assert len(started) == read
        assert next(found) == 1
        wait_until(lambda: len(started) >= read + 1)
    assert len(started) == read + 1


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    found = read_ahead(items(), most=2, most_bytes=9)
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(KeyboardInterrupt):
        next(found)


def test_a_reader_that_waits_for_a_network_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.building.stages._END_SECONDS", 0.01)
    answer, ended = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 0
            answer.wait(SECONDS)
            yield 1
        finally:
            ended.set()

    with closing(read_ahead(items(), most=9, most_bytes=9)) as found:
        assert next(found) == 0
    assert not ended.is_set()
    answer.set()
    assert ended.wait(SECONDS)  # it takes nothing more
    wait_until(lambda: all(thread.name != "read" for thread in threading.enumerate()))


def test_a_worker_works_beside_its_caller_and_in_order() -> None:
    began, go_on = threading.Event(), threading.Event()
    worked: list[int] = []
    done: list[tuple[int, str]] = []

    def work(item: int) -> None:
        began.set()
        assert go_on.wait(SECONDS)
        worked.append(item)

    worker = SingleWorker("test", work, lambda item: done.append((item, threading.current_thread().name)))
    worker.put(0)
    assert began.wait(SECONDS)
    worker.check()
    worker.wait(0.01)
    assert (worked, done) == ([], [])  # it works while this thread goes on
    go_on.set()
    for item in range(1, 5):
        worker.put(item)
        assert len(done) == item  # the one before is done
    worker.wait()
    worker.close()
    assert worked == [0, 1, 2, 3, 4]
    assert done == [(item, threading.current_thread().name) for item in range(5)]


def test_a_worker_that_is_interrupted_when_its_thread_begins_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in `Thread.start` leaves a thread that its pool does not know."""
    began, start = threading.Event(), threading.Thread.start
    worked: list[int] = []

    def work(item: int) -> None:
        began.set()
        time.sleep(0.05)
        worked.append(item)

    def interrupt(self: threading.Thread) -> None:
        start(self)
        if began.wait(0.01):
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupt)
    worker = SingleWorker("test", work, lambda item: None)
    with suppress(KeyboardInterrupt):
        worker.put(1)
    worker.close()
    assert worked == [1]


@pytest.mark.parametrize("call", ["put", "wait", "check"])
def test_what_goes_wrong_in_a_worker_is_raised_once(call: str) -> None:
    worked: list[int] = []

    def work(item: int) -> None:
        worked.append(item)
        raise OSError(item)

    worker = SingleWorker("test", work, lambda item: None)
    worker.put(1)
    worker._pool.shutdown(wait=True)  # it has failed
    with pytest.raises(OSError, match="1"):
        worker.put(2) if call == "put" else getattr(worker, call)()
    worker.wait()
    worker.close()
    assert worked == [1]


def test_shares_of_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images from 0 to 6, captions from 2 to 4 and from 8 to 9, decoding on two threads for 5 in all."""
    now = [0.0]
    monkeypatch.setattr("asif.building.clock.time.perf_counter", lambda: now[0])
    clock = EncoderClock(decoders=2)
    with clock.measure("encode_images"):
        now[0] = 2.0
        with clock.measure("encode_texts"):
            now[0] = 4.0
        now[0] = 6.0
    now[0] = 8.0
    with clock.measure("encode_texts"), clock.measure("decode"):
        now[0] = 9.0
    with clock.measure("decode"), clock.measure("decode"):
        now[0] = 11.0
    assert (clock.image_seconds, clock.text_seconds, clock.encoder_seconds) == (6, 3, 7)
    assert clock.compute_shares(10.0) == {
        "read": 0.0,
        "decode": 0.25,
        "encode_images": 0.6,
        "encode_texts": 0.3,
        "write": 0.0,
    }
    assert set(clock.compute_shares(0.0).values()) == {0.0}
