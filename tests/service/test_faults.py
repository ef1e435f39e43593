"""A service in a process of its own: swapped, edited, stopped, killed and flooded while it answers."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support.paths import SUPPORT
from support.services import draw_photo, make_store

from asif.anchorset import Store
from asif.engine import Engine

pytestmark = pytest.mark.slow
PATIENCE = 40.0
PHOTO = draw_photo(7)
LABELS = ["cat", "dog", "owl"]
BODY = {"images": [{"base64": base64.b64encode(PHOTO).decode()}], "labels": LABELS, "top": 3}


@dataclass
class Running:
    """A service in another process."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Return where it listens, which it says first."""
        return self.log.read_text().partition("\n")[0]

    def stop(self, sig: int = signal.SIGTERM) -> int:
        self.process.send_signal(sig)
        return self.process.wait(PATIENCE)


Start = Callable[..., Running]


@pytest.fixture
def start(home: Path, hashing: None) -> Iterator[Start]:
    """Return a function that starts a service over a small store."""
    make_store(home)
    started: list[Running] = []

    def run(workers: int = 1, seconds: float = 0.0, **limits: Any) -> Running:
        settings = {"home": str(home), "workers": workers, "seconds": seconds, "port": 0, "limits": limits}
        log = home.parent / f"log-{len(started)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, SUPPORT / "service_driver.py"],
                env={**os.environ, "ASIF_TEST_SERVICE": json.dumps(settings)},
                stderr=file,
            )
        running = Running(process, log)
        started.append(running)
        stop = time.monotonic() + PATIENCE
        while log.read_text().count("ready: worker") < workers:
            assert time.monotonic() < stop, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        return running

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


