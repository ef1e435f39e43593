"""How the kernel benchmarks time and keep: contenders in turn, every cell in a file as soon as it is known."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]
RUNS = 7
FEWEST = 3  # runs of what takes less than the budget
REST, LONGEST_REST = 0.001, 0.1  # seconds before a run, so that threads of the contender before stop spinning


@dataclass
class Timed:
    """Hold what contenders took, in seconds per run, and what their first runs returned."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def milliseconds(self) -> dict[str, float]:
        """Return each contender's median; the first run warms up and counts only where it is the only one."""
        return {name: 1000 * statistics.median(runs[1:] or runs) for name, runs in self.seconds.items()}

    def runs(self) -> dict[str, int]:
        """Return how many runs each median is taken over."""
        return {name: max(len(runs) - 1, 1) for name, runs in self.seconds.items()}


def interleaved(actions: Mapping[str, Callable[[], Any]], budget: float) -> Timed:
    """Run every action once, then again, in turn, until it has its runs or has used up its budget of seconds.

    What is within the budget at all is run FEWEST times; what is not, once.
    """
    timed = Timed()
    for turn in range(RUNS + 1):
        for name, action in actions.items():
            before = timed.seconds.setdefault(name, [])
            if len(before) < turn or (before and used_up(before, budget)):
                continue
            settle()
            started = time.perf_counter()
            output = action()
            before.append(time.perf_counter() - started)
            timed.outputs.setdefault(name, output)
            del output
    return timed


def used_up(runs: list[float], budget: float) -> bool:
    """Say whether another run would go beyond the budget."""
    return runs[-1] > budget or (len(runs) >= FEWEST and sum(runs) + runs[-1] > budget)


def settle() -> None:
    """Wait until no thread of this process spins: those of OpenBLAS do so for tens of milliseconds after their work."""
    for _ in range(round(LONGEST_REST / REST)):
        busy = time.process_time()
        time.sleep(REST)
        if time.process_time() - busy < REST / 5:
            return


def once(action: Callable[[], Any]) -> tuple[Any, float]:
    """Run an action once: what it returned, and milliseconds."""
    started = time.perf_counter()
    output = action()
    return output, 1000 * (time.perf_counter() - started)


class Results:
    """Records in memory and, line by line, in a file."""

    def __init__(self, path: Path, keep: Callable[[Record], bool]) -> None:
        path.parent.mkdir(exist_ok=True)
        earlier = path.read_text().split("\n")[:-1] if path.exists() else []  # a line that a kill cut short goes
        self.path = path
        self.records = [record for record in map(json.loads, earlier) if keep(record)]
        path.write_text("".join(json.dumps(record) + "\n" for record in self.records))

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def select(self, **key: Any) -> list[Record]:
        """Return the records that have these entries."""
        return [record for record in self.records if key.items() <= record.items()]
