"""The head-to-head: every method on the same samples of the same anchors, asked about the same data sets."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from asif.building.recipe import PublishedFigure, Recipe
from asif.engine import Engine
from asif.evaluate.comparison.datasets import Answers, DataSet
from asif.evaluate.comparison.methods import LADDERS, METHODS, Contender, Sample, contend
from asif.evaluate.comparison.statistics import judged, rivals
from asif.evaluate.provenance import origin, versions
from asif.tuning import AnchorSubset
from asif.vectors import Embeddings, Int64, canonical_json
from asif.version import VERSION

SHOWN_QUERIES = 24
TASKS = {"search": "zeroshot_retrieval", "classify": "zeroshot_classification"}
PUBLISHED = {
    "search": ("image_retrieval_recall@5", "text_retrieval_recall@5"),
    "classify": ("acc1", "acc5", "mean_per_class_recall"),
}
BUDGET = (
    "Each method is tuned inside its own sample of pairs, on held-out pairs, within the same number of seconds: "
    "settings and hubness correction, chosen from the same list for all; a trained method whose first training takes "
    "longer keeps its usual settings. No method sees the test."
)


@dataclass(frozen=True)
class Plan:
    """What is compared: methods, numbers of pairs, seeds, and the seconds that each may be tuned.

    A `recipe` fixes the setting of its method, and brings published figures.
    """

    methods: tuple[str, ...]
    counts: tuple[int, ...]
    seeds: tuple[int, ...]
    seconds: float
    recipe: Recipe | None = None

    def fixed(self, method: str) -> str | None:
        """Return the setting that the recipe gives a method."""
        aligner = self.recipe.aligner if self.recipe else None
        return aligner if aligner and aligner.partition("(")[0] == method else None

    def runs(self) -> list[tuple[int, int, str]]:
        """List the runs: pairs, seed, method; few pairs first, so that something is there early."""
        return list(product(self.counts, self.seeds, self.methods))


def compare(
    engine: Engine,
    texts: tuple[Embeddings, Int64] | None,
    sets: Sequence[DataSet],
    plan: Plan,
    kept: Path,
    progress: Callable[[str, int, int], None] = lambda what, done, every: None,
) -> dict[str, Any]:
    """Compare methods on an anchor set, and return what results.json keeps.

    `texts` are single captions of the anchors and the row of each, None where stored ones are single. Runs that are
    done are kept in the file `kept`, one a line, and taken from there when the same comparison is made again.
    """
    anchors = engine.anchors
    tasks = list(dict.fromkeys(each.role for each in sets))
    fixed = None if plan.recipe is None else plan.recipe.aligner
    known, runs = Kept(kept, [anchors.digest, [each.described["data"] for each in sets], plan.seconds, fixed]), []
    steps = list(product(plan.runs(), tasks))
    for at, ((count, seed, method), task) in enumerate(steps):
        key = {"method": method, "pairs": count, "seed": seed, "task": TASKS[task]}
        progress(f"{method}, {count:,} pairs, seed {seed}", at, len(steps))
        run = known.get(key)
        if run is None:
            chosen = sampled(anchors.count, count, seed)
            sample = Sample.of(AnchorSubset.of(anchors, chosen), of_rows(texts, chosen), seed)

            def tell(setting: str, at: int = at, count: int = count, seed: int = seed) -> None:
                progress(f"{setting}, {count:,} pairs, seed {seed}", at, len(steps))

            found = contend(method, sample, task, seed, plan.seconds, plan.fixed(method), tell)
            run = {**key, **described(found, [each for each in sets if each.role == task], sample)}
            known.put(key, run)
        runs.append(run)
    progress("done", len(steps), len(steps))
    return results(engine, sets, plan, runs)


def sampled(count: int, size: int, seed: int) -> Int64:
    """Draw so many rows, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:size])


def of_rows(texts: tuple[Embeddings, Int64] | None, chosen: Int64) -> tuple[Embeddings, Int64] | None:
    """Return the captions of some rows, numbered as these are."""
    if texts is None:
        return None
    kept = np.isin(texts[1], chosen)
    return Embeddings(texts[0].values[kept]), np.searchsorted(chosen, texts[1][kept])


def described(found: Contender, sets: Sequence[DataSet], sample: Sample) -> dict[str, Any]:
    """Ask a fitted method about data sets, without and with its correction, and say what it cost."""
    answered = []
    plain = type(found.hubness)("none")
    for each in sets:
        for hubness in dict.fromkeys((plain, found.hubness)):
            answers = each.ask(found.fitted, hubness, sample.anchors)
            answered.append({"dataset": each.name, "hubness": str(hubness), **told(answers)})
    return {
        "setting": found.setting,
        "parameters": found.fitted.parameters,
        "tuning": found.tuning,
        "fit_seconds": found.fit_seconds,
        "peak_mib": found.peak_mib,
        "trained_parameters": found.weights,
        "deletion": found.deletion,
        "results": answered,
    }


