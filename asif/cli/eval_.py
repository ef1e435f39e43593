"""asif eval."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.engine import Engine
    from asif.evaluate import RowLimits
    from asif.evaluate.evaluation import Evaluation
    from asif.pairs import PairSource, Reject

_CLASSIFICATION, _RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"
_LABEL_OPTIONS = {
    name: f"--{name.replace('_', '-')}"
    for name in ("template", "templates", "template_mode", "classnames", "label_vectors")
}
_SHOWN_REJECTS = 10


@click.command("eval")
@options.anchors
@click.option("--dataset", metavar="PATH", help="Labelled images, or images with captions.")
@click.option("--dataset-name", metavar="NAME", help="Name of the data set in the result, instead of its path.")
@click.option("--task", type=click.Choice([_CLASSIFICATION, _RETRIEVAL]), help="What to measure on --dataset.")
@click.option(
    "--collection", metavar="NAME_OR_PATH", help="Many data sets: a TOML file, freeze-align or imagenet-shifts."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a collection's data.  [default: the file's]",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the result there, as JSON.")
@options.overwrite
@options.prompts
@click.option(
    "--classnames", type=click.Path(path_type=Path), help="Names for prompts: lines of label<TAB>name | name."
)
@click.option("--label-vectors", type=click.Path(path_type=Path), help="For image vectors: .npy, row by prompt.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="Name a column, as label=fine_label.")
@options.split
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Use N rows only: evenly many of each class, or the first with captions; classes are those of all.",
)
@click.option("--max-bad-rows", default="1%", show_default=True, help="Stop above this share or number of bad rows.")
@click.option("--language", default="en", show_default=True, help="Language of names and captions, for the record.")
@options.aligner
@options.engine
@options.device
@options.backend
@options.home
@options.as_json
def command(task: str | None, output: Path | None, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Measure an anchor set on a data set, or on a collection of them, and write what CLIP_benchmark would.

    PATH is a parquet file (or a folder of shards) with images and labels or captions, a folder with a folder of images
    per class, tars, a folder with metadata.csv or metadata.jsonl, or a CLIP_benchmark folder (test/0.tar ...); or a
    URL of these, such as s3:// or hf://. Rejected rows are listed in FILE with the ending .rejects.jsonl.

    A collection is evaluated set by set, in one table; the results so far are in FILE with the ending .runs.jsonl, and
    the same command resumes. Sets that are not there are named, and left out.
    """
    from asif.building import Tolerance
    from asif.evaluate import RowLimits

    options.check_output(output, overwrite)
    if given["collection"]:
        from asif.cli.eval_collection import evaluate_collection

        evaluate_collection(output, as_json, task, given)
        return
    if given["dataset"] is None or task is None:
        raise UsageError(
            f"no {'--dataset' if given['dataset'] is None else '--task'}",
            "a data set and its task, or a collection",
            f"pass --dataset PATH --task {_CLASSIFICATION}, or --collection NAME",
        )
    if given["root"] is not None:
        raise UsageError("--root without --collection", "a collection", "leave it out")
    tolerance = Tolerance.parse(given["max_bad_rows"])
    rejects: list[Reject] = []
    with list_rejects(rejects, output), options.open_progress_bar(0, "row") as bar:
        limits = RowLimits(given["limit"], tolerance, lambda done: bar.update(done - bar.n), rejects.append)
        evaluation = evaluate_task(task, limits, bar, given)
    listed = _rejects_file(output).name if rejects and output else None
    result = {**evaluation.to_json(given["language"]), "rejects": listed}
    if output is not None:
        from asif.anchorset.format.atomic_io import atomic_write_bytes

        if not rejects:
            _rejects_file(output).unlink(missing_ok=True)  # of an earlier run
        atomic_write_bytes(output, (json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    if as_json:
        options.print_json(result)
    else:
        _show_evaluation(evaluation, output)


def evaluate_task(task: str, limits: RowLimits, bar: Any, given: Mapping[str, Any]) -> Evaluation:
    """Evaluate one data set; `given` are the options of the command."""
    return (_evaluate_labels if task == _CLASSIFICATION else _evaluate_captions)(limits, bar, given)


def open_chosen_engine(given: Mapping[str, Any]) -> Engine:
    """Open the engine of the options; that of a collection is open already."""
    engine: Engine | None = given.get("opened")
    return engine or options.open_engine(given, *options.make_chosen_aligner(given))


def _evaluate_labels(limits: RowLimits, bar: Any, given: Mapping[str, Any]) -> Evaluation:
    """Evaluate on labelled images."""
    from asif.anchorset.format.atomic_io import hash_file
    from asif.classify import DEFAULT_TEMPLATES, Labels
    from asif.engine import read_vectors
    from asif.evaluate import evaluate_classification, read_classnames, resolve_classes
    from asif.pairs import open_labelled

    written = options.choose_templates(given["template"], given["templates"])
    names = read_classnames(given["classnames"]) if given["classnames"] else None
    data = open_labelled(given["dataset"], columns=options.parse_columns(given["columns"]), split=given["split"])
    _announce_source(data.source, limits, bar)
    classes = resolve_classes(data, names)
    if classes.unused:
        options.print_notice(f"class names for labels that the data do not have: {', '.join(classes.unused[:5])}")
    templates = written or data.templates or DEFAULT_TEMPLATES
    origin = given["templates"] or ("--template" if written else "dataset" if data.templates else "default")
    engine = open_chosen_engine(given)
    mode = given["template_mode"] or engine.role("classify").choice.aligner.template_mode
    labels = Labels(classes.labels, templates, mode, classes.names)
    origins = {"templates_from": origin, "classnames_from": classes.origin}
    file, vectors = given["label_vectors"], None
    if file is not None:
        vectors = read_vectors(file, engine.anchors.dims["text"], "prompt vectors")
        origins["label_vectors_sha256"] = hash_file(file)[0]
    return evaluate_classification(
        engine,
        data,
        labels,
        limits=limits,
        dataset=given["dataset_name"] or name_dataset(given["dataset"]),
        origins=origins,
        label_vectors=vectors,
    )


def _evaluate_captions(limits: RowLimits, bar: Any, given: Mapping[str, Any]) -> Evaluation:
    """Evaluate on images with captions."""
    from asif.evaluate import evaluate_retrieval
    from asif.pairs import open_captioned

    idle = [option for name, option in _LABEL_OPTIONS.items() if given[name]]
    if idle:
        raise UsageError(f"{', '.join(idle)} for {_RETRIEVAL}", "captions, which are taken as they are", "leave it out")
    source = open_captioned(given["dataset"], columns=options.parse_columns(given["columns"]), split=given["split"])
    _announce_source(source, limits, bar)
    engine = open_chosen_engine(given)
    return evaluate_retrieval(
        engine, source, limits=limits, dataset=given["dataset_name"] or name_dataset(given["dataset"])
    )


def name_dataset(path: str) -> str:
    """Return a path as the user wrote it; bytes that are no UTF-8 are replaced, credentials hidden."""
    from asif.pairs import redact_url

    return redact_url(click.format_filename(path))


def _announce_source(source: PairSource, limits: RowLimits, bar: Any) -> None:
    """Print what will be read, before work starts."""
    options.print_notice(source.describe())
    bar.reset(min(source.rows, limits.limit or source.rows))


def _rejects_file(output: Path) -> Path:
    """Return the file of rejected rows."""
    return output.with_suffix(".rejects.jsonl")


@contextmanager
def list_rejects(rejects: list[Reject], output: Path | None) -> Iterator[None]:
    """List the rejected rows after a block, also if it raised because there are too many."""
    from asif.anchorset.format.rejects import reject_fields

    try:
        yield
    finally:
        rejects.sort(key=lambda reject: reject.row)
        if output is None:
            for reject in rejects[:_SHOWN_REJECTS]:
                options.print_notice(f"row {reject.row}: {reject.reason}")
        elif rejects:
            lines = [json.dumps(reject_fields(reject), ensure_ascii=False) for reject in rejects]
            _rejects_file(output).write_text("\n".join(lines) + "\n", encoding="utf-8")
            options.print_notice(f"rejected rows and reasons: {_rejects_file(output)}")


def _show_evaluation(evaluation: Evaluation, output: Path | None) -> None:
    """Print the figures for people."""
    from asif.evaluate.titles import shorten_names

    counts, shared = evaluation.counts, evaluation.shared
    rows = f"{counts['in']:,} in = {counts['kept']:,} kept + {counts['rejected']:,} rejected"
    title = shorten_names([evaluation.dataset])[evaluation.dataset]
    chosen = "" if evaluation.sample is None else f" of {evaluation.sample.total:,}, {evaluation.sample.chosen}"
    options.print_text(f"{title}: {rows}{chosen}")
    options.print_text(f"{evaluation.record.pretrained}, {evaluation.record.model}")
    figures = {**evaluation.metrics, **evaluation.further}
    header: tuple[str, ...] = ("metric", "value")
    table: list[tuple[str, ...]] = [(name, _format_figure(value)) for name, value in figures.items()]
    if shared is not None and counts["captions_shared"]:
        header = (*header, "shared captions right")
        table = [(*line, _format_figure(shared[line[0]])) for line in table]
    options.print_table(table, header)
    among, near = counts["images_among_anchors"], counts.get("images_near_anchors")
    if among:
        options.print_notice(f"{among} of {counts['images']} images are anchors too")
    if near:
        options.print_notice(f"{near} of {counts['images']} images are all but the same as an anchor's")
    if output is not None:
        options.print_notice(f"written to {output}")


def _format_figure(value: float | None) -> str:
    """Write a figure; `-` if it is not defined."""
    return "-" if value is None else f"{value:.4f}"
