"""A comparison as one HTML page: the verdict, plots, tables, what each method wins, costs, and how it was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from asif.evaluate.comparison.format import format_amount, format_difference, format_points, format_standing_range
from asif.evaluate.comparison.result import ComparedDataset, Comparison
from asif.evaluate.comparison.statistics import HeadToHead, collect_cost
from asif.evaluate.comparison.verdict import BENCHMARK_TITLES, judge_comparison
from asif.report import plots
from asif.report.html import render
from asif.report.table import Table, build_count_table, build_largest_table, build_run_table, sort_methods
from asif.report.wins import WinsSection, build_wins_section

_PLOT_KEY = (
    "Every method is corrected for hubness if it has such a result. In the plots solid and blue is training-free, "
    "dashed and warm is trained, dotted and grey is as published."
)
_BY_PAIRS = "Against the number of pairs."
_BY_SECONDS = "Against the seconds of one fit: large at the largest number of pairs, small at the others."
_MATCH_HEADER = ("pairs", "best training-free", "best trained", "trained less training-free", "ahead")
_COST_HEADER = (
    "method",
    "trained parameters",
    "settings tried",
    "fit s",
    "fit and tuning s",
    "peak MiB",
    "one deletion s",
    "deletion",
)


@dataclass(frozen=True)
class DatasetSection:
    """Hold what the page shows of one data set; `plots` are an SVG, another one for narrow screens, and a caption."""

    title: str
    about: str
    plots: tuple[tuple[str, str, str], ...]
    largest: Table
    by_count: Table
    matches: Table
    wins: WinsSection | None


def render_comparison_page(comparison: Comparison) -> str:
    """Render a comparison as a page that needs nothing else: no script, picture, font or style from outside.

    Raises MissingDependency without matplotlib.
    """
    verdict = judge_comparison(comparison)
    light, dark = plots.list_colour_variables()
    return render(
        "comparison.html.jinja",
        title=f"Is training a projector worth it? {comparison.origin.anchors.name}",
        light=light,
        dark=dark,
        about=_describe_comparison(comparison),
        verdicts=verdict.datasets,
        datasets=[
            _build_dataset_section(comparison, dataset, each.matches)
            for dataset, each in zip(comparison.datasets, verdict.datasets, strict=True)
        ],
        pairs=f"{max(comparison.counts):,}",
        costs=[_build_cost_table(comparison, dataset) for dataset in comparison.datasets],
        machine=comparison.machine,
        protocol=_list_protocol(comparison),
        methods={method.name: f"{method.kind}: {method.about}" for method in comparison.methods},
        published=_build_published_table(comparison),
        limits=_list_limits(comparison),
        runs=[build_run_table(comparison, dataset) for dataset in comparison.datasets],
    )


def _describe_comparison(comparison: Comparison) -> str:
    """Write the size of a comparison in one line."""
    size = f"{len(comparison.methods)} methods on up to {max(comparison.counts):,} pairs"
    seeds = ", ".join(map(str, comparison.seeds))
    return f"{size} of {comparison.origin.anchors.name}, seeds {seeds}, {comparison.created[:10]}"


def _build_dataset_section(
    comparison: Comparison, dataset: ComparedDataset, matches: Sequence[HeadToHead]
) -> DatasetSection:
    """Prepare one data set's plots and tables, and what either camp wins."""
    counts = dataset.description.counts
    counted = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items())
    seeds = len(comparison.seeds)
    bands = f" Bands: the lowest and highest of {seeds} seeds." if seeds > 1 else ""
    drawn = [(plots.plot_by_seconds, _BY_SECONDS)]
    if len(comparison.counts) > 1:
        drawn.insert(0, (plots.plot_by_pairs, _BY_PAIRS + bands))
    wins = [win for win in comparison.wins if win.dataset == dataset.name]
    largest = min(wins, key=lambda win: (-win.pairs, win.seed), default=None)
    return DatasetSection(
        title=f"{comparison.title_of(dataset)}: {BENCHMARK_TITLES[dataset.task]}",
        about=f"{counted}. Figures are {dataset.primary} in %. {_PLOT_KEY}",
        plots=tuple(
            (draw(comparison, dataset), draw(comparison, dataset, plots.NARROW), caption) for draw, caption in drawn
        ),
        largest=build_largest_table(comparison, dataset),
        by_count=build_count_table(comparison, dataset),
        matches=Table("", _MATCH_HEADER, [_format_match(match) for match in matches]),
        wins=None if largest is None else build_wins_section(largest),
    )


