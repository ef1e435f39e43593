"""asif train-freeze-align: on cached vectors, or with --tokens on all tokens of the pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from asif.cli import options
from asif.cli.train import command_of, made, run
from asif.errors import UsageError

TOKENS = (
    click.Option(
        ["--tokens"],
        metavar="PAIRS",
        help="Train on all tokens, not on vectors; PAIRS are those that the anchors were built from. What comes of it "
        "is for Python, not for --aligner.",
    ),
    click.Option(
        ["--token-dir"],
        type=click.Path(path_type=Path, file_okay=False),
        help="Where tokens are kept.  [default: cache/tokens/NAME in the store]",
    ),
    click.Option(["--column", "columns"], multiple=True, metavar="ROLE=NAME", help="Name a column, as image=photo."),
)

command = command_of("freeze-align", "freeze-align on an anchor set: projectors of one vector per image and text")
command.params[1:1] = TOKENS
on_vectors = command.callback


def callback(tokens: str | None, token_dir: Path | None, columns: tuple[str, ...], **given: Any) -> None:
    """Train on vectors, unless --tokens was given."""
    assert on_vectors is not None  # command_of gave it one
    if tokens is not None:
        on_tokens(tokens, token_dir, columns, **given)
    elif token_dir is not None or columns:
        idle = " and ".join(options.given(("token_dir", "columns"))) or "--token-dir"
        raise UsageError(f"{idle} without --tokens", "the pairs whose tokens are meant", "pass --tokens PAIRS")
    else:
        on_vectors(**given)


command.callback = callback


def on_tokens(
    pairs: str,
    folder: Path | None,
    columns: tuple[str, ...],
    anchors: str,
    device: Any,
    home: Path | None,
    as_json: bool,
    recipe: str | None,
    **given: Any,
) -> None:
    """Say what will be read and written, then train."""
    from asif.pairs import open_pairs
    from asif.rivals import FreezeAlignTokens
    from asif.rivals.train_tokens import train_on_tokens

    projector = FreezeAlignTokens(**made("freeze-align", recipe, given).parameters)
    source = open_pairs(pairs, columns=options.columns(columns))
    options.notice(source.describe())

    def announce(size: int, place: Path) -> None:
        options.notice(f"the tokens will take about {options.bytes_text(size)} in {place}")

    train = partial(train_on_tokens, anchors, projector, source, folder, home=home, device=device, announce=announce)
    run(train, projector.name, as_json)