def told(answers: Answers) -> dict[str, Any]:
    """Write answers as JSON keeps them."""
    return {"metrics": answers.metrics, "ranks": answers.ranks.tolist()}


class Kept:
    """Runs that are done, in a file with one a line, for one comparison: other anchors, data or budgets differ."""

    def __init__(self, path: Path, what: list[Any]) -> None:
        self.path = path
        self.mark = hashlib.sha256(canonical_json([what, VERSION, LADDERS])).hexdigest()[:16]
        self.runs: dict[bytes, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # the line that was being written when it was killed
                    continue
                if entry["mark"] == self.mark:
                    self.runs[canonical_json(entry["key"])] = entry["run"]

    def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return a run that was made before."""
        return self.runs.get(canonical_json(key))

    def put(self, key: dict[str, Any], run: dict[str, Any]) -> None:
        """Add a run to the file."""
        line = json.dumps({"mark": self.mark, "key": key, "run": run}, allow_nan=False)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
            file.flush()
            os.fsync(file.fileno())


def results(engine: Engine, sets: Sequence[DataSet], plan: Plan, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Put everything together: figures, costs, who wins what."""
    anchors = engine.anchors
    found: dict[str, Any] = {
        "format": 1,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "asif": VERSION,
        "versions": versions(),
        "machine": machine(),
        **origin(anchors),
        "budget": {"tuning_seconds": plan.seconds, "what": BUDGET},
        "seeds": list(plan.seeds),
        "counts": list(plan.counts),
        "datasets": [
            {"name": each.name, "task": TASKS[each.role], "primary": each.primary, **each.described} for each in sets
        ],
        "methods": [{"name": name, "kind": METHODS[name][0], "about": METHODS[name][1]} for name in plan.methods],
        "runs": runs,
        "wins": [],
        "expected": None if plan.recipe is None else [published(each) for each in plan.recipe.expected],
    }
    found["wins"] = [
        win for each, seed in product(sets, plan.seeds) if (win := won(found, each, plan.counts[-1], seed)) is not None
    ]
    found["runs"] = [
        {
            **run,
            "results": [
                {name: value for name, value in result.items() if name != "ranks"} for result in run["results"]
            ],
        }
        for run in runs
    ]
    found["clip_benchmark"] = [
        benchmark(found, run, result)
        for run in found["runs"]
        for result in run["results"]
        if run["pairs"] == plan.counts[-1]
    ]
    return found


def won(found: dict[str, Any], data: DataSet, pairs: int, seed: int) -> dict[str, Any] | None:
    """Count which queries the best of either side wins, and name those on which they differ most."""
    about = next(each for each in found["datasets"] if each["name"] == data.name)
    best = rivals(found, about, pairs)
    if best.free is None or best.trained is None:
        return None
    sides = []
    for method in (best.free.method, best.trained.method):
        runs = [run for run in found["runs"] if (run["method"], run["pairs"], run["seed"]) == (method, pairs, seed)]
        results = [result for run in runs if (result := judged(run, data.name)) is not None]
        if not results:
            return None
        sides.append(({"method": method, "hubness": results[0]["hubness"]}, np.array(results[0]["ranks"])))
    (first, mine), (second, theirs) = sides
    right, other = mine == 0, theirs == 0
    counts = {
        "both": int((right & other).sum()),
        "first_only": int((right & ~other).sum()),
        "second_only": int((~right & other).sum()),
        "neither": int((~right & ~other).sum()),
    }
    shown = data.queries(mine, theirs, SHOWN_QUERIES)
    return {
        "dataset": data.name,
        "pairs": pairs,
        "seed": seed,
        "first": first,
        "second": second,
        "counts": counts,
        **shown,
    }


def benchmark(found: dict[str, Any], run: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Write one result as CLIP_benchmark would."""
    task = "search" if run["task"] == TASKS["search"] else "classify"
    encoders, anchors = found["encoders"], found["anchors"]
    how = f"{run['setting']} {result['hubness']}, {run['pairs']} pairs, seed {run['seed']}"
    return {
        "dataset": result["dataset"],
        "model": f"{encoders['image']['spec']}+{encoders['text']['spec']}",
        "pretrained": f"{how} of {anchors['name']}@{anchors['version']}",
        "task": run["task"],
        "metrics": {name: result["metrics"][name] for name in PUBLISHED[task]},
        "language": "en",
    }


def published(expected: PublishedFigure) -> dict[str, Any]:
    """Write a published figure as the report shows it."""
    what = f"{expected.dataset}, {expected.metric}"
    return {"what": what, "figure": expected.value, "source": f"{expected.source} ({expected.mark})"}


def machine() -> dict[str, Any]:
    """Say what it ran on."""
    import torch

    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = f"cuda: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu"
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": cores,
        "device": device,
    }
