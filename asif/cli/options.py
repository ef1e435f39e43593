"""Options that several commands share, and the functions with which commands print."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from asif.defaults import DEFAULT_ANCHORS
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.aligners import Aligner, Hubness
    from asif.anchorset import Store
    from asif.building.sharded.work import ShardingOptions
    from asif.engine import Engine

Command = TypeVar("Command", bound=Callable[..., Any])

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def home(command: Command) -> Command:
    """Add --home."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="ASIF_HOME",
        help="Where anchor sets and caches are stored.  [default: the user's data folder]",
    )(command)


def open_store(home: Path | None) -> Store:
    """Open the store at `home`, or the default one."""
    from asif.anchorset import Store, default_home

    return Store(home or default_home())


def find_modality(anchors: str, home: Path | None) -> str:
    """Return what the first half of the pairs of anchors is, such as image or audio, from the manifest alone.

    Image for a set that is not there: it is built on first use, or opening it says what is wrong.
    """
    from asif.anchorset.format.references import parse_union
    from asif.errors import AsifError

    try:
        with open_store(home).open(parse_union(anchors)[0]) as opened:
            return opened.manifest.modalities["image"]
    except AsifError:
        return "image"


def find_data_modality(anchors: str, home: Path | None) -> str | None:
    """Return the modality in which data for anchors are read; None for images, which may be vectors."""
    modality = find_modality(anchors, home)
    return None if modality == "image" else modality


def device(command: Command) -> Command:
    """Add --device."""
    choice = click.Choice(["auto", "cpu", "cuda"])
    return click.option(
        "--device",
        type=choice,
        default="auto",
        envvar="ASIF_DEVICE",
        show_default=True,
        help="Device of the encoders.",
    )(command)


def backend(command: Command) -> Command:
    """Add --backend."""
    choice = click.Choice(["auto", "torch", "onnx", "openvino"])
    return click.option(
        "--backend",
        type=choice,
        default="auto",
        envvar="ASIF_BACKEND",
        show_default=True,
        help="What runs the encoders; auto is the fastest one here, see asif doctor.",
    )(command)


def precision(command: Command) -> Command:
    """Add --precision."""
    return click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        default="float32",
        show_default=True,
        help="What the encoders compute in. bfloat16: OpenVINO or torch; float16: CUDA devices.",
    )(command)


_KERNELS = ("auto", "cpu", "cuda", "torch", "faiss", "reference")


def engine(command: Command) -> Command:
    """Add --engine."""
    return click.option(
        "--engine",
        type=click.Choice(_KERNELS),
        default="auto",
        show_default=True,
        help="Kernel for similarities; results are identical.",
    )(command)


_SEARCH_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice((*_KERNELS, "ray")),
        default="auto",
        show_default=True,
        help="Kernel for similarities, or workers of Ray, each with a share of the rows; results are identical.",
    ),
    click.option("--actors", type=click.IntRange(min=1), help="ray: workers.  [default: one a machine]"),
    click.option("--address", metavar="A", help="ray: the cluster.  [default: RAY_ADDRESS, else Ray is started here]"),
)


def search_engine(command: Command) -> Command:
    """Add --engine with the choice of workers, and where they run."""
    for option in reversed(_SEARCH_OPTIONS):
        command = option(command)
    return command


