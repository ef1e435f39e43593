"""Clients of `asif serve` in a process of their own: a load as JSON on stdin, what came of it as JSON on stdout.

Usage: serve_client.py. Each client sends its next request when the last one is answered, over a connection of its own.
Bodies are made before the clock starts; the seconds of the processor that the clients take are reported.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

BOUNDARY = "asif-bench"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Load:
    """Say what is sent: `route`, one body for each photo or word, by how many clients, for how long.

    `expected` has the first label and its score for each body, by digest. After a 429 a client waits for `patience`
    seconds; the first `warm` seconds are not counted.
    """

    url: str
    route: str
    clients: int
    seconds: float
    photos: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    expected: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    patience: float = 0.0
    warm: float = 1.0

    def make_bodies(self) -> list[tuple[bytes, str]]:
        """Return bodies with their content types."""
        if self.words:
            bodies = [{"queries": [{"texts": [word]}]} for word in self.words]
            return [(json.dumps(body).encode(), "application/json") for body in bodies]
        given = json.dumps({"labels": self.labels} if self.labels else {})
        return [(make_form(Path(photo).read_bytes(), given), FORM) for photo in self.photos]


def make_form(photo: bytes, given: str) -> bytes:
    """Return a multipart body with a photo, and the other fields as JSON."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="request"\r\n\r\n{given}\r\n'.encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="photo.jpg"\r\n'.encode(),
        b"Content-Type: image/jpeg\r\n\r\n" + photo + f"\r\n--{BOUNDARY}--\r\n".encode(),
    ]
    return b"".join(parts)


@dataclass
class Tally:
    """Count the answers: milliseconds by status, errors of connections, and answers other than expected."""

    ms: dict[int, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    checked: int = 0
    wrong: list[str] = field(default_factory=list)

    def check(self, load: Load, number: int, headers: Any, content: bytes) -> None:
        """Compare an answer with what the anchors that it names have to give."""
        digest = headers["X-Asif-Anchors"].rpartition("digest=")[2]
        first = json.loads(content)["results"][0]["predictions"][0]
        self.checked += 1
        if [first["label"], first["score"]] != list(load.expected[digest][number]):
            self.wrong.append(f"{digest[:12]}, body {number}: {first} in place of {load.expected[digest][number]}")


async def run(load: Load) -> dict[str, Any]:
    """Run all clients; returns what they saw."""
    bodies, tally = load.make_bodies(), Tally()
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        start = time.perf_counter() + load.warm
        stop = start + load.seconds
        await asyncio.gather(*(send(load, session, bodies, tally, each, (start, stop)) for each in range(load.clients)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": load.seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "ms": tally.ms,
        "errors": tally.errors,
        "checked": tally.checked,
        "wrong": tally.wrong,
    }


async def send(
    load: Load,
    session: aiohttp.ClientSession,
    bodies: list[tuple[bytes, str]],
    tally: Tally,
    client: int,
    clock: tuple[float, float],
) -> None:
    """Send bodies in turn, one client its own order of them, until the time is over."""
    number = client
    while time.perf_counter() < clock[1]:
        number = (number + 7) % len(bodies)
        body, kind = bodies[number]
        began = time.perf_counter()
        try:
            async with session.post(load.url + load.route, data=body, headers={"Content-Type": kind}) as answer:
                content, status = await answer.read(), answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.errors.append(repr(error))
            continue
        ended = time.perf_counter()
        if clock[0] <= ended <= clock[1]:
            tally.ms.setdefault(status, []).append(1000 * (ended - began))
        if load.expected and status == 200:
            tally.check(load, number, answer.headers, content)
        if status == 429:
            await asyncio.sleep(load.patience)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Load(**json.load(sys.stdin))))))
