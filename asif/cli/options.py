"""Options that several commands share, and the ways in which all of them print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., Any])


def home(command: F) -> F:
    """Add --home."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="ASIF_HOME",
        help="Where anchor sets and caches live.  [default: the user's data folder]",
    )(command)


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
        default="asif",
        show_default=True,
        help="asif, asif-paper, or a closed-form map: procrustes, ridge, cca.",
    ),
    click.option("--k", type=int, help="asif: anchors kept per input.  [default: 50; asif-paper: 800]"),
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
        default="none",
        show_default=True,
        help="Take off how easily a label is everyone's neighbour, judged by the anchors.",
    ),
)


def aligner(command: F) -> F:
    """Add --aligner and the parameters of all aligners."""
    for option in reversed(ALIGNER):
        command = option(command)
    return command


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
