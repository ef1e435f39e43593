"""Evaluate the data sets of a collection one after another; what is done is not done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from asif.errors import InputRefused
from asif.evaluate.collections.definition import Collection, CollectionEntry
from asif.evaluate.collections.shifts import Shift, measure_shifts
from asif.vectors import canonical_json
from asif.version import VERSION

_Result = Mapping[str, Any]


@dataclass(frozen=True)
class CollectionResult:
    """Hold the results of `asif eval` for each data set that was there, as JSON objects, and the shifts."""

    collection: Collection
    results: tuple[_Result, ...]
    missing: tuple[str, ...]
    shifts: tuple[Shift, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        about = {"name": self.collection.name, "about": self.collection.about, "sha256": self.collection.sha256}
        return {
            "collection": about,
            "results": list(self.results),
            "missing": list(self.missing),
            "shifts": [shift.to_json() for shift in self.shifts],
            "asif": VERSION,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }


def run_collection(
    collection: Collection,
    journal_path: Path,
    identify: Callable[[CollectionEntry], Any],
    evaluate: Callable[[CollectionEntry], _Result],
    progress: Callable[[CollectionEntry, bool], None] = lambda entry, done: None,
) -> CollectionResult:
    """Evaluate every data set of a collection that is there; raises InputRefused if none is.

    `identify` returns, as JSON, what a result depends on apart from the entry: data, anchors, options. Finished results
    are written to the journal, and taken from there when the same is evaluated again. `progress` is called with each
    data set before its evaluation, or when its result was taken from the journal (true).
    """
    journal = _ResultJournal(journal_path)
    results, missing = [], []
    for entry in collection.entries:
        if collection.is_missing(entry):
            missing.append(entry.name)
            continue
        mark = _mark(entry, identify(entry))
        result = journal.get(mark)
        progress(entry, result is not None)
        if result is None:
            result = evaluate(entry)
            journal.append(mark, result)
        results.append(result)
    if not results:
        raise InputRefused(
            f"none of the {len(missing)} data sets of {collection.name} is in {collection.root.absolute()}",
            f"at least one, such as {collection.entries[0].path}",
            "pass the folder that they are in: --root FOLDER",
        )
    accuracies = {
        each["dataset"]: each["metrics"]["acc1"] for each in results if each["metrics"].get("acc1") is not None
    }
    shifts = measure_shifts(collection.entries, accuracies, collection.references)
    return CollectionResult(collection, tuple(results), tuple(missing), shifts)


def _mark(entry: CollectionEntry, identity: Any) -> str:
    """Return a mark that is equal for equal evaluations."""
    fields = [entry.name, entry.task, entry.templates, entry.classnames, entry.split, dict(entry.columns or {})]
    return hashlib.sha256(canonical_json([VERSION, fields, identity])).hexdigest()[:16]


class _ResultJournal:
    """Hold finished results by their marks; each is a line of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: dict[str, _Result] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # empty, or cut off by a kill
                continue
            self._results[entry["mark"]] = entry["result"]

    def get(self, mark: str) -> _Result | None:
        """Return a finished result."""
        return self._results.get(mark)

    def append(self, mark: str, result: _Result) -> None:
        """Add a result to the file, durably."""
        line = json.dumps({"mark": mark, "result": result}, ensure_ascii=False, allow_nan=False)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
            file.flush()
            os.fsync(file.fileno())
