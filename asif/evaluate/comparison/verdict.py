"""The verdict of a comparison, in plain words: is training a projector worth it on these pairs?"""

from __future__ import annotations

from dataclasses import dataclass

from asif.evaluate.comparison.format import (
    format_amount,
    format_difference,
    format_points,
    format_ratio,
    format_standing,
    format_standing_range,
)
from asif.evaluate.comparison.result import ComparedDataset, Comparison
from asif.evaluate.comparison.statistics import HeadToHead, MethodCost, collect_cost, match_camps

BENCHMARK_TITLES = {"zeroshot_retrieval": "search", "zeroshot_classification": "zero-shot classes"}


@dataclass(frozen=True)
class DatasetVerdict:
    """Hold the verdict on one data set: `matches` by number of pairs, lines of plain text, and one sentence.

    `pays_at` are the numbers of pairs at which a trained method is ahead by more than two errors, `pays_from` the
    smallest from which on it always is, None if there is none.
    """

    dataset: str
    matches: tuple[HeadToHead, ...]
    pays_at: tuple[int, ...]
    pays_from: int | None
    lines: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """Hold the verdicts on all data sets."""

    datasets: tuple[DatasetVerdict, ...]

    @property
    def lines(self) -> list[str]:
        """Return plain text: each data set's lines, then one sentence for each data set."""
        lines = [line for verdict in self.datasets for line in (*verdict.lines, "")]
        return [*lines, *(verdict.sentence for verdict in self.datasets)]


def judge_comparison(comparison: Comparison) -> Verdict:
    """Judge a comparison: which camp is ahead at which number of pairs, by how much, and at what cost.

    Methods are compared with hubness correction, if they have such a result. A difference counts if it is more than
    two errors: the standard deviation of the seeds' differences and, if wins were counted, McNemar's standard error
    over the queries of the test, added as squares.
    """
    return Verdict(tuple(_judge_dataset(comparison, dataset) for dataset in comparison.datasets))


def _judge_dataset(comparison: Comparison, dataset: ComparedDataset) -> DatasetVerdict:
    """Judge one data set."""
    every = (match_camps(comparison, dataset, pairs) for pairs in sorted(comparison.counts))
    matches = [match for match in every if match.free or match.trained]
    pays_at = tuple(match.pairs for match in matches if match.ahead == "trained")
    first = _find_last_run([match.ahead == "trained" for match in matches])
    name = f"{comparison.title_of(dataset)} ({BENCHMARK_TITLES[dataset.task]})"
    if not matches:
        return DatasetVerdict(dataset.name, (), (), None, (f"{name}: no figures",), f"{name}: no figures")
    pays_from = None if first is None else matches[first].pairs
    last = matches[-1]
    lines = [
        f"{name}, {dataset.primary} in %, corrected for hubness if a method has such a result:",
        *(f"  {_describe_match(match)}" for match in matches),
        *_describe_uncorrected(comparison, dataset, last.pairs),
    ]
    if any(match.differences for match in matches):
        lines.append(f"  training, as tested, pays: {_describe_where(pays_at, pays_from, last.pairs)}")
    both = last.trained, last.free
    trained, free = (collect_cost(comparison, dataset, each.method, last.pairs) if each else None for each in both)
    lines += [f"  {line}" for line in _describe_costs(last, trained, free)]
    readers = dict.fromkeys(run.method for run in comparison.runs if run.reads_words and run.pairs == last.pairs)
    if readers:
        lines.append(f"  the words of captions are read by: {', '.join(readers)}")
    if dataset.among_anchors:
        images = dataset.description.counts["images"]
        lines.append(f"  {dataset.among_anchors:,} of {images:,} test images are anchors too")
    tested = _describe_tested(comparison, dataset, last.pairs)
    judgement, price = _describe_judgement(matches, pays_at, pays_from, tested), _describe_price(trained, free)
    return DatasetVerdict(dataset.name, tuple(matches), pays_at, pays_from, tuple(lines), f"{name}: {judgement}{price}")


def _describe_match(match: HeadToHead) -> str:
    """Write the figures of both camps at one number of pairs, and which is ahead."""
    camps = [("training-free", match.free), ("trained", match.trained)]
    figures = ", ".join(f"{camp} {format_standing_range(each)}" for camp, each in camps if each is not None)
    if match.difference is None:
        return f"{match.pairs:,} pairs: {figures}"
    if match.error is None:
        return f"{match.pairs:,} pairs: {figures}; {format_points(match.difference)} points, error not known"
    ahead = f"{match.ahead} is ahead" if match.ahead else "no difference beyond the error"
    return f"{match.pairs:,} pairs: {figures}; {format_difference(match)} points: {ahead}"


def _describe_uncorrected(comparison: Comparison, dataset: ComparedDataset, pairs: int) -> list[str]:
    """Write the best method of either camp without hubness correction."""
    plain = match_camps(comparison, dataset, pairs, corrected=False)
    if plain.free is None or plain.trained is None:
        return []
    free, trained = format_standing(plain.free), format_standing(plain.trained)
    return [f"  without correction at {pairs:,} pairs: training-free {free}, trained {trained}"]


