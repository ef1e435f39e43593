"""Timing and results of the kernel benchmarks: contenders run in turn, and every cell is saved when it is measured."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]
TURNS = 3
RUNS = 40  # in a turn, at most
REST, LONGEST_REST = 0.001, 0.1  # seconds before a turn, so that threads of the contender before stop spinning


@dataclass
class Timed:
    """Hold the seconds of each contender's runs, and the output of its first run.

    The first run of a turn wakes threads and fills caches; it counts only if it is the only one of its turn.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def milliseconds(self) -> dict[str, float]:
        """Return each contender's median."""
        return {name: 1000 * statistics.median(runs) for name, runs in self.seconds.items()}

    def runs(self) -> dict[str, int]:
        """Return how many runs each median is taken over."""
        return {name: len(runs) for name, runs in self.seconds.items()}


def interleaved(actions: Mapping[str, Callable[[], Any]], budget: float) -> Timed:
    """Run the actions in turn, TURNS times: each RUNS times, or until its share of `budget` seconds is used up.

    An action that takes longer than the budget is run once.
    """
    timed = Timed()
    for _ in range(TURNS):
        for name, action in actions.items():
            before = timed.seconds.setdefault(name, [])
            if sum(before) > budget:
                continue
            settle()
            burst: list[float] = []
            while not burst or (sum(burst) < budget / TURNS and len(burst) < RUNS):
                started = time.perf_counter()
                output = action()
                burst.append(time.perf_counter() - started)
                timed.outputs.setdefault(name, output)
                del output
            before += burst[1:] or burst
    return timed


def settle() -> None:
    """Wait until no thread of this process spins, as OpenBLAS's do for tens of milliseconds after their work."""
    for _ in range(round(LONGEST_REST / REST)):
        busy = time.process_time()
        time.sleep(REST)
        if time.process_time() - busy < REST / 5:
            return


def once(action: Callable[[], Any]) -> tuple[Any, float]:
    """Run an action once; return its result and the milliseconds."""
    started = time.perf_counter()
    output = action()
    return output, 1000 * (time.perf_counter() - started)


class Results:
    """Hold records in memory and, one per line, in a file."""

    def __init__(self, path: Path, keep: Callable[[Record], bool]) -> None:
        path.parent.mkdir(exist_ok=True)
        earlier = path.read_text().split("\n")[:-1] if path.exists() else []  # drops a line that a kill cut short
        self.path = path
        self.records = [record for record in map(json.loads, earlier) if keep(record)]
        path.write_text("".join(json.dumps(record) + "\n" for record in self.records))

    def add(self, record: Record) -> None:
        """Add a record, and append it to the file."""
        self.records.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def select(self, **key: Any) -> list[Record]:
        """Return the records with these values."""
        return [record for record in self.records if key.items() <= record.items()]
