"""Options that several commands share, and the ways in which all of them print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.aligners import Aligner, Hubness
    from asif.engine import Engine
    from asif.tuning import Task

F = TypeVar("F", bound=Callable[..., Any])


def home(command: F) -> F:
    """Add --home."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="ASIF_HOME",
        help="Where anchor sets and caches live.  [default: the user's data folder]",
    )(command)


def store(home: Path | None) -> Any:
    """Return the store."""
    from asif.anchorset import Store, default_home

    return Store(home or default_home())


def device(command: F) -> F:
    """Add --device."""
    choice = click.Choice(["auto", "cpu", "cuda"])
    return click.option(
        "--device", type=choice, default="auto", envvar="ASIF_DEVICE", show_default=True, help="Where encoders run."
    )(command)


def engine(command: F) -> F:
    """Add --engine."""
    choice = click.Choice(["auto", "cpu", "cuda", "torch", "faiss", "reference"])
    return click.option(
        "--engine",
        type=choice,
        default="auto",
        show_default=True,
        help="What computes similarities; all agree exactly.",
    )(command)


ALIGNER = (
    click.option(
        "--aligner",
        default="auto",
        show_default=True,
        help="auto (what the anchors were tuned to, see asif tune; else what does well on most), asif, asif-paper, "
        "procrustes, ridge, cca, or a sum: 'cca(lambda=3)+0.5*asif(k=200)'.",
    ),
    click.option(
        "--k",
        type=int,
        help="asif: anchors kept per input.  [default: grows with the anchors, 58 of 1,000; asif-paper: 800]",
    ),
    click.option("--power", type=float, help="asif: exponent of similarities.  [default: 3; asif-paper: 8]"),
    click.option("--centre", is_flag=True, help="asif: subtract the anchors' mean on each side."),
    click.option(
        "--lambda", "strength", type=float, help="ridge, cca: how far to shrink.  [default: ridge 0.1; cca 1]"
    ),
    click.option("--size", type=int, help="procrustes, ridge, cca: directions kept.  [default: all]"),
    click.option("--towards", type=click.Choice(["image", "text"]), help="ridge: what is predicted.  [default: image]"),
    click.option("--weight", type=float, help="cca: power of the correlations that weigh axes.  [default: 1]"),
    click.option(
        "--hubness",
        type=click.Choice(["none", "nnn", "csls"]),
        help="Take off how easily a label is everyone's neighbour, judged by the anchors.  [default: as tuned]",
    ),
)


def aligner(command: F) -> F:
    """Add --aligner and the parameters of all aligners."""
    for option in reversed(ALIGNER):
        command = option(command)
    return command


ANCHORS = (
    click.option(
        "--anchors",
        default="imagenet-head",
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
    click.option(
        "--where", metavar="EXPR", help="Only pairs that it is true of: source = 'X', see asif anchors remove."
    ),
)


def anchors(command: F) -> F:
    """Add --anchors, and --license and --where, which leave some of them out."""
    for option in reversed(ANCHORS):
        command = option(command)
    return command


class Line(click.types.StringParamType):
    """A text that may be repeated; by environment one per line, so that it may hold blanks."""

    envvar_list_splitter = "\n"


PROMPTS = (
    click.option("--template", multiple=True, metavar="T", type=Line(), help="A text with {} in it; may be repeated."),
    click.option(
        "--templates",
        metavar="NAME",
        help="Templates by name: plain, photo, photos, aerial, medical, product, open-clip:imagenet, "
        "open-clip:openai-simple.",
    ),
    click.option("--template-mode", type=click.Choice(["mean", "max"]), help="[default: mean; asif-paper: max]"),
)


def prompts(command: F) -> F:
    """Add --template, --templates and --template-mode."""
    for option in reversed(PROMPTS):
        command = option(command)
    return command


def chosen_templates(written: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    """Return the templates that were written out, or those of a name; none where neither was given."""
    from asif.prompts import templates

    if written and name is not None:
        raise UsageError("--template and --templates", "one of the two", "leave one out")
    return written if name is None else templates(name)


def lines(file: Path) -> tuple[str, ...]:
    """Read the labels of a file, one per line; blank lines at its end do not count."""
    try:
        return tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error})", "a UTF-8 text, one label per line", "check it") from error


def columns(given: tuple[str, ...]) -> dict[str, str]:
    """Split ROLE=NAME.

    >>> columns(("label=fine_label",))
    {'label': 'fine_label'}
    """
    return dict(column.partition("=")[::2] for column in given)


def chosen_aligner(given: Mapping[str, Any]) -> tuple[Aligner | None, Hubness | None]:
    """Make what the options name: an aligner, or None for what suits the anchors; a hubness correction, or None."""
    from asif.aligners import PARAMETER_NAMES, Hubness
    from asif.engine import named_aligner

    named = named_aligner(given["aligner"], {name: given[name] for name in PARAMETER_NAMES})
    return named, Hubness(given["hubness"]) if given["hubness"] else None


def open_engine(given: Mapping[str, Any], aligner: Aligner | None, hubness: Hubness | None) -> Engine:
    """Open the engine that the options describe."""
    from asif.engine import Engine

    licences = given.get("licences")
    return Engine(
        given["anchors"],
        where=given.get("where"),
        licences=None if licences is None else licences.split(","),
        home=given["home"],
        aligner=aligner,
        hubness=hubness,
        device=given["device"],
        kernel=given["engine"],
    )


def how(engine: Engine, task: Task) -> dict[str, Any]:
    """Return how an engine answers a task, for JSON: aligner, parameters, correction, and the profile they are from."""
    role = engine.role(task)
    found: dict[str, Any] = {"aligner": role.choice.aligner.name, "parameters": role.fitted.parameters}
    if role.choice.hubness.method != "none":
        found["hubness"] = role.choice.hubness.parameters
    if role.choice.profile is not None:
        found["profile"] = role.choice.profile
    return found


def as_json(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


def given(names: Collection[str]) -> list[str]:
    """Return those of the running command's options that stand on its command line, as they are written there."""
    ctx = click.get_current_context()
    return [
        option.opts[0]
        for option in ctx.command.params
        if option.name in names and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def print_json(value: dict[str, Any]) -> None:
    """Print one object on one line of stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def notice(text: str) -> None:
    """Print a line to stderr."""
    click.echo(text, err=True)


def table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> None:
    """Print columns, left-aligned, as wide as their widest cell."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    for row in [header, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def bytes_text(count: int) -> str:
    """Write a size in bytes for people.

    >>> bytes_text(999), bytes_text(20_500_000)
    ('999 B', '20.5 MB')
    """
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def progress_bar(total: int, unit: str) -> Any:
    """Open a tqdm bar on stderr; silent when stderr is not a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, disable=not sys.stderr.isatty(), file=sys.stderr)