def _format_match(match: HeadToHead) -> tuple[str, ...]:
    """Write the best methods of both camps at one number of pairs, and which camp is ahead."""
    camps = (format_standing_range(each) if each else "-" for each in (match.free, match.trained))
    if match.difference is None:
        return (f"{match.pairs:,}", *camps, "-", "-")
    if match.error is None:
        return (f"{match.pairs:,}", *camps, format_points(match.difference), "error not known")
    return (f"{match.pairs:,}", *camps, format_difference(match), match.ahead or "neither")


def _build_cost_table(comparison: Comparison, dataset: ComparedDataset) -> Table:
    """List every method's costs for a data set at the largest number of pairs."""
    pairs, rows = max(comparison.counts), []
    for method in sort_methods(comparison, dataset, pairs):
        cost = collect_cost(comparison, dataset, method.name, pairs)
        parameters = next((run.trained_parameters for run in comparison.runs_of(method.name, pairs)), None)
        seconds = cost.fit_seconds, cost.all_seconds
        amounts = (parameters, cost.settings, *seconds, cost.peak_mib, cost.deletion_seconds)
        rows.append((method.name, *map(format_amount, amounts), cost.deletion))
    return Table(f"{comparison.title_of(dataset)}: {BENCHMARK_TITLES[dataset.task]}", _COST_HEADER, rows)


def _list_protocol(comparison: Comparison) -> dict[str, str]:
    """List how the comparison was done, with what is needed to repeat it."""
    origin, anchors, budget = comparison.origin, comparison.origin.anchors, comparison.budget
    protocol = {
        "anchors": f"{origin.ref}, {anchors.count:,} pairs, {anchors.digest}",
        "image encoder": f"{origin.image.spec}, {origin.image.fingerprint}",
        "text encoder": f"{origin.text.spec}, {origin.text.fingerprint}",
        "pairs": ", ".join(f"{pairs:,}" for pairs in comparison.counts),
        "seeds": ", ".join(map(str, comparison.seeds)),
        "tuning": f"{budget.what}; {budget.tuning_seconds:g} s for each method",
        "command": comparison.command or "",
        "versions": ", ".join(f"{name} {number}" for name, number in comparison.versions.items()),
        "asif": comparison.asif,
        "made": comparison.created,
    }
    for dataset in comparison.datasets:
        templates = dataset.description.templates
        prompts = [f"templates: {' | '.join(templates)}"] if templates else []
        data = ", ".join(f"{key} {value}" for key, value in asdict(dataset.description.data).items())
        protocol[f"test {dataset.name}"] = "; ".join((dataset.task, data, *prompts))
    return protocol


def _build_published_table(comparison: Comparison) -> Table | None:
    """List published figures, if there are any."""
    if not comparison.expected:
        return None
    rows = [(each.what, str(each.figure), each.source) for each in comparison.expected]
    return Table("", ("what", "figure", "source"), rows)


def _list_limits(comparison: Comparison) -> list[str]:
    """List what the figures do not show."""
    count = comparison.origin.anchors.count
    limits = [
        "The best of either side is the best on the test itself, so the side with more methods gains a little by it.",
        "The sampling error takes queries as independent; several captions of one image are not quite.",
        f"At all {count:,} pairs the seeds share the pairs: their spread is that of training.",
        "Seconds and memory are those of this machine.",
    ]
    hurried = dict.fromkeys(run.method for run in comparison.runs if run.tuning and not run.tuning.complete)
    if hurried:
        limits.append(f"Time for tuning ran out before all was tried: {', '.join(hurried)}.")
    readers = dict.fromkeys(run.method for run in comparison.runs if run.reads_words)
    if readers:
        limits.append(f"The words of captions are read by {', '.join(readers)}; the others see sentence vectors alone.")
    over = _find_overruns(comparison)
    if over:
        spent = ", ".join(f"{method} {format_amount(seconds)} s" for method, seconds in over.items())
        limits.append(f"Tuning took longer than allowed: {spent}.")
    limits += [
        f"{comparison.title_of(dataset)}: {dataset.among_anchors:,} of {dataset.description.counts['images']:,} "
        "test images are anchors too."
        for dataset in comparison.datasets
        if dataset.among_anchors
    ]
    return limits


def _find_overruns(comparison: Comparison) -> dict[str, float]:
    """Find the methods whose tuning took longer than allowed, with the seconds of their longest overrun."""
    over: dict[str, float] = {}
    for run in comparison.runs:
        if run.tuning is not None and run.tuning.over_seconds:
            over[run.method] = max(over.get(run.method, 0.0), run.tuning.over_seconds)
    return over
