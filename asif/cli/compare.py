"""asif compare."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.aligners import TemplateMode
    from asif.engine import Engine
    from asif.evaluate.comparison.datasets import DataSet
    from asif.evaluate.comparison.run import Plan

METHODS = "auto,asif,procrustes,ridge,cca,asif-paper,ape,fusemix,freeze-align"
KINDS = ("labels", "captions")


@click.command("compare")
@click.option("--anchors", required=True, metavar="REF", help="name, name@alias, name@3.")
@click.option("--methods", default=METHODS, show_default=True, help="Which, separated by commas.")
@click.option(
    "--eval",
    "datasets",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Labelled images, or images with captions; may be repeated. labels:PATH or captions:PATH says which.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where results go.")
@click.option("--pairs", default="all", show_default=True, help="Numbers of pairs, such as 50,100,1000,all.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Samples of each number.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="That each method may be tuned."
)
@click.option("--recipe", metavar="NAME_OR_PATH", help="Train its method as it says, and show what was published.")
@options.prompts
@click.option(
    "--classnames", type=click.Path(path_type=Path), help="Names for prompts: lines of label<TAB>name | name."
)
@click.option("--limit", type=click.IntRange(min=1), help="Use the first N rows of each data set only.")
@options.device
@options.home
@options.as_json
def command(out: Path, as_json: bool, **given: Any) -> None:
    """Find out whether training a projector is worth it on your pairs.

    Every method is fitted to, or trained on, the same samples of an anchor set and asked about the same data sets.
    Writes results.json and report.html into the folder; what is done is kept there, and the same command goes on from
    it. Ends with a verdict in plain words.
    """
    from asif.engine import Engine
    from asif.engine.captions import encode_single_captions
    from asif.evaluate.comparison.run import compare

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", "a folder", "choose another name for --out")
    engine = Engine(given["anchors"], home=given["home"], device=given["device"])
    plan = planned(given, engine.anchors.count)
    out.mkdir(parents=True, exist_ok=True)
    with options.open_progress_bar(0, "run") as bar:

        def encoding(done: int, every: int) -> None:
            bar.set_description("captions of the anchors")
            bar.total = every
            bar.update(done - bar.n)

        def progress(what: str, done: int, every: int) -> None:
            bar.set_description(what)
            bar.total = every
            bar.update(done - bar.n)

        sets = opened(engine, given)
        texts = encode_single_captions(engine, encoding)
        bar.reset()
        found = compare(engine, texts, sets, plan, out / "runs.jsonl", progress)
    from asif.pairs import redact_url

    found["command"] = shlex.join(["asif", *map(redact_url, sys.argv[1:])])
    write(found, out)
    if as_json:
        options.print_json(found)
    else:
        show(found, out)


def planned(given: dict[str, Any], count: int) -> Plan:
    """Read which methods, numbers of pairs and seeds are meant."""
    from asif.building.recipe_file import find_recipe
    from asif.evaluate.comparison.methods import METHODS
    from asif.evaluate.comparison.run import Plan

    methods = tuple(dict.fromkeys(name.strip() for name in given["methods"].split(",") if name.strip()))
    odd = [name for name in methods if name not in METHODS]
    if odd or not methods:
        raise UsageError(
            f"the methods {', '.join(odd) or 'none'}", f"some of {', '.join(METHODS)}", "correct --methods"
        )
    counts = set()
    for text in given["pairs"].split(","):
        if text.strip() != "all" and not text.strip().isdecimal():
            raise UsageError(f"--pairs has {text!r}", "numbers, or all", "pass for example --pairs 100,1000,all")
        counts.add(count if text.strip() == "all" else int(text))
    few = [number for number in sorted(counts) if not FEWEST <= number <= count]
    if few:
        raise UsageError(
            f"--pairs has {few[0]:,}", f"{FEWEST} to {count:,}, which {given['anchors']} has", "correct it"
        )
    recipe = find_recipe(given["recipe"]) if given["recipe"] else None
    if recipe is not None:
        options.print_notice(f"{recipe.name}: {recipe.status}")
    return Plan(methods, tuple(sorted(counts)), tuple(range(given["seeds"])), given["seconds"], recipe)


FEWEST = 20  # of which a few are held out


def opened(engine: Engine, given: dict[str, Any]) -> list[DataSet]:
    """Open and encode the data sets."""
    from asif.classify import DEFAULT_TEMPLATES, Labels
    from asif.evaluate import Terms, classes_of, read_classnames
    from asif.evaluate.comparison.datasets import label_set, retrieval_set
    from asif.pairs import open_captioned, open_labelled, redact_url

    terms = Terms(given["limit"])
    written = options.choose_templates(given["template"], given["templates"])
    names = read_classnames(given["classnames"]) if given["classnames"] else None
    sets: list[DataSet] = []
    for text in given["datasets"]:
        kind, path = kind_of(text)
        name = redact_url(click.format_filename(path))
        if kind == "captions":
            source = open_captioned(path)
            options.print_notice(source.describe())
            sets.append(retrieval_set(engine, source, name, terms))
            continue
        data = open_labelled(path)
        options.print_notice(data.source.describe())
        classes = classes_of(data, names)
        mode: TemplateMode = "max" if given["template_mode"] == "max" else "mean"
        labels = Labels(classes.labels, written or data.templates or DEFAULT_TEMPLATES, mode, classes.names)
        sets.append(label_set(engine, data, labels, name, terms))
    doubled = [each.name for at, each in enumerate(sets) if each.name in [other.name for other in sets[:at]]]
    if doubled:
        raise UsageError(f"--eval {doubled[0]} comes twice", "every data set once", "leave one out")
    return sets


def kind_of(text: str) -> tuple[str, str]:
    """Tell whether a data set has labels or captions: as it is said, else by what can be found in it."""
    from asif.errors import AsifError
    from asif.pairs import open_labelled

    kind, colon, path = text.partition(":")
    if colon and kind in KINDS:
        return kind, path
    try:
        open_labelled(text)
    except AsifError:
        return "captions", text  # which says what is wrong, if that is not so
    return "labels", text


def write(found: dict[str, Any], out: Path) -> None:
    """Write results.json, and report.html where it can be drawn."""
    from asif.anchorset.format.atomic_io import atomic_write_bytes
    from asif.errors import MissingDependency
    from asif.report import html_page

    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write_bytes(out / "results.json", text.encode())
    try:
        atomic_write_bytes(out / "report.html", html_page(found).encode())
    except MissingDependency as error:
        options.print_notice(f"no report.html: {error}")


def show(found: dict[str, Any], out: Path) -> None:
    """Print the tables and the verdict."""
    from asif.evaluate.comparison.verdict import verdict
    from asif.report import tables

    for table in tables(found):
        click.echo(table.title)
        options.print_table(list(table.rows), table.header)
        click.echo()
    for line in verdict(found).lines:
        click.echo(line)
    options.print_notice(f"written to {out}: results.json, report.html")
