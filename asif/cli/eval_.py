"""asif eval."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.evaluate import Evaluation, Terms
    from asif.pairs import PairSource, Reject

CLASSIFICATION, RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"
ABOUT_LABELS = {
    name: f"--{name.replace('_', '-')}"
    for name in ("template", "templates", "template_mode", "classnames", "label_vectors")
}
SHOWN_REJECTS = 10


@click.command("eval")
@options.anchors
@click.option("--dataset", required=True, metavar="PATH", help="Labelled images, or images with captions.")
@click.option("--task", type=click.Choice([CLASSIFICATION, RETRIEVAL]), required=True)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the result there, as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace the output if there is one.")
@options.prompts
@click.option(
    "--classnames", type=click.Path(path_type=Path), help="Names for prompts: lines of label<TAB>name | name."
)
@click.option("--label-vectors", type=click.Path(path_type=Path), help="For image vectors: .npy, row by prompt.")
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="Name a column, as label=fine_label.")
@click.option("--limit", type=click.IntRange(min=1), help="Use the first N rows only; classes are those of all.")
@click.option("--max-bad-rows", default="1%", show_default=True, help="Stop above this share or number of bad rows.")
@click.option("--language", default="en", show_default=True, help="Language of names and captions, for the record.")
@options.aligner
@options.engine
@options.device
@options.home
@options.as_json
def command(task: str, output: Path | None, overwrite: bool, as_json: bool, **given: Any) -> None:
    """Measure an anchor set on a data set, and write what CLIP_benchmark would.

    PATH is a parquet file (or a folder of shards) with images and labels or captions, a folder with a folder of images
    per class, tars, a folder with metadata.csv or metadata.jsonl, or a CLIP_benchmark folder (test/0.tar ...); or a
    URL of these, such as s3:// or hf://. Rejected rows are listed in FILE with the ending .rejects.jsonl.
    """
    from asif.building import Tolerance
    from asif.evaluate import Terms

    check_output(output, overwrite)
    tolerance = Tolerance.parse(given["max_bad_rows"])
    rejects: list[Reject] = []
    with listing(rejects, output), options.open_progress_bar(0, "row") as bar:
        terms = Terms(given["limit"], tolerance, lambda done: bar.update(done - bar.n), rejects.append)
        measure = classification if task == CLASSIFICATION else retrieval
        result = measure(terms, bar, given).as_dict(given["language"])
    result["rejects"] = rejects_file(output).name if rejects and output else None
    if output is not None:
        from asif.anchorset.format.atomic_io import atomic_write_bytes

        if not rejects:
            rejects_file(output).unlink(missing_ok=True)  # that of an earlier run
        atomic_write_bytes(output, (json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    if as_json:
        options.print_json(result)
    else:
        show(result, output)


def classification(terms: Terms, bar: Any, given: dict[str, Any]) -> Evaluation:
    """Evaluate on labelled images."""
    from asif.anchorset.format.atomic_io import hash_file
    from asif.classify import DEFAULT_TEMPLATES, Labels
    from asif.engine import read_vectors
    from asif.evaluate import classes_of, evaluate_classification, read_classnames
    from asif.pairs import open_labelled

    written = options.choose_templates(given["template"], given["templates"])
    names = read_classnames(given["classnames"]) if given["classnames"] else None
    data = open_labelled(given["dataset"], columns=options.parse_columns(given["columns"]))
    announce(data.source, terms, bar)
    classes = classes_of(data, names)
    if classes.unused:
        options.print_notice(f"class names for labels that the data do not have: {', '.join(classes.unused[:5])}")
    templates = written or data.templates or DEFAULT_TEMPLATES
    origin = given["templates"] or ("--template" if written else "dataset" if data.templates else "default")
    engine = options.open_engine(given, *options.make_chosen_aligner(given))
    mode = given["template_mode"] or engine.role("classify").choice.aligner.template_mode
    labels = Labels(classes.labels, templates, mode, classes.names)
    origins = {"templates_from": origin, "classnames_from": classes.origin}
    file, vectors = given["label_vectors"], None
    if file is not None:
        vectors = read_vectors(file, engine.anchors.dims["text"], "prompt vectors")
        origins["label_vectors_sha256"] = hash_file(file)[0]
    return evaluate_classification(
        engine, data, labels, terms=terms, dataset=called(given), origins=origins, label_vectors=vectors
    )


def retrieval(terms: Terms, bar: Any, given: dict[str, Any]) -> Evaluation:
    """Evaluate on images with captions."""
    from asif.evaluate import evaluate_retrieval
    from asif.pairs import open_captioned

    idle = [option for name, option in ABOUT_LABELS.items() if given[name]]
    if idle:
        raise UsageError(f"{', '.join(idle)} for {RETRIEVAL}", "captions, which are taken as they are", "leave it out")
    source = open_captioned(given["dataset"], columns=options.parse_columns(given["columns"]))
    announce(source, terms, bar)
    engine = options.open_engine(given, *options.make_chosen_aligner(given))
    return evaluate_retrieval(engine, source, terms=terms, dataset=called(given))


def called(given: dict[str, Any]) -> str:
    """Return the data set as the user named it; bytes in it that are no UTF-8 are replaced, credentials hidden."""
    from asif.pairs import redact_url

    return redact_url(click.format_filename(given["dataset"]))


def announce(source: PairSource, terms: Terms, bar: Any) -> None:
    """Say what will be read, before work starts."""
    options.print_notice(source.describe())
    bar.reset(min(source.rows, terms.limit or source.rows))


def check_output(output: Path | None, overwrite: bool) -> None:
    """Refuse a place where the result cannot be written, before work starts."""
    if output is None:
        return
    if output.is_dir():
        raise UsageError(f"{output} is a folder", "a file to write", f"pass for example --output {output}/result.json")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists already", "a new file", "choose another name, or pass --overwrite")
    if not os.access(output.absolute().parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{output} cannot be written",
            "a folder that exists and may be written",
            "make the folder, or choose another",
        )


def rejects_file(output: Path) -> Path:
    """Return where rejected rows are listed."""
    return output.with_suffix(".rejects.jsonl")


@contextmanager
def listing(rejects: list[Reject], output: Path | None) -> Iterator[None]:
    """List the rejected rows, if there are any, also where there are too many of them."""
    try:
        yield
    finally:
        rejects.sort(key=lambda reject: reject.row)
        if output is None:
            for reject in rejects[:SHOWN_REJECTS]:
                options.print_notice(f"row {reject.row}: {reject.reason}")
        elif rejects:
            lines = [json.dumps(asdict(reject), ensure_ascii=False) for reject in rejects]
            rejects_file(output).write_text("\n".join(lines) + "\n", encoding="utf-8")
            options.print_notice(f"rejected rows and reasons: {rejects_file(output)}")


def show(result: dict[str, Any], output: Path | None) -> None:
    """Print the figures for people."""
    counts = result["counts"]
    click.echo(f"{result['dataset']}: {counts['in']:,} in = {counts['kept']:,} kept + {counts['rejected']:,} rejected")
    click.echo(f"{result['pretrained']}, {result['model']}")
    shared = result["further_metrics"].get("shared_captions_right", {})
    rows = []
    for name, value in {**result["metrics"], **result["further_metrics"]}.items():
        if name != "shared_captions_right":
            rows.append((name, cell(value), *([cell(shared[name])] if counts.get("captions_shared") else [])))
    options.print_table(rows, ("metric", "value", "shared captions right")[: len(rows[0])])
    if counts["images_among_anchors"]:
        options.print_notice(f"{counts['images_among_anchors']} of {counts['images']} images are anchors too")
    if counts["images_near_anchors"]:
        options.print_notice(
            f"{counts['images_near_anchors']} of {counts['images']} images are all but the same as an anchor's"
        )
    if output is not None:
        options.print_notice(f"written to {output}")


def cell(value: float | None) -> str:
    """Write a figure; `-` where it is not defined."""
    return "-" if value is None else f"{value:.4f}"