def list_workers(running: Running) -> list[int]:
    """Return the processes that answer: the children that serve, or the process itself."""
    found = []
    for child in psutil.Process(running.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # which a zombie is, too
            if any("spawn_main" in part for part in child.cmdline()):
                found.append(child.pid)
    return found


def expect(home: Path, name: str) -> tuple[str, list[tuple[str, float]]]:
    """Return the digest of a set, and the answer of an engine over it."""
    engine = Engine(name, home=home)
    (result,) = engine.classify(PHOTO, LABELS, top=3)
    return engine.anchors.named.digest, [(each.label, each.score) for each in result.predictions]


def read_answer(answer: httpx.Response) -> tuple[str, list[tuple[str, float]]]:
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert result["anchors"]["digest"] in answer.headers["x-asif-anchors"]
    return result["anchors"]["digest"], [(each["label"], each["score"]) for each in result["predictions"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_answer_under_swaps_is_right_for_the_digest_it_names(home: Path, start: Start, workers: int) -> None:
    running = start(workers)
    expected = dict([expect(home, "one"), expect(home, "two")])
    stopping = threading.Event()
    seen: set[str] = set()

    def ask() -> int:
        asked = 0
        with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
            while not stopping.is_set():
                digest, predictions = read_answer(client.post("/v1/classify", json=BODY))
                assert predictions == expected[digest]
                seen.add(digest)
                asked += 1
        return asked

    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        asking = [pool.submit(ask) for _ in range(8)]
        try:
            for number in range(40):
                swapped = client.post("/v1/anchors/one/swap", json={"ref": ("two", "one")[number % 2]})
                assert swapped.status_code == 200, swapped.text
                assert swapped.json()["all_workers"] is True
                time.sleep(0.05)
        finally:
            stopping.set()
        assert sum(each.result() for each in asking) > 40
    assert seen == set(expected)
    assert running.stop() == 0


def test_an_edit_in_one_worker_is_served_by_all(home: Path, start: Start) -> None:
    running = start(2)
    pair = {"image": BODY["images"][0], "captions": ["an owl"], "id": "new"}
    with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        added = client.post("/v1/anchors/one/pairs", json={"pairs": [pair]})
        assert added.json()["all_workers"] is True, added.text
    digests = set()
    for _ in range(10):  # a connection each, of whichever worker takes it
        with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
            digests.add(read_answer(client.post("/v1/classify", json=BODY))[0])
            assert client.get("/metrics").status_code == 200
    assert digests == {Store(home).open("one").digest}


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_loses_no_accepted_call(start: Start, sig: int) -> None:
    running = start(seconds=0.2)
    statuses: list[int] = []
    lost: list[str] = []
    stopping = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
            while not stopping.is_set():
                try:
                    statuses.append(client.post("/v1/classify", json=BODY).status_code)
                except httpx.ConnectError:
                    return  # nobody listens any more
                except httpx.TransportError as error:
                    lost.append(repr(error))
                    return
                if statuses[-1] == 503:
                    return

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        time.sleep(1)
        assert running.stop(sig) == 0
        stopping.set()
        for each in asking:
            each.result()
    assert not lost
    assert set(statuses) == {200, 503}


def test_a_worker_that_is_killed_is_replaced(start: Start) -> None:
    running = start(2)
    before = list_workers(running)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    stop = time.monotonic() + PATIENCE
    while len(now := list_workers(running)) < 2 or before[0] in now:
        assert time.monotonic() < stop
        time.sleep(0.1)
    answered = 0
    while answered < 20:
        assert time.monotonic() < stop
        try:
            answer = httpx.post(f"{running.url}/v1/classify", json=BODY, timeout=PATIENCE)
        except httpx.TransportError:
            continue
        answered += answer.status_code == 200
    assert running.stop() == 0
    assert "died" in running.log.read_text()


def test_workers_stop_when_their_parent_is_killed(start: Start) -> None:
    running = start(2)
    workers = [psutil.Process(pid) for pid in list_workers(running)]
    assert len(workers) == 2
    running.process.kill()
    _, alive = psutil.wait_procs(workers, PATIENCE)
    assert not alive


def test_clients_that_leave_and_bodies_that_stall_hold_nothing(start: Start) -> None:
    running = start(seconds=0.05, body_s=0.5)
    host, port = "127.0.0.1", int(running.url.rpartition(":")[2])
    lines = "POST /v1/classify HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 1000"
    head = "\r\n".join([*lines, "", ""]).encode()
    stalled = [socket.create_connection((host, port)) for _ in range(20)]
    for connection in stalled:
        connection.sendall(head + b'{"images"')
    for _ in range(20):  # gone in mid-body
        with socket.create_connection((host, port)) as connection:
            connection.sendall(head + b"{")
    full = json.dumps(BODY).encode()
    for _ in range(20):  # gone before the answer
        with socket.create_connection((host, port)) as connection:
            connection.sendall(head.replace(b"1000", str(len(full)).encode()) + full)
    with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        assert client.post("/v1/classify", json=BODY).status_code == 200
        for connection in stalled:
            connection.settimeout(PATIENCE)
            assert b" 408 " in connection.recv(100)
            connection.close()
        stop = time.monotonic() + PATIENCE
        while "asif_queue_items 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < stop
            time.sleep(0.05)
    assert running.stop() == 0


def test_an_overload_is_refused_while_the_rest_is_answered(start: Start) -> None:
    running = start(seconds=0.05, queue_items=8)
    stop = time.monotonic() + 3
    found: dict[int, list[float]] = {}

    def ask() -> None:
        with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
            while time.monotonic() < stop:
                started = time.monotonic()
                answer = client.post("/v1/classify", json=BODY)
                found.setdefault(answer.status_code, []).append(time.monotonic() - started)
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) >= 1
                    time.sleep(0.1)

    with ThreadPoolExecutor(40) as pool:
        for each in [pool.submit(ask) for _ in range(40)]:
            each.result()
    assert set(found) == {200, 429}
    assert len(found[200]) > 30


def test_a_port_that_is_taken_is_an_error(start: Start, home: Path) -> None:
    running = start()
    port = running.url.rpartition(":")[2]
    settings = {"home": str(home), "workers": 1, "seconds": 0, "port": int(port), "limits": {}}
    ran = subprocess.run(
        [sys.executable, SUPPORT / "service_driver.py"],
        env={**os.environ, "ASIF_TEST_SERVICE": json.dumps(settings)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "cannot be used" in ran.stderr
