"""The journal of a comparison: finished runs, one a line, so that an interrupted comparison can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from asif.evaluate.comparison.method_run import MethodRun
from asif.evaluate.evaluation import Benchmark
from asif.vectors import canonical_json

RunKey = tuple[str, int, int, Benchmark]
"""Method, number of pairs, seed, task."""


class RunJournal:
    """Hold the finished runs of one comparison; runs with other anchors, data or budgets are not taken from the file.

    `identity` is everything that the runs depend on, as JSON.
    """

    def __init__(self, path: Path, identity: list[Any]) -> None:
        self._path = path
        self._mark = hashlib.sha256(canonical_json(identity)).hexdigest()[:16]
        self._runs: dict[RunKey, MethodRun] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # a line cut off by a kill
                    continue
                if entry["mark"] == self._mark:
                    run = MethodRun.from_json(entry["run"])
                    self._runs[_key_of(run)] = run

    def get(self, key: RunKey) -> MethodRun | None:
        """Return a finished run."""
        return self._runs.get(key)

    def append(self, run: MethodRun) -> None:
        """Add a run to the file, durably."""
        key = {"method": run.method, "pairs": run.pairs, "seed": run.seed, "task": run.task}
        line = json.dumps({"mark": self._mark, "key": key, "run": run.to_json()}, allow_nan=False)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
            file.flush()
            os.fsync(file.fileno())


def _key_of(run: MethodRun) -> RunKey:
    return run.method, run.pairs, run.seed, run.task
