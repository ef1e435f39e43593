"""The tables of a comparison: all methods at the largest number of pairs, at every number of pairs, and all runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asif.evaluate.comparison.format import format_amount
from asif.evaluate.comparison.result import ComparedDataset, ComparedMethod, Comparison
from asif.evaluate.comparison.statistics import Standing, collect_cost, collect_standing, mean_of_known

_FURTHER_METRICS = {
    "zeroshot_retrieval": {"text_retrieval_recall@1": "image→text", "image_retrieval_recall@1": "text→image"},
    "zeroshot_classification": {"acc5": "acc5", "mean_per_class_recall": "per class"},
}


@dataclass(frozen=True)
class Table:
    """Hold cells of text under a header."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def build_comparison_tables(comparison: Comparison) -> list[Table]:
    """Return two tables for each data set: the largest number of pairs, and the primary figure by number of pairs.

    Figures are in per cent, means over seeds, with hubness correction if a method has such a result; `-` for none.
    """
    builders = (build_largest_table, build_count_table)
    return [build(comparison, dataset) for dataset in comparison.datasets for build in builders]


def build_largest_table(comparison: Comparison, dataset: ComparedDataset) -> Table:
    """Compare all methods at the largest number of pairs, the best first."""
    pairs, further = max(comparison.counts), _FURTHER_METRICS[dataset.task]
    costs_header = ("tried", "fit s", "with tuning s", "MiB", "delete s")
    header = ("method", "", dataset.primary, "uncorrected", *further.values(), *costs_header)
    rows = []
    for method in sort_methods(comparison, dataset, pairs):
        plain = collect_standing(comparison, dataset, method.name, pairs, corrected=False)
        costs = collect_cost(comparison, dataset, method.name, pairs)
        amounts = costs.settings, costs.fit_seconds, costs.all_seconds, costs.peak_mib, costs.deletion_seconds
        rows.append(
            (
                method.name,
                method.kind,
                _format_spread(collect_standing(comparison, dataset, method.name, pairs)),
                _format_percent(_mean(plain)),
                *(_format_percent(_mean_metric(comparison, dataset, method.name, pairs, name)) for name in further),
                *map(format_amount, amounts),
            )
        )
    return Table(f"{comparison.title_of(dataset)}, {pairs:,} pairs", header, rows)


def build_count_table(comparison: Comparison, dataset: ComparedDataset) -> Table:
    """Show the primary figure of all methods at all numbers of pairs, the best at the largest first."""
    counts = sorted(comparison.counts)
    rows = [
        (
            method.name,
            *(_format_percent(_mean(collect_standing(comparison, dataset, method.name, pairs))) for pairs in counts),
        )
        for method in sort_methods(comparison, dataset, counts[-1])
    ]
    title = f"{comparison.title_of(dataset)}, {dataset.primary} by number of pairs"
    return Table(title, ("method", *(f"{pairs:,}" for pairs in counts)), rows)


def build_run_table(comparison: Comparison, dataset: ComparedDataset) -> Table:
    """List every run's figures on a data set, with and without correction."""
    results = [(run, result) for run in comparison.runs for result in run.results if result.dataset == dataset.name]
    metrics = list(dict.fromkeys(name for _, result in results for name in result.metrics))
    metrics.sort(key=lambda name: name != dataset.primary)
    rows = [
        (
            run.method,
            f"{run.pairs:,}",
            str(run.seed),
            result.hubness,
            *(_format_metric(name, result.metrics.get(name)) for name in metrics),
            format_amount(run.fit_seconds),
            run.setting,
        )
        for run, result in results
    ]
    header = ("method", "pairs", "seed", "hubness", *metrics, "fit s", "setting")
    return Table(f"Every run on {comparison.title_of(dataset)}", header, rows)


def sort_methods(comparison: Comparison, dataset: ComparedDataset, pairs: int) -> list[ComparedMethod]:
    """Sort the methods by their primary figure at one number of pairs, those without one last."""

    def key(method: ComparedMethod) -> float:
        mean = _mean(collect_standing(comparison, dataset, method.name, pairs))
        return 1.0 if mean is None else -mean

    return sorted(comparison.methods, key=key)


def _mean_metric(
    comparison: Comparison, dataset: ComparedDataset, method: str, pairs: int, metric: str
) -> float | None:
    """Return a method's mean of any metric over seeds."""
    results = (run.result_on(dataset.name) for run in comparison.runs_of(method, pairs))
    return mean_of_known(result.metrics.get(metric) for result in results if result is not None)


def _mean(standing: Standing | None) -> float | None:
    """Return the mean over seeds, if there is a standing."""
    return None if standing is None else standing.mean


def _format_percent(share: float | None) -> str:
    """Write a share in per cent.

    >>> _format_percent(0.3482), _format_percent(None)
    ('34.8', '-')
    """
    return "-" if share is None else f"{100 * share:.1f}"


def _format_spread(standing: Standing | None) -> str:
    """Write the mean, and half the range over seeds if they differ.

    >>> _format_spread(Standing("cca", {0: 0.25, 1: 0.27})), _format_spread(Standing("cca", {0: 0.25}))
    ('26.0 ± 1.0', '25.0')
    """
    if standing is None or standing.low == standing.high:
        return _format_percent(_mean(standing))
    return f"{_format_percent(standing.mean)} ± {50 * (standing.high - standing.low):.1f}"


def _format_metric(metric: str, value: float | None) -> str:
    """Write a metric: ranks as they are, shares in per cent with two places.

    >>> _format_metric("acc1", 0.5123), _format_metric("text_retrieval_median_rank", 6.0), _format_metric("acc5", None)
    ('51.23', '6', '-')
    """
    if value is None:
        return "-"
    return f"{value:g}" if metric.endswith("_rank") else f"{100 * value:.2f}"
