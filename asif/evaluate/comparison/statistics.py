"""Who came to what in a comparison: figures by seed, costs, and the best of either side on equal terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import fmean, stdev
from typing import Any, Literal

Results = dict[str, Any]
"""What `asif compare` writes as results.json."""

Side = Literal["training-free", "trained"]
ERRORS = 2  # a difference of more standard errors than these is taken for one


@dataclass(frozen=True)
class Standing:
    """Hold what a method came to from one number of pairs: its primary figure, a share of 1, by seed."""

    method: str
    figures: dict[int, float]

    @property
    def mean(self) -> float:
        return fmean(self.figures.values())

    @property
    def low(self) -> float:
        return min(self.figures.values())

    @property
    def high(self) -> float:
        return max(self.figures.values())


@dataclass(frozen=True)
class Rivals:
    """Hold the best training-free method and the best trained one from one number of pairs; None where there is none.

    `sampling` is the standard error of their difference over the queries of the test, None where wins were not
    counted; `all_pairs` tells that every seed had the same pairs, so that seeds say nothing of other pairs.
    """

    pairs: int
    free: Standing | None
    trained: Standing | None
    sampling: float | None
    all_pairs: bool

    @property
    def differences(self) -> list[float]:
        """Return trained less training-free, for each seed that has both."""
        if self.free is None or self.trained is None:
            return []
        ours, theirs = self.free.figures, self.trained.figures
        return [theirs[seed] - ours[seed] for seed in theirs if seed in ours]

    @property
    def difference(self) -> float | None:
        return fmean(self.differences) if self.differences else None

    @property
    def error(self) -> float | None:
        """Return the standard deviation over seeds and the sampling error, as one; None where neither says enough."""
        spread = stdev(self.differences) if len(self.differences) > 1 else None
        if self.sampling is None:
            return None if self.all_pairs else spread
        return hypot(spread or 0.0, self.sampling)

    @property
    def ahead(self) -> Side | None:
        """Return who is ahead by more than two errors; None where nobody is, or where the error is not known."""
        if self.difference is None or self.error is None or abs(self.difference) <= ERRORS * self.error:
            return None
        return "trained" if self.difference > 0 else "training-free"


@dataclass(frozen=True)
class Cost:
    """Hold what a method cost from one number of pairs, means over seeds; None where it was not measured."""

    fit_seconds: float | None
    tuning_seconds: float | None
    peak_mib: float | None
    deletion_seconds: float | None
    deletion: str


def judged(run: Results, dataset: str, corrected: bool = True) -> Results | None:
    """Return the result by which a run is judged on a data set: the corrected one, where there is one.

    With `corrected` false the one without correction, or None.

    >>> both = [{"dataset": "d", "hubness": "none"}, {"dataset": "d", "hubness": "nnn k=32 alpha=0.5"}]
    >>> [judged({"results": both}, "d", corrected)["hubness"] for corrected in (True, False)]
    ['nnn k=32 alpha=0.5', 'none']
    """
    found = {result["hubness"] != "none": result for result in run["results"] if result["dataset"] == dataset}
    return found.get(True, found.get(False)) if corrected else found.get(False)


def standing(results: Results, dataset: Results, method: str, pairs: int, corrected: bool = True) -> Standing | None:
    """Collect a method's primary figure over seeds; None where no seed has one."""
    figures: dict[int, float] = {}
    for run in runs_of(results, method, pairs):
        result = judged(run, dataset["name"], corrected)
        if result is not None and (figure := result["metrics"].get(dataset["primary"])) is not None:
            figures[run["seed"]] = figure
    return Standing(method, figures) if figures else None


def best(
    results: Results, dataset: Results, methods: Iterable[str], pairs: int, corrected: bool = True
) -> Standing | None:
    """Return the method with the highest mean over seeds, of equal ones the first."""
    found = (standing(results, dataset, method, pairs, corrected) for method in methods)
    return max((each for each in found if each is not None), key=lambda each: each.mean, default=None)


def rivals(results: Results, dataset: Results, pairs: int, corrected: bool = True) -> Rivals:
    """Find who stands for either side; a published method stands with the training-free ones."""
    free = best(results, dataset, of_side(results, "training-free"), pairs, corrected)
    trained = best(results, dataset, of_side(results, "trained"), pairs, corrected)
    sampling = None
    if free is not None and trained is not None:
        sampling = sampling_error(results, dataset["name"], pairs, {free.method, trained.method})
    return Rivals(pairs, free, trained, sampling, pairs >= results["anchors"]["count"])


def of_side(results: Results, side: Side) -> list[str]:
    """Name the methods of a side, in the order of the results."""
    trained = side == "trained"
    return [method["name"] for method in results["methods"] if (method["kind"] == "trained") == trained]


def sampling_error(results: Results, dataset: str, pairs: int, methods: set[str]) -> float | None:
    """Return the standard error of two methods' difference over the test, as in McNemar's test: sqrt(b + c) / n.

    b and c count the queries that only one of the two answers rightly, n all queries; a mean where several seeds
    were counted, None where none was.
    """
    counted = [
        win["counts"]
        for win in results["wins"]
        if (win["dataset"], win["pairs"]) == (dataset, pairs)
        and {win["first"]["method"], win["second"]["method"]} == methods
    ]
    errors = [sqrt(each["first_only"] + each["second_only"]) / total for each in counted if (total := queries(each))]
    return fmean(errors) if errors else None


def queries(counts: dict[str, int]) -> int:
    """Count the queries of a record of wins."""
    return counts["both"] + counts["first_only"] + counts["second_only"] + counts["neither"]


def cost(results: Results, method: str, pairs: int) -> Cost:
    """Collect what a method cost from one number of pairs."""
    runs = runs_of(results, method, pairs)
    deletions = [run["deletion"] for run in runs if run.get("deletion")]
    return Cost(
        fit_seconds=mean_of(run["fit_seconds"] for run in runs),
        tuning_seconds=mean_of(run["tuning"]["seconds"] for run in runs if run.get("tuning")),
        peak_mib=mean_of(run["peak_mib"] for run in runs),
        deletion_seconds=mean_of(deletion["seconds"] for deletion in deletions),
        deletion=next((deletion["how"] for deletion in deletions if deletion["how"]), ""),
    )


def runs_of(results: Results, method: str, pairs: int) -> list[Results]:
    """Return a method's runs from one number of pairs, one for each seed."""
    return [run for run in results["runs"] if (run["method"], run["pairs"]) == (method, pairs)]


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of what there is.

    >>> mean_of([1.0, None, 2.0]), mean_of([None])
    (1.5, None)
    """
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
