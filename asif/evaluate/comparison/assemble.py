"""Assemble a comparison from its runs: figures, costs, and the queries that either camp wins."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

from asif.building.recipe import PublishedFigure
from asif.engine import Engine
from asif.evaluate.comparison.datasets import CachedDataset
from asif.evaluate.comparison.method_run import DatasetResult, MethodRun
from asif.evaluate.comparison.methods import find_method
from asif.evaluate.comparison.plan import BENCHMARKS, ComparisonPlan
from asif.evaluate.comparison.result import (
    ComparedDataset,
    ComparedMethod,
    Comparison,
    ExpectedFigure,
    Machine,
    TuningBudget,
)
from asif.evaluate.comparison.statistics import match_camps
from asif.evaluate.comparison.wins import CorrectedMethod, WinCounts, Wins
from asif.evaluate.evaluation import BenchmarkRecord
from asif.evaluate.provenance import AnchorOrigin, describe_anchors_used, read_library_versions
from asif.version import VERSION

_SHOWN_QUERIES = 24
_PUBLISHED_METRICS = {
    "zeroshot_retrieval": ("image_retrieval_recall@5", "text_retrieval_recall@5"),
    "zeroshot_classification": ("acc1", "acc5", "mean_per_class_recall"),
}
_BUDGET_RULE = (
    "Each method is tuned inside its own sample of pairs, within the same number of seconds: settings and hubness "
    "correction, chosen from the same list for all, by the criterion of the task, on the same folds of held-out pairs "
    "as far as the seconds reach. Every method keeps its usual setting unless another one is better by three standard "
    "errors, and is then fitted to, or trained on, all pairs of the sample; a training has as many steps as the "
    "held-out pairs liked best, and fewer in all where the seconds are too few. No method sees the test."
)


def assemble_comparison(
    engine: Engine, datasets: Sequence[CachedDataset], plan: ComparisonPlan, runs: list[MethodRun]
) -> Comparison:
    """Put figures, costs and wins of all runs together."""
    origin = describe_anchors_used(engine.anchors)
    expected = None if plan.recipe is None else tuple(map(_describe_published, plan.recipe.expected))
    comparison = Comparison(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        asif=VERSION,
        versions=read_library_versions(),
        machine=_describe_machine(),
        origin=origin,
        budget=TuningBudget(plan.seconds, _BUDGET_RULE),
        seeds=plan.seeds,
        counts=plan.counts,
        datasets=tuple(
            ComparedDataset(each.name, BENCHMARKS[each.task], each.primary, each.description) for each in datasets
        ),
        methods=tuple(ComparedMethod(name, find_method(name).kind, find_method(name).about) for name in plan.methods),
        runs=tuple(runs),
        wins=(),
        expected=expected,
        clip_benchmark=tuple(
            _write_record(origin, run, result) for run in runs for result in run.results if run.pairs == plan.counts[-1]
        ),
    )
    wins = (_count_wins(comparison, each, plan.counts[-1], seed) for each, seed in product(datasets, plan.seeds))
    return replace(
        comparison,
        wins=tuple(win for win in wins if win is not None),
        runs=tuple(run.without_ranks() for run in runs),
    )


def _count_wins(comparison: Comparison, dataset: CachedDataset, pairs: int, seed: int) -> Wins | None:
    """Count the queries that the best method of either camp wins, and find those on which they differ most."""
    compared = next(each for each in comparison.datasets if each.name == dataset.name)
    match = match_camps(comparison, compared, pairs)
    if match.free is None or match.trained is None:
        return None
    first = _find_result(comparison, match.free.method, dataset.name, pairs, seed)
    second = _find_result(comparison, match.trained.method, dataset.name, pairs, seed)
    if first is None or second is None:
        return None
    assert first.ranks is not None
    assert second.ranks is not None  # both are dropped only when the comparison is complete
    first_right, second_right = first.ranks == 0, second.ranks == 0
    shown = dataset.find_differences(first.ranks, second.ranks, _SHOWN_QUERIES)
    return Wins(
        dataset=dataset.name,
        pairs=pairs,
        seed=seed,
        first=CorrectedMethod(match.free.method, first.hubness),
        second=CorrectedMethod(match.trained.method, second.hubness),
        counts=WinCounts(
            both=int((first_right & second_right).sum()),
            first_only=int((first_right & ~second_right).sum()),
            second_only=int((~first_right & second_right).sum()),
            neither=int((~first_right & ~second_right).sum()),
        ),
        classes=shown.classes,
        queries=shown.queries,
    )


def _find_result(comparison: Comparison, method: str, dataset: str, pairs: int, seed: int) -> DatasetResult | None:
    """Return a method's result on a data set from one sample of pairs."""
    results = (run.result_on(dataset) for run in comparison.runs_of(method, pairs) if run.seed == seed)
    return next((result for result in results if result is not None), None)


def _write_record(origin: AnchorOrigin, run: MethodRun, result: DatasetResult) -> BenchmarkRecord:
    """Write one result as CLIP_benchmark would."""
    how = f"{run.setting} {result.hubness}, {run.pairs} pairs, seed {run.seed}"
    metrics = {name: result.metrics[name] for name in _PUBLISHED_METRICS[run.task]}
    return BenchmarkRecord(result.dataset, origin.model, f"{how} of {origin.ref}", run.task, metrics)


def _describe_published(expected: PublishedFigure) -> ExpectedFigure:
    """Return a published figure as the report shows it."""
    what = f"{expected.dataset}, {expected.metric}"
    return ExpectedFigure(what, expected.value, f"{expected.source} ({expected.mark})")


def _describe_machine() -> Machine:
    """Return the processor, its cores, and the device of torch."""
    import torch

    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = f"cuda: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "cpu"
    return Machine(names[0].partition(":")[2].strip() if names else platform.processor(), cores, device)
