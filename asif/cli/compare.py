"""asif compare."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.aligners import TemplateMode
    from asif.anchorset.tokens.pair_tokens import PairTokens
    from asif.encoders import Backend, Device
    from asif.engine import Engine
    from asif.evaluate.comparison.datasets import CachedDataset
    from asif.evaluate.comparison.plan import ComparisonPlan
    from asif.evaluate.comparison.result import Comparison
    from asif.rivals.token_lookup import TokenLookup

_DATASET_KINDS = ("labels", "captions")
_MIN_SAMPLE = 20  # of which some are held out


class _MethodsOption(click.Option):
    """The option --methods; its default is all but the optional ones, whose table is loaded when it is needed."""

    def get_default(self, ctx: click.Context, call: bool = True) -> str:
        """Return the names of all methods, separated by commas."""
        from asif.evaluate.comparison.methods import COMPARED_METHODS

        return ",".join(COMPARED_METHODS)


@click.command("compare")
@click.option("--anchors", required=True, metavar="REF", help="name, name@alias, name@3.")
@click.option("--methods", cls=_MethodsOption, show_default=True, help="Methods to compare, separated by commas.")
@click.option(
    "--eval",
    "datasets",
    multiple=True,
    metavar="PATH",
    help="Labelled images, or images with captions; may be repeated. labels:PATH or captions:PATH says which.",
)
@click.option("--collection", metavar="NAME_OR_PATH", help="Data sets of a TOML file, as asif eval takes.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a collection's data.  [default: the file's]",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the results.")
@click.option("--pairs", default="all", show_default=True, help="Numbers of pairs, such as 50,100,1000,all.")
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Number of samples for each number of pairs.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Tuning time per method, in seconds.",
)
@click.option(
    "--recipe",
    metavar="NAME_OR_PATH",
    help="Use the recipe's setting for its method, and show its published figures.",
)
@click.option(
    "--tokens",
    metavar="PATH",
    help="For the method freeze-align-tokens: the pairs that the anchors were built from, or a folder of their tokens."
    "  [default: what a training left in the store]",
)
@options.prompts
@click.option(
    "--classnames", type=click.Path(path_type=Path), help="Names for prompts: lines of label<TAB>name | name."
)
@options.split
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Use N rows of each data set only: evenly many of each class, or the first with captions.",
)
@options.device
@options.backend
@options.home
@options.as_json
def command(
    anchors: str,
    methods: str,
    datasets: tuple[str, ...],
    collection: str | None,
    root: Path | None,
    out: Path,
    pairs: str,
    seeds: int,
    seconds: float,
    recipe: str | None,
    tokens: str | None,
    template: tuple[str, ...],
    templates: str | None,
    template_mode: TemplateMode | None,
    classnames: Path | None,
    split: str | None,
    limit: int | None,
    device: Device,
    backend: Backend,
    home: Path | None,
    as_json: bool,
) -> None:
    """Find out whether training a projector is worth it on your pairs.

    Every method is fitted to, or trained on, the same samples of an anchor set, and evaluated on the same data sets.
    Writes results.json and report.html into the folder. Finished runs are kept there, too: the same command resumes an
    interrupted comparison. Ends with a verdict in plain words.
    """
    from asif.engine import Engine
    from asif.engine.captions import encode_single_captions
    from asif.evaluate.comparison.anchor_tokens import AnchorTokens
    from asif.evaluate.comparison.methods import OPTIONAL_METHODS
    from asif.evaluate.comparison.run import run_comparison
    from asif.pairs import redact_url

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", "a folder", "choose another name for --out")
    choices = _choose_data(datasets, collection, root, _PromptOptions.of(template, templates, classnames), split)
    engine = Engine(anchors, home=home, device=device, backend=backend)
    plan = _read_plan(anchors, engine.anchors.count, methods, pairs, seeds, seconds, recipe)
    reads_tokens = any(method in OPTIONAL_METHODS for method in plan.methods)
    if tokens is not None and not reads_tokens:
        raise UsageError(
            "--tokens without a method of tokens", ", ".join(OPTIONAL_METHODS), "name it in --methods, too"
        )
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        bar = stack.enter_context(options.open_progress_bar(0, "run"))

        def on_caption(done: int, total: int) -> None:
            on_step("captions of the anchors", done, total)

        def on_step(what: str, done: int, total: int) -> None:
            bar.set_description(what)
            bar.total = total
            bar.update(done - bar.n)

        opened = _open_tokens(engine, tokens, out, on_step, stack) if reads_tokens else None
        loaded = _load_datasets(engine if opened is None else opened.engine, choices, template_mode, limit)
        texts = encode_single_captions(engine, on_caption)
        bar.reset()
        own = None if opened is None else AnchorTokens.of(opened.tokens, engine.anchor_set, texts, opened.lookup)
        comparison = run_comparison(engine, texts, loaded, plan, out / "runs.jsonl", on_step, own)
    comparison = replace(comparison, command=shlex.join(["asif", *map(redact_url, sys.argv[1:])]))
    _write_results(comparison, out)
    if as_json:
        options.print_json(comparison.to_json())
    else:
        _show_comparison(comparison, out)


@dataclass(frozen=True)
class _OpenTokens:
    """Hold the tokens of the anchors, and an engine that records those of the data it encodes in a lookup."""

    tokens: PairTokens
    engine: Engine
    lookup: TokenLookup


def _open_tokens(
    engine: Engine, where: str | None, out: Path, on_step: Callable[[str, int, int], None], stack: ExitStack
) -> _OpenTokens:
    """Open the tokens of the anchors, or encode them; the size of what will be written is announced."""
    from asif.engine import Engine
    from asif.evaluate.comparison.anchor_tokens import open_tokens_of
    from asif.rivals.token_lookup import TokenLookup, TokenRecordingPool

    def announce(size: int, place: Path) -> None:
        options.print_notice(f"the tokens will take about {options.format_bytes(size)} in {place}")

    lookup = stack.enter_context(TokenLookup(out))
    pool = TokenRecordingPool(engine.encoders, lookup)
    recording = Engine(engine.follows, home=engine.home, encoders=pool)
    on_torch = Engine(engine.follows, home=engine.home, device=engine.device, backend="torch")
    tokens = open_tokens_of(on_torch, where, announce, lambda done, total: on_step("tokens", done, total))
    return _OpenTokens(tokens, recording, lookup)


def _read_plan(
    anchors: str, available: int, methods: str, pairs: str, seeds: int, seconds: float, recipe_name: str | None
) -> ComparisonPlan:
    """Read methods, numbers of pairs, seeds and recipe from the options."""
    from asif.building.recipe_file import find_recipe
    from asif.evaluate.comparison.methods import COMPARED_METHODS, OPTIONAL_METHODS
    from asif.evaluate.comparison.plan import ComparisonPlan

    names = tuple(dict.fromkeys(name.strip() for name in methods.split(",") if name.strip()))
    known = [*COMPARED_METHODS, *OPTIONAL_METHODS]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(
            f"the methods {', '.join(unknown) or 'none'}", f"some of {', '.join(known)}", "correct --methods"
        )
    counts = set()
    for text in pairs.split(","):
        if text.strip() != "all" and not text.strip().isdecimal():
            raise UsageError(f"--pairs has {text!r}", "numbers, or all", "pass for example --pairs 100,1000,all")
        counts.add(available if text.strip() == "all" else int(text))
    outside = [number for number in sorted(counts) if not _MIN_SAMPLE <= number <= available]
    if outside:
        raise UsageError(
            f"--pairs has {outside[0]:,}", f"{_MIN_SAMPLE} to {available:,}, which {anchors} has", "correct it"
        )
    recipe = find_recipe(recipe_name) if recipe_name else None
    if recipe is not None:
        options.print_notice(f"{recipe.name}: {recipe.status}")
    return ComparisonPlan(names, tuple(sorted(counts)), tuple(range(seeds)), seconds, recipe)


@dataclass(frozen=True)
class _PromptOptions:
    """Hold the options about prompts: templates, () for those of the data; a file of names."""

    templates: tuple[str, ...]
    classnames: Path | None

    @classmethod
    def of(cls, template: tuple[str, ...], templates: str | None, classnames: Path | None) -> _PromptOptions:
        """Read them from the options of the command line."""
        return cls(options.choose_templates(template, templates), classnames)


@dataclass(frozen=True)
class _DataChoice:
    """Hold one data set to compare on: its name, whether it has labels or captions, and how it is opened."""

    name: str
    kind: str
    path: str
    prompts: _PromptOptions
    split: str | None
    columns: Mapping[str, str]


def _choose_data(
    paths: tuple[str, ...], collection: str | None, root: Path | None, prompts: _PromptOptions, split: str | None
) -> list[_DataChoice]:
    """Read the data sets from --eval and --collection; raises UsageError for none, and for one name twice."""
    from asif.pairs import redact_url

    choices = []
    for text in paths:
        kind, path = _detect_kind(text, split)
        choices.append(_DataChoice(redact_url(click.format_filename(path)), kind, path, prompts, split, {}))
    if collection is not None:
        choices += _choose_collection(collection, root, prompts)
    if not choices:
        raise UsageError("no data set", "at least one to compare on", "pass --eval PATH, or --collection NAME")
    names = [choice.name for choice in choices]
    repeated = [name for at, name in enumerate(names) if name in names[:at]]
    if repeated:
        raise UsageError(f"--eval {repeated[0]} comes twice", "every data set once", "leave one out")
    return choices


def _choose_collection(name_or_path: str, root: Path | None, prompts: _PromptOptions) -> list[_DataChoice]:
    """Read the data sets of a collection that are there; the others are named. Templates of the command line win."""
    from asif.evaluate.collections.definition import find_collection

    found = find_collection(name_or_path, root)
    missing = [entry.name for entry in found.entries if found.is_missing(entry)]
    if missing:
        options.print_notice(f"not in {found.root.absolute()}: {', '.join(missing)}")
    choices = []
    for entry in found.entries:
        if entry.name not in missing:
            own = options.choose_templates((), entry.templates) if entry.templates else ()
            names = Path(found.locate(entry.classnames)) if entry.classnames else prompts.classnames
            kind = "labels" if entry.task == "zeroshot_classification" else "captions"
            chosen = _PromptOptions(prompts.templates or own, names)
            path = found.locate(entry.path)
            choices.append(_DataChoice(entry.name, kind, path, chosen, entry.split, entry.columns or {}))
    return choices


def _load_datasets(
    engine: Engine, choices: list[_DataChoice], mode: TemplateMode | None, limit: int | None
) -> list[CachedDataset]:
    """Open and encode the data sets."""
    from asif.classify import DEFAULT_TEMPLATES, Labels
    from asif.evaluate import RowLimits, read_classnames, resolve_classes
    from asif.evaluate.comparison.datasets import load_label_set, load_retrieval_set
    from asif.modality import find_modality
    from asif.pairs import open_captioned, open_labelled

    limits = RowLimits(limit)
    loaded: list[CachedDataset] = []
    modality = find_modality(engine.anchors, "image")
    wanted = None if modality == "image" else modality
    for choice in choices:
        if choice.kind == "captions":
            source = open_captioned(choice.path, columns=choice.columns, split=choice.split, modality=wanted)
            options.print_notice(source.describe())
            loaded.append(load_retrieval_set(engine, source, choice.name, limits))
            continue
        data = open_labelled(choice.path, columns=choice.columns, split=choice.split, modality=wanted)
        options.print_notice(data.source.describe())
        names = read_classnames(choice.prompts.classnames) if choice.prompts.classnames else None
        classes = resolve_classes(data, names)
        templates = choice.prompts.templates or data.templates or DEFAULT_TEMPLATES
        labels = Labels(classes.labels, templates, mode or "mean", classes.names)
        loaded.append(load_label_set(engine, data, labels, choice.name, limits))
    return loaded


def _detect_kind(text: str, split: str | None) -> tuple[str, str]:
    """Return whether a data set has labels or captions, and its path: by the prefix, else by opening it."""
    from asif.errors import AsifError
    from asif.pairs import open_labelled

    kind, colon, path = text.partition(":")
    if colon and kind in _DATASET_KINDS:
        return kind, path
    try:
        open_labelled(text, split=split)
    except AsifError:
        return "captions", text  # opening it as captions raises what is wrong
    return "labels", text


def _write_results(comparison: Comparison, out: Path) -> None:
    """Write results.json, and report.html if it can be drawn."""
    from asif.anchorset.format.atomic_io import atomic_write_bytes
    from asif.errors import MissingDependency
    from asif.report import render_comparison_page

    text = json.dumps(comparison.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write_bytes(out / "results.json", text.encode())
    try:
        atomic_write_bytes(out / "report.html", render_comparison_page(comparison).encode())
    except MissingDependency as error:
        options.print_notice(f"no report.html: {error}")


def _show_comparison(comparison: Comparison, out: Path) -> None:
    """Print the tables and the verdict."""
    from asif.evaluate.comparison.verdict import judge_comparison
    from asif.report import build_comparison_tables

    for table in build_comparison_tables(comparison):
        options.print_text(table.title)
        options.print_table(list(table.rows), table.header)
        options.print_text()
    for line in judge_comparison(comparison).lines:
        options.print_text(line)
    options.print_notice(f"written to {out}: results.json, report.html")
