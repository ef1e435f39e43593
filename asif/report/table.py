"""The tables of a comparison: every method at the largest number of pairs, and every number of pairs by method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asif.evaluate.comparison.format import amount
from asif.evaluate.comparison.statistics import Results, Standing, cost, judged, mean_of, runs_of, standing

FURTHER = {
    "zeroshot_retrieval": {"text_retrieval_recall@1": "image→text", "image_retrieval_recall@1": "text→image"},
    "zeroshot_classification": {"acc5": "acc5", "mean_per_class_recall": "per class"},
}


@dataclass(frozen=True)
class Table:
    """Hold cells of text under a header."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(results: Results) -> list[Table]:
    """Return two tables for each data set: the largest number of pairs, and the primary figure by number of pairs.

    Figures are in per cent, means over seeds, corrected for hubness where a method has such a result; `-` where there
    is none.
    """
    return [make(results, dataset) for dataset in results["datasets"] for make in (at_largest, by_count)]


def at_largest(results: Results, dataset: Results) -> Table:
    """Compare all methods at the largest number of pairs, the best first."""
    pairs, further = max(results["counts"]), FURTHER[dataset["task"]]
    header = (
        "method",
        "",
        dataset["primary"],
        "uncorrected",
        *further.values(),
        "fit s",
        "tuning s",
        "MiB",
        "delete s",
    )
    rows = []
    for method in ranked(results, dataset, pairs):
        name, costs = method["name"], cost(results, method["name"], pairs)
        rows.append(
            (
                name,
                method["kind"],
                spread(standing(results, dataset, name, pairs)),
                percent(mean(standing(results, dataset, name, pairs, corrected=False))),
                *(percent(figure(results, dataset, name, pairs, metric)) for metric in further),
                *map(amount, (costs.fit_seconds, costs.tuning_seconds, costs.peak_mib, costs.deletion_seconds)),
            )
        )
    return Table(f"{dataset['name']}, {pairs:,} pairs", header, rows)


def by_count(results: Results, dataset: Results) -> Table:
    """Show the primary figure of all methods at all numbers of pairs, the best at the largest first."""
    counts = sorted(results["counts"])
    rows = [
        (method["name"], *(percent(mean(standing(results, dataset, method["name"], pairs))) for pairs in counts))
        for method in ranked(results, dataset, counts[-1])
    ]
    title = f"{dataset['name']}, {dataset['primary']} by number of pairs"
    return Table(title, ("method", *(f"{pairs:,}" for pairs in counts)), rows)


def every_run(results: Results, dataset: Results) -> Table:
    """List every run's figures on a data set, with and without correction."""
    metrics = list(dict.fromkeys(
        name for run in results["runs"] for found in run["results"] if found["dataset"] == dataset["name"]
        for name in found["metrics"]
    ))  # fmt: skip
    metrics.sort(key=lambda name: name != dataset["primary"])
    rows = [
        (run["method"], f"{run['pairs']:,}", str(run["seed"]), found["hubness"],
         *(written(name, found["metrics"].get(name)) for name in metrics),
         amount(run["fit_seconds"]), run["setting"])
        for run in results["runs"] for found in run["results"] if found["dataset"] == dataset["name"]
    ]  # fmt: skip
    return Table(
        f"Every run on {dataset['name']}",
        ("method", "pairs", "seed", "hubness", *metrics, "fit s", "setting"),
        rows,
    )


def ranked(results: Results, dataset: Results, pairs: int) -> list[Results]:
    """Sort the methods by their primary figure from one number of pairs, those without one last."""

    def place(method: Results) -> float:
        found = mean(standing(results, dataset, method["name"], pairs))
        return 1.0 if found is None else -found

    return sorted(results["methods"], key=place)


def figure(results: Results, dataset: Results, method: str, pairs: int, metric: str) -> float | None:
    """Return a method's mean of any metric over seeds."""
    found = (judged(run, dataset["name"]) for run in runs_of(results, method, pairs))
    return mean_of(result["metrics"].get(metric) for result in found if result is not None)


def mean(found: Standing | None) -> float | None:
    """Return the mean over seeds, where there is one."""
    return None if found is None else found.mean


def percent(share: float | None) -> str:
    """Write a share in per cent.

    >>> percent(0.3482), percent(None)
    ('34.8', '-')
    """
    return "-" if share is None else f"{100 * share:.1f}"


def spread(found: Standing | None) -> str:
    """Write the mean, and half the range over seeds where they differ.

    >>> spread(Standing("cca", {0: 0.25, 1: 0.27})), spread(Standing("cca", {0: 0.25})), spread(None)
    ('26.0 ± 1.0', '25.0', '-')
    """
    if found is None or found.low == found.high:
        return percent(mean(found))
    return f"{percent(found.mean)} ± {50 * (found.high - found.low):.1f}"


def written(metric: str, value: float | None) -> str:
    """Write a metric: ranks as they are, shares in per cent with two places.

    >>> written("acc1", 0.5123), written("text_retrieval_median_rank", 6.0), written("acc5", None)
    ('51.23', '6', '-')
    """
    if value is None:
        return "-"
    return f"{value:g}" if metric.endswith("_rank") else f"{100 * value:.2f}"
