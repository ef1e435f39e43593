"""A comparison as one HTML page: the verdict, plots, tables, what each wins, costs, and how it was done."""

from __future__ import annotations

from html import escape

from asif.evaluate.comparison.format import amount, difference, ranged, signed
from asif.evaluate.comparison.statistics import Results, Rivals, cost, runs_of
from asif.evaluate.comparison.verdict import TASKS, DatasetVerdict, verdict
from asif.report import plots
from asif.report.html import document, facts, figure, folded, paragraph, points, table
from asif.report.table import Table, at_largest, by_count, every_run, ranked
from asif.report.wins import won

KEY = (
    "Every method is corrected for hubness where it has such a result. In the plots solid and blue is training-free, "
    "dashed and warm is trained, dotted and grey is as published."
)
BY_PAIRS = "Against the number of pairs."
BY_SECONDS = "Against the seconds of one fit: large at the largest number of pairs, small at the others."
SIDE_BY_SIDE = ("pairs", "best training-free", "best trained", "trained less training-free", "ahead")
TWO_ERRORS = (
    "± is two errors: the spread over seeds and, where wins were counted, the sampling error of the test; by less than "
    "that nobody is ahead."
)


def html_page(results: Results) -> str:
    """Write a comparison as a page that needs nothing else: no script, no picture, font or style from outside.

    Raises MissingDependency without matplotlib.
    """
    judged = verdict(results)
    light, dark = plots.variables()
    colours = f":root{{{light}}}@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}"
    title = f"Is training a projector worth it? {results['anchors']['name']}"
    body = "".join(
        (
            top(results, [(each.sentence, bool(each.pays_at)) for each in judged.datasets]),
            *(on_dataset(results, *each) for each in zip(results["datasets"], judged.datasets, strict=True)),
            costs(results),
            protocol(results),
            expected(results),
            limits(results),
            "<h2>Every run</h2>",
            *(folded(every_run(results, dataset)) for dataset in results["datasets"]),
        )
    )
    return document(title, body, colours)


def top(results: Results, sentences: list[tuple[str, bool]]) -> str:
    """Write what is asked and what is answered."""
    anchors = results["anchors"]
    about = f"{len(results['methods'])} methods on up to {max(results['counts']):,} pairs of {anchors['name']}"
    said = "".join(f'<div class="verdict{" trained" * pays}">{paragraph(text + ".")}</div>' for text, pays in sentences)
    when = f"{about}, seeds {', '.join(map(str, results['seeds']))}, {results['created'][:10]}"
    return f"<h1>Is training a projector worth it on these pairs?</h1>{paragraph(when, 'soft')}{said}"


def on_dataset(results: Results, dataset: Results, found: DatasetVerdict) -> str:
    """Write one data set's plots and tables, and what either side wins."""
    counted = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in dataset["counts"].items())
    seeds = len(results["seeds"])
    bands = f" Bands: the lowest and highest of {seeds} seeds." if seeds > 1 else ""
    parts = [
        f"<h2>{escape(dataset['name'])}: {TASKS[dataset['task']]}</h2>",
        paragraph(f"{counted}. Figures are {dataset['primary']} in %. {KEY}", "soft"),
        figure(plots.by_pairs(results, dataset), BY_PAIRS + bands) if len(results["counts"]) > 1 else "",
        figure(plots.by_seconds(results, dataset), BY_SECONDS),
        f"<h3>All methods at {max(results['counts']):,} pairs</h3>",
        table(at_largest(results, dataset)),
        paragraph("± is half the range over seeds; “uncorrected” is without hubness correction.", "soft"),
        "<h3>By number of pairs</h3>",
        table(by_count(results, dataset)),
        "<h3>The best of either side</h3>",
        table(Table("", SIDE_BY_SIDE, [against(each) for each in found.rivals])),
        paragraph(TWO_ERRORS, "soft"),
    ]
    if win := first_win(results, dataset):
        parts += ["<h3>What either side wins</h3>", won(win)]
    return "".join(parts)