def _describe_where(pays_at: tuple[int, ...], pays_from: int | None, most: int) -> str:
    """Write at which numbers of pairs training pays; `most` is the largest one compared.

    >>> _describe_where((), None, 3000), _describe_where((300, 3000), 300, 3000), _describe_where((3000,), 3000, 3000)
    ('at none of these numbers', 'from 300 pairs on', 'at 3,000 pairs, the most tried')
    >>> _describe_where((50, 1000), None, 3000), _describe_where((50, 1000, 3000), 1000, 3000)
    ('at 50, 1,000 pairs only', 'at 50 pairs, and from 1,000 pairs on')
    """
    if not pays_at:
        return "at none of these numbers"
    before = ", ".join(f"{pairs:,}" for pairs in pays_at if pays_from is None or pairs < pays_from)
    if pays_from is None:
        return f"at {before} pairs only"
    after = f"at {most:,} pairs, the most tried" if pays_from == most else f"from {pays_from:,} pairs on"
    return f"at {before} pairs, and {after}" if before else after


def _describe_tested(comparison: Comparison, dataset: ComparedDataset, pairs: int) -> str:
    """Write what was tried of each trained method at one number of pairs."""
    parts = []
    for method in comparison.methods:
        cost = collect_cost(comparison, dataset, method.name, pairs)
        if method.kind == "trained" and cost.fit_seconds is not None:
            settings = "1 setting" if cost.settings in (None, 1) else f"{format_amount(cost.settings)} settings"
            short = cost.schedule_share is not None and cost.schedule_share < 1
            cut = f" of {100 * (cost.schedule_share or 0):.0f} % of the steps" if short else ""
            parts.append(f"{method.name} {settings}{cut}")
    return ", ".join(parts)


def _describe_judgement(matches: list[HeadToHead], pays_at: tuple[int, ...], pays_from: int | None, tested: str) -> str:
    """Write in one clause whether the trainings that were tested are worth it."""
    last = matches[-1]
    if last.free is None or last.trained is None:
        only, other = (last.free, "trained") if last.free else (last.trained, "training-free")
        assert only is not None
        return f"nothing {other} to compare with; at {last.pairs:,} pairs {format_standing(only)}"
    both = f"{format_standing(last.free)}, best trained {format_standing(last.trained)}"
    if last.difference is None:
        return f"no seed has both sides at {last.pairs:,} pairs: {both}"
    if pays_at:
        gain = f"{format_points(last.difference)} points" if last.error is None else f"{format_difference(last)} points"
        return f"training pays {_describe_where(pays_at, pays_from, last.pairs)}; at {last.pairs:,}: {both}, {gain}"
    if last.difference <= 0 or last.error is not None:
        within = f", {format_difference(last)} points, within the error" if last.difference > 0 else ""
        return f"no training that was tested ({tested}) is better at up to {last.pairs:,} pairs: {both}{within}"
    return f"trained is ahead at {last.pairs:,} pairs, the error is not known: {both}"


def _describe_costs(last: HeadToHead, trained: MethodCost | None, free: MethodCost | None) -> list[str]:
    """Write the costs of either camp at the largest number of pairs."""
    both = [(each.method, costs) for each, costs in ((last.trained, trained), (last.free, free)) if each and costs]

    def row(what: str, key: str, unit: str) -> str:
        values = [getattr(costs, key) for _, costs in both]
        said = ", ".join(f"{name} {format_amount(value)} {unit}" for (name, _), value in zip(both, values, strict=True))
        ratio = format_ratio(*values) if len(values) == 2 else None
        return f"{what}: {said}" + (f" ({ratio} times)" if ratio else "")

    deletion = row("one pair deleted", "deletion_seconds", "s")
    return [
        row(f"fit at {last.pairs:,} pairs", "fit_seconds", "s"),
        row("tuning and fit", "all_seconds", "s"),
        "settings tried: " + ", ".join(_describe_settings(name, costs) for name, costs in both),
        row("peak memory", "peak_mib", "MiB"),
        "; ".join([deletion, *(f"{name}: {costs.deletion}" for name, costs in both if costs.deletion)]),
    ]


def _describe_settings(name: str, costs: MethodCost) -> str:
    """Write how many settings of a method were tried, on how many held-out queries, and for how long beyond the limit.

    >>> from asif.evaluate.comparison.statistics import MethodCost
    >>> _describe_settings("ape", MethodCost(1, 1, 2, 4, 120, 0.2, None, None, "", None))
    'ape 4 on 120 held-out queries, 0.2 s over the time'
    """
    over = f", {format_amount(costs.over_seconds)} s over the time" if costs.over_seconds else ""
    queries = f" on {format_amount(costs.questions)} held-out queries" if costs.questions is not None else ""
    return f"{name} {format_amount(costs.settings)}{queries}{over}"


def _describe_price(trained: MethodCost | None, free: MethodCost | None) -> str:
    """Write the cost of training relative to not training, as the end of a sentence."""
    if trained is None or free is None:
        return ""
    fit = format_ratio(trained.fit_seconds, free.fit_seconds)
    every = format_ratio(trained.all_seconds, free.all_seconds)
    costs = f"; it costs {fit} times the seconds to fit, {every} times with tuning, and" if fit and every else ";"
    return f"{costs} every deletion is a retraining"


def _find_last_run(flags: list[bool]) -> int | None:
    """Return the start of the run of True that reaches the end, None if there is none.

    >>> _find_last_run([True, False, True, True]), _find_last_run([True, False])
    (2, None)
    """
    start = len(flags)
    while start and flags[start - 1]:
        start -= 1
    return start if start < len(flags) else None