def _choose_engine(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an engine for its kernel, or for workers; raises UsageError for a cluster without ray."""
    if params["engine"] == "ray":
        from asif.cluster.pool import ClusterOptions

        return {"engine": "ray", "cluster": ClusterOptions(params["actors"], params["address"])}
    refuse_worker_options(("actors", "address"))
    return {"kernel": params["engine"]}


def refuse_worker_options(names: tuple[str, ...]) -> None:
    """Raise UsageError for options of workers that were given without --engine ray."""
    given = list_given_options(names)
    if given:
        raise UsageError(f"{given[0]} without --engine ray", "both or neither", "add --engine ray")


_ALIGNER_OPTIONS = (
    click.option(
        "--aligner",
        default="auto",
        show_default=True,
        help="auto (the profile of asif tune, else a good default), asif, asif-paper, procrustes, ridge, cca, "
        "'cca(words)', or a sum: 'cca(lambda=3)+0.5*asif(k=200)'.",
    ),
    click.option(
        "--k",
        type=int,
        help="asif: anchors used per input.  [default: grows with the anchors, 58 of 1,000; asif-paper: 800]",
    ),
    click.option("--power", type=float, help="asif: exponent of similarities.  [default: 3; asif-paper: 8]"),
    click.option("--centre", is_flag=True, help="asif: subtract the anchors' mean on each side."),
    click.option(
        "--lambda", "strength", type=float, help="ridge, cca: strength of the shrinkage.  [default: ridge 0.1; cca 1]"
    ),
    click.option("--size", type=int, help="procrustes, ridge, cca: number of directions.  [default: all]"),
    click.option(
        "--towards", type=click.Choice(["image", "text"]), help="ridge: the side that is predicted.  [default: image]"
    ),
    click.option(
        "--weight", type=float, help="cca: power of the correlations by which axes are weighed.  [default: 1]"
    ),
    click.option(
        "--hubness",
        type=click.Choice(["none", "nnn", "csls"]),
        help="Subtract each label's hubness bias, estimated from the anchors.  [default: as tuned]",
    ),
)


def aligner(command: Command) -> Command:
    """Add --aligner and the parameters of all aligners."""
    for option in reversed(_ALIGNER_OPTIONS):
        command = option(command)
    return command


_ANCHOR_OPTIONS = (
    click.option(
        "--anchors",
        default=DEFAULT_ANCHORS,
        show_default=True,
        metavar="REF",
        help="name, name@alias, name@3, or name+other.",
    ),
    click.option(
        "--license",
        "--licence",
        "licences",
        metavar="NAME,…",
        help="Only pairs of these licences: cc-by,cc0. Any version, unless one is named; cc-by is not cc-by-nc.",
    ),
    click.option("--where", metavar="EXPR", help="Only pairs that match: source = 'X', see asif anchors remove."),
)


def anchors(command: Command) -> Command:
    """Add --anchors, and --license and --where, which leave pairs out."""
    for option in reversed(_ANCHOR_OPTIONS):
        command = option(command)
    return command


class LineType(click.types.StringParamType):
    """A text that may be repeated; in the environment one per line, so that it may contain blanks."""

    envvar_list_splitter = "\n"


_PROMPT_OPTIONS = (
    click.option(
        "--template", multiple=True, metavar="T", type=LineType(), help="A text with {} in it; may be repeated."
    ),
    click.option(
        "--templates",
        metavar="NAME",
        help="Templates by name: plain, photo, photos, aerial, medical, product, sound, open-clip:imagenet, "
        "open-clip:openai-simple.",
    ),
    click.option("--template-mode", type=click.Choice(["mean", "max"]), help="[default: mean; asif-paper: max]"),
)


def prompts(command: Command) -> Command:
    """Add --template, --templates and --template-mode."""
    for option in reversed(_PROMPT_OPTIONS):
        command = option(command)
    return command


def choose_templates(texts: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    """Return the templates of --template, or those of the name in --templates; () if neither was given."""
    from asif.prompts import find_templates

    if texts and name is not None:
        raise UsageError("--template and --templates", "one of the two", "leave one out")
    return texts if name is None else find_templates(name)


def columns(command: Command) -> Command:
    """Add --column."""
    return click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="ROLE=NAME",
        help="Name a column, as image=photo, several as captions=a,b, none as id=.",
    )(command)


def split(command: Command) -> Command:
    """Add --split."""
    return click.option("--split", metavar="NAME", help="The split to read in a folder of several: train, test, …")(
        command
    )


_WORKER_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Encode in this process, or on workers of Ray, as many rows at a time as a shard has.",
    ),
    click.option(
        "--actors", type=click.IntRange(min=1), help="ray: workers.  [default: one a GPU, else one a machine]"
    ),
    click.option("--address", metavar="A", help="ray: the cluster.  [default: RAY_ADDRESS, else Ray is started here]"),
    click.option("--shard-rows", type=click.IntRange(min=1), help="ray: rows of a shard.  [default: 50000]"),
    click.option(
        "--exchange",
        metavar="URL",
        help="ray: where workers leave shards, as s3://bucket/folder.  [default: the store]",
    ),
)


def workers(command: Command) -> Command:
    """Add --engine, and how work is divided among workers."""
    for option in reversed(_WORKER_OPTIONS):
        command = option(command)
    return command


def make_sharding(params: Mapping[str, Any]) -> ShardingOptions | None:
    """Return how a build is divided among workers; None for one in this process.

    Raises UsageError for options of workers without --engine ray.
    """
    if params["engine"] == "local":
        refuse_worker_options(("actors", "address", "shard_rows", "exchange"))
        return None
    from asif.building.sharded.work import ShardingOptions
    from asif.cluster.pool import ClusterOptions

    rows = {} if params["shard_rows"] is None else {"shard_rows": params["shard_rows"]}
    return ShardingOptions(ClusterOptions(params["actors"], params["address"]), **rows, exchange=params["exchange"])


_ROW_OPTIONS = (
    click.option(
        "--captions-from",
        type=click.Choice(["folders"]),
        help="Make captions from the names of class folders in PAIRS.",
    ),
    click.option("--template", metavar="T", help="For --captions-from: the caption.  [default: a photo of a {}.]"),
    columns,
    split,
    click.option(
        "--dedup",
        type=click.Choice(["exact", "keep"]),
        default="exact",
        show_default=True,
        help="exact: drop pairs with equal image and captions, except one; keep: keep them.",
    ),
    click.option(
        "--resume/--fresh", default=True, help="Use what an equal run has done, finished or not.  [default: on]"
    ),
    click.option(
        "--max-bad-rows", default="1%", show_default=True, help="Stop above this share or number of bad rows."
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Use the first N rows only."),
    click.option("--dry-run", is_flag=True, help="Show the input and estimate time and space; load no model."),
)


def rows(command: Command) -> Command:
    """Add the options that say which rows of PAIRS are encoded, and how."""
    for option in reversed(_ROW_OPTIONS):
        command = option(command)
    return command


def parse_columns(pairs: tuple[str, ...]) -> dict[str, str]:
    """Parse options ROLE=NAME; an empty name means that the role has no column. Raises UsageError without the "=".

    >>> parse_columns(("label=fine_label",))
    {'label': 'fine_label'}
    """
    for column in pairs:
        if "=" not in column:
            raise UsageError(f"--column {column}", "ROLE=NAME, or ROLE= for no column", f"say {column}=NAME")
    return dict(column.partition("=")[::2] for column in pairs)


def make_chosen_aligner(params: Mapping[str, Any]) -> tuple[Aligner | None, Hubness | None]:
    """Make the aligner and the hubness correction that the options name; None for those of the profile or default."""
    from asif.aligners import PARAMETER_NAMES, Hubness
    from asif.engine import make_named_aligner

    named = make_named_aligner(params["aligner"], {name: params[name] for name in PARAMETER_NAMES})
    return named, Hubness(params["hubness"]) if params["hubness"] else None


def open_engine(params: Mapping[str, Any], aligner: Aligner | None, hubness: Hubness | None) -> Engine:
    """Open the engine that the options describe."""
    from asif.engine import Engine

    licences = params.get("licences")
    return Engine(
        params["anchors"],
        where=params.get("where"),
        licences=None if licences is None else licences.split(","),
        home=params["home"],
        aligner=aligner,
        hubness=hubness,
        device=params["device"],
        backend=params["backend"],
        **_choose_engine(params),
    )


def as_json(command: Command) -> Command:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


def overwrite(command: Command) -> Command:
    """Add --overwrite."""
    return click.option("--overwrite", is_flag=True, help="Replace the output if there is one.")(command)


def check_output(output: Path | None, overwrite: bool) -> None:
    """Raise UsageError for a place where the result cannot be written, before work starts."""
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


def list_given_options(names: Collection[str]) -> list[str]:
    """List the options among `names` that were given on the command line of the running command, as `--name`."""
    ctx = click.get_current_context()
    return [
        option.opts[0]
        for option in ctx.command.params
        if option.name in names and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def print_json(value: dict[str, Any]) -> None:
    """Print one object on one line of stdout."""
    print_data(format_json(value))


def format_json(value: dict[str, Any]) -> str:
    """Format one object as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def print_data(line: str) -> None:
    """Print a line for programs to stdout, as it is."""
    click.echo(line)


def print_text(text: str = "", *, err: bool = False, nl: bool = True, **style: Any) -> None:
    """Print one line for people, with its control characters escaped: the only way to the terminal.

    `style` is that of `click.style`; without a colour if NO_COLOR is set. Characters that the encoding of the stream
    lacks are escaped, too.
    """
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    shown = escape_controls(text).encode(encoding, "backslashreplace").decode(encoding)
    click.secho(shown, err=err, nl=nl, color=False if os.environ.get("NO_COLOR") else None, **style)


def print_lines(text: str, *, err: bool = False) -> None:
    """Print a text of several lines for people."""
    for line in text.split("\n"):
        print_text(line, err=err)


def print_notice(text: str) -> None:
    """Print a text to stderr."""
    print_lines(text, err=True)


def escape_controls(text: str) -> str:
    r"""Escape what a terminal would obey or hide: control characters, line ends, bidi overrides, lone surrogates.

    Emoji and scripts of both directions stay as they are.

    >>> print(escape_controls("a\x1b[31m dog\n\u202egod 👨‍👩‍👧 שלום"))
    a\x1b[31m dog\n\u202egod 👨‍👩‍👧 שלום
    """
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def confirm(question: str) -> bool:
    """Ask on stderr; raises UsageError where nobody can answer."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise UsageError("no answer to the question", "yes or no", "pass --yes to delete without asking") from None


def print_table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> None:
    """Print columns, left-aligned, as wide as their widest cell."""
    lines = [[escape_controls(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print_text("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def format_bytes(count: int) -> str:
    """Format a size in bytes with its unit.

    >>> format_bytes(999), format_bytes(20_500_000)
    ('999 B', '20.5 MB')
    """
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def open_progress_bar(total: int, unit: str) -> Any:
    """Open a tqdm bar on stderr; silent when stderr is not a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, disable=not sys.stderr.isatty(), file=sys.stderr)


class DelayedProgress:
    """Open a bar when work begins, if it does, and close it when all is done; silent if stderr is not a terminal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if self._bar is None:
            self._bar = open_progress_bar(total, self._unit)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.__exit__()

    def __enter__(self) -> DelayedProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
