"""Statistics of a comparison: figures by seed, costs, and the best methods of either camp."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import fmean, stdev
from typing import Literal

from asif.evaluate.comparison.method_run import MethodRun
from asif.evaluate.comparison.result import ComparedDataset, Comparison

Camp = Literal["training-free", "trained"]
ERRORS_APART = 2  # standard errors that a difference must exceed to count


@dataclass(frozen=True)
class Standing:
    """Hold a method's primary figure at one number of pairs, a share of 1, by seed."""

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
class HeadToHead:
    """Hold the best training-free method and the best trained one at one number of pairs; None if there is none.

    `sampling` is the standard error of their difference over the queries of the test, None if wins were not
    counted; `all_pairs` is true if every seed had the same pairs, so that seeds do not vary the pairs.
    """

    pairs: int
    free: Standing | None
    trained: Standing | None
    sampling: float | None
    all_pairs: bool

    @property
    def differences(self) -> list[float]:
        """Return trained minus training-free, for each seed that has both."""
        if self.free is None or self.trained is None:
            return []
        free, trained = self.free.figures, self.trained.figures
        return [trained[seed] - free[seed] for seed in trained if seed in free]

    @property
    def difference(self) -> float | None:
        return fmean(self.differences) if self.differences else None

    @property
    def error(self) -> float | None:
        """Return the standard deviation over seeds and the sampling error, combined; None if neither is known."""
        spread = stdev(self.differences) if len(self.differences) > 1 else None
        if self.sampling is None:
            return None if self.all_pairs else spread
        return hypot(spread or 0.0, self.sampling)

    @property
    def ahead(self) -> Camp | None:
        """Return the camp that is ahead by more than two errors; None if there is none or the error is not known."""
        if self.difference is None or self.error is None or abs(self.difference) <= ERRORS_APART * self.error:
            return None
        return "trained" if self.difference > 0 else "training-free"


@dataclass(frozen=True)
class MethodCost:
    """Hold a method's costs for one data set at one number of pairs, means over seeds; None if not measured.

    `all_seconds` are those it took to get the figure: tuning, and the fit to all pairs. `settings` is how many were
    tried, `questions` the number of held-out queries that chose among them, `over_seconds` the longest overrun of the
    time for tuning, `schedule_share` the share of a training's steps for which there was time.
    """

    fit_seconds: float | None
    tuning_seconds: float | None
    all_seconds: float | None
    settings: float | None
    questions: float | None
    over_seconds: float | None
    peak_mib: float | None
    deletion_seconds: float | None
    deletion: str
    schedule_share: float | None


def collect_standing(
    comparison: Comparison, dataset: ComparedDataset, method: str, pairs: int, corrected: bool = True
) -> Standing | None:
    """Collect a method's primary figure over seeds; None if no seed has one."""
    figures: dict[int, float] = {}
    for run in comparison.runs_of(method, pairs):
        result = run.result_on(dataset.name, corrected)
        if result is not None and (figure := result.metrics.get(dataset.primary)) is not None:
            figures[run.seed] = figure
    return Standing(method, figures) if figures else None


def match_camps(comparison: Comparison, dataset: ComparedDataset, pairs: int, corrected: bool = True) -> HeadToHead:
    """Find the best method of either camp; a published method belongs to the training-free ones."""
    free = _best_standing(comparison, dataset, _methods_of_camp(comparison, "training-free"), pairs, corrected)
    trained = _best_standing(comparison, dataset, _methods_of_camp(comparison, "trained"), pairs, corrected)
    sampling = None
    if free is not None and trained is not None:
        sampling = compute_sampling_error(comparison, dataset.name, pairs, {free.method, trained.method})
    return HeadToHead(pairs, free, trained, sampling, pairs >= comparison.origin.anchors.count)


def _best_standing(
    comparison: Comparison, dataset: ComparedDataset, methods: Iterable[str], pairs: int, corrected: bool
) -> Standing | None:
    """Return the method with the highest mean over seeds, of equal ones the first."""
    standings = (collect_standing(comparison, dataset, method, pairs, corrected) for method in methods)
    return max((each for each in standings if each is not None), key=lambda each: each.mean, default=None)


def _methods_of_camp(comparison: Comparison, camp: Camp) -> list[str]:
    """Name the methods of a camp, in the order of the comparison."""
    trained = camp == "trained"
    return [method.name for method in comparison.methods if (method.kind == "trained") == trained]


def compute_sampling_error(comparison: Comparison, dataset: str, pairs: int, methods: set[str]) -> float | None:
    """Return the standard error of two methods' difference over the test, as in McNemar's test: sqrt(b + c) / n.

    b and c count the queries that only one of the two answers rightly, n all queries; a mean if several seeds
    were counted, None if none was.
    """
    counted = [
        win.counts
        for win in comparison.wins
        if (win.dataset, win.pairs) == (dataset, pairs) and {win.first.method, win.second.method} == methods
    ]
    errors = [sqrt(each.first_only + each.second_only) / each.total for each in counted if each.total]
    return fmean(errors) if errors else None


def collect_cost(comparison: Comparison, dataset: ComparedDataset, method: str, pairs: int) -> MethodCost:
    """Collect a method's costs at one number of pairs, of the runs that have a figure on a data set."""
    runs = [run for run in comparison.runs_of(method, pairs) if run.result_on(dataset.name) is not None]
    deletions = [run.deletion for run in runs if run.deletion]
    return MethodCost(
        fit_seconds=mean_of_known(run.fit_seconds for run in runs),
        tuning_seconds=mean_of_known(run.tuning.seconds for run in runs if run.tuning),
        all_seconds=mean_of_known(_add_seconds(run) for run in runs),
        settings=mean_of_known(float(run.tuning.trials) for run in runs if run.tuning),
        questions=mean_of_known(run.tuning.questions for run in runs if run.tuning),
        over_seconds=max((run.tuning.over_seconds for run in runs if run.tuning), default=None),
        peak_mib=mean_of_known(run.peak_mib for run in runs),
        deletion_seconds=mean_of_known(deletion.seconds for deletion in deletions),
        deletion=next((deletion.how for deletion in deletions if deletion.how), ""),
        schedule_share=mean_of_known(
            run.training.schedule / run.training.whole_schedule for run in runs if run.training
        ),
    )


def _add_seconds(run: MethodRun) -> float | None:
    """Return the seconds of tuning and fit; None if the fit was not measured."""
    if run.tuning is None or run.fit_seconds is None:
        return run.fit_seconds
    return run.tuning.seconds + run.fit_seconds


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known.

    >>> mean_of_known([1.0, None, 2.0]), mean_of_known([None])
    (1.5, None)
    """
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
