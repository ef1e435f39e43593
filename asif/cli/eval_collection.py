"""asif eval --collection: many data sets, one table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asif.cli import options
from asif.cli.eval_ import evaluate_task, list_rejects, open_chosen_engine
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.evaluate.collections.definition import CollectionEntry
    from asif.evaluate.collections.run import CollectionResult
    from asif.pairs import Reject

_OF_ONE_SET = ("dataset", "dataset_name", "task", "classnames", "label_vectors", "columns", "split")
_HEADER = ("data set", "acc1", "per class", "text recall@1", "image recall@1", "rows")


def evaluate_collection(output: Path | None, as_json: bool, task: str | None, given: Mapping[str, Any]) -> None:
    """Evaluate a collection, write its results, and print them."""
    from asif.anchorset.format.atomic_io import atomic_write_bytes
    from asif.evaluate.collections.definition import find_collection
    from asif.evaluate.collections.run import run_collection

    _check_options(output, task, given)
    assert output is not None  # checked
    collection = find_collection(given["collection"], given["root"])
    opened = {**given, "opened": open_chosen_engine(given)}

    def identify(entry: CollectionEntry) -> Any:
        return _identify(opened, _choose_options(opened, entry, collection.locate), entry.task)

    def evaluate(entry: CollectionEntry) -> dict[str, Any]:
        return _evaluate_entry(entry, _choose_options(opened, entry, collection.locate))

    def progress(entry: CollectionEntry, done: bool) -> None:
        options.print_notice(f"{entry.name}: {'done already' if done else entry.task}")

    result = run_collection(collection, output.with_suffix(".runs.jsonl"), identify, evaluate, progress)
    written = result.to_json()
    text = json.dumps(written, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write_bytes(output, text.encode())
    if as_json:
        options.print_json(written)
    else:
        _show_result(result, output)


def _check_options(output: Path | None, task: str | None, given: Mapping[str, Any]) -> None:
    """Raise UsageError for options of a single data set, and without a file for the results."""
    idle = [name for name, value in {**given, "task": task}.items() if name in _OF_ONE_SET and value]
    if idle:
        options_given = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise UsageError(
            f"{options_given} with --collection".replace("--columns", "--column"),
            "the collection, whose file says this of each data set",
            "leave it out, or write it into the file",
        )
    if output is None:
        raise UsageError(
            "a collection without --output", "a file for its results, next to which the finished ones are", "pass one"
        )


def _choose_options(given: Mapping[str, Any], entry: CollectionEntry, locate: Any) -> dict[str, Any]:
    """Return the options of the command with those of one data set; templates of the command line win."""
    own_templates = () if given["template"] or given["templates"] else entry.templates
    return {
        **given,
        "dataset": locate(entry.path),
        "dataset_name": entry.name,
        "templates": given["templates"] or own_templates or None,
        "classnames": Path(locate(entry.classnames)) if entry.classnames else None,
        "columns": tuple(f"{role}={name}" for role, name in (entry.columns or {}).items()),
        "split": entry.split,
    }


def _identify(opened: Mapping[str, Any], given: Mapping[str, Any], task: str) -> list[Any]:
    """Return what a result depends on, as JSON."""
    from asif.evaluate.provenance import describe_engine_used
    from asif.pairs import open_captioned, open_labelled

    columns, engine = options.parse_columns(given["columns"]), opened["opened"]
    if task == "zeroshot_classification":
        source = open_labelled(given["dataset"], columns=columns, split=given["split"]).source
        used = describe_engine_used(engine, engine.anchors, "classify")
    else:
        source = open_captioned(given["dataset"], columns=columns, split=given["split"])
        used = describe_engine_used(engine, engine.anchors, "search")
    prompts = [list(given["template"]), given["templates"], given["template_mode"], str(given["classnames"])]
    return [source.identity, used.to_json(), prompts, given["limit"], given["max_bad_rows"], given["language"]]


def _evaluate_entry(entry: CollectionEntry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate one data set; returns what `asif eval` writes."""
    from asif.building import Tolerance
    from asif.evaluate import RowLimits

    rejects: list[Reject] = []
    with list_rejects(rejects, None), options.open_progress_bar(0, "row") as bar:
        tolerance = Tolerance.parse(given["max_bad_rows"])
        limits = RowLimits(given["limit"], tolerance, lambda done: bar.update(done - bar.n), rejects.append)
        evaluation = evaluate_task(entry.task, limits, bar, given)
    return {**evaluation.to_json(given["language"]), "rejects": None}


def _show_result(result: CollectionResult, output: Path) -> None:
    """Print a table of the data sets, and one of the shifts."""
    rows = [_format_row(each) for each in result.results]
    rows += [(name, "not there", *["-"] * (len(_HEADER) - 2)) for name in result.missing]
    options.print_table(rows, _HEADER)
    if result.shifts:
        options.print_text()
        options.print_table(
            [
                (
                    f"{shift.dataset} of {shift.shift_of}",
                    _format_share(shift.shifted),
                    _format_share(shift.drop),
                    _format_share(shift.effective_robustness),
                    str(shift.references),
                )
                for shift in result.shifts
            ],
            ("shift", "acc1", "drop", "effective robustness", "standard models"),
        )
    if result.missing:
        options.print_notice(f"not in {result.collection.root.absolute()}: {', '.join(result.missing)}")
    options.print_notice(f"written to {output}")


def _format_row(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Write one data set's figures."""
    figures = {**result["metrics"], **result["further_metrics"]}
    names = ("acc1", "mean_per_class_recall", "text_retrieval_recall@1", "image_retrieval_recall@1")
    return (result["dataset"], *(_format_share(figures.get(name)) for name in names), f"{result['counts']['kept']:,}")


def _format_share(share: float | None) -> str:
    """Write a share in per cent, `-` for none."""
    return "-" if share is None else f"{100 * share:.1f}"