def against(each: Rivals) -> tuple[str, ...]:
    """Write who stands for either side from one number of pairs, and who is ahead."""
    sides = (ranged(side) if side else "-" for side in (each.free, each.trained))
    if each.difference is None:
        return (f"{each.pairs:,}", *sides, "-", "-")
    if each.error is None:
        return (f"{each.pairs:,}", *sides, signed(each.difference), "error not known")
    return (f"{each.pairs:,}", *sides, difference(each), each.ahead or "neither")


def first_win(results: Results, dataset: Results) -> Results | None:
    """Return the record of wins at the most pairs, of the first seed."""
    found = [win for win in results["wins"] if win["dataset"] == dataset["name"]]
    return min(found, key=lambda win: (-win["pairs"], win["seed"]), default=None)


def costs(results: Results) -> str:
    """Write what every method costs at the largest number of pairs."""
    pairs, rows = max(results["counts"]), []
    for method in ranked(results, results["datasets"][0], pairs):
        each = cost(results, method["name"], pairs)
        trained = next((run["trained_parameters"] for run in runs_of(results, method["name"], pairs)), None)
        numbers = (each.fit_seconds, each.tuning_seconds, each.peak_mib, each.deletion_seconds)
        rows.append((method["name"], amount(trained), *map(amount, numbers), each.deletion))
    header = ("method", "trained parameters", "fit s", "tuning s", "peak MiB", "one deletion s", "deletion")
    machine = results["machine"]
    where = f"Means over seeds at {pairs:,} pairs, on {machine['cpu']}, {machine['cores']} cores, {machine['device']}."
    note = "A deletion is what it takes until one pair has no influence any more."
    return f"<h2>Costs, and one pair deleted</h2>{paragraph(f'{where} {note}', 'soft')}{table(Table('', header, rows))}"


def protocol(results: Results) -> str:
    """Write how it was done, with what is needed to do it again."""
    anchors, encoders = results["anchors"], results["encoders"]
    named = {
        "anchors": f"{anchors['name']}@{anchors['version']}, {anchors['count']:,} pairs, {anchors['digest']}",
        **{f"{side} encoder": f"{each['spec']}, {each['fingerprint']}" for side, each in encoders.items()},
        "pairs": ", ".join(f"{pairs:,}" for pairs in results["counts"]),
        "seeds": ", ".join(map(str, results["seeds"])),
        "tuning": f"{results['budget']['what']}; {results['budget']['tuning_seconds']:g} s for each method",
        "command": results.get("command", ""),
        "versions": ", ".join(f"{name} {number}" for name, number in results["versions"].items()),
        "asif": results["asif"],
        "made": results["created"],
    }
    for dataset in results["datasets"]:
        templates = [f"templates: {' | '.join(dataset['templates'])}"] if dataset["templates"] else []
        data = ", ".join(f"{key} {value}" for key, value in dataset["data"].items())
        named[f"test {dataset['name']}"] = "; ".join((dataset["task"], data, *templates))
    methods = {method["name"]: f"{method['kind']}: {method['about']}" for method in results["methods"]}
    return f"<h2>How it was done</h2>{facts(named)}<h3>Methods</h3>{facts(methods)}"


def expected(results: Results) -> str:
    """Write published figures, where some are given."""
    if not results["expected"]:
        return ""
    rows = [(each["what"], str(each["figure"]), each["source"]) for each in results["expected"]]
    return f"<h2>Published figures</h2>{table(Table('', ('what', 'figure', 'source'), rows))}"


def limits(results: Results) -> str:
    """Write what the figures do not say."""
    every = [
        "The best of either side is the best on the test itself, so the side with more methods gains a little by it.",
        "The sampling error takes queries as independent; several captions of one image are not quite.",
        f"At all {results['anchors']['count']:,} pairs the seeds share the pairs: their spread is that of training.",
        "Seconds and memory are those of this machine.",
    ]
    hurried = dict.fromkeys(run["method"] for run in results["runs"] if not (run["tuning"] or {}).get("complete", True))
    if hurried:
        every.append(f"Time for tuning ran out before all settings were tried: {', '.join(hurried)}.")
    every += [
        f"{dataset['name']}: {shared:,} of {dataset['counts']['images']:,} test images are anchors too."
        for dataset in results["datasets"]
        if (shared := dataset["counts"].get("images_among_anchors"))
    ]
    return f"<h2>Limits</h2>{points(every)}"
