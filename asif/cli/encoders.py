"""asif encoders list|compare."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet
    from asif.evaluate.encoder_pairs.embeddings import SeenPairs
    from asif.evaluate.encoder_pairs.permutation_test import Measured
    from asif.evaluate.encoder_pairs.ranking import EncoderPair

ENCODING = ("image_encoders", "text_encoders", "captions", "device")
FIGURES = ("shuffled", "z", "p")
HEADER = ("encoders", "mutual k-NN", *FIGURES, "debiased CKA", *FIGURES, "linear CKA", "shuffled", "pairs", "dims")


@click.group("encoders")
def command() -> None:
    """List encoders, and compare pairs of them before building anything."""


@command.command("list")
@options.as_json
def list_(as_json: bool) -> None:
    """List the forms of encoder names, and which are installed."""
    from asif.encoders import DEFAULT_ENCODERS
    from asif.encoders.catalogue import list_encoders

    rows: list[tuple[str, ...]] = []
    for entry in list_encoders():
        if as_json:
            options.print_json({**asdict(entry), "default": entry.spec == DEFAULT_ENCODERS[entry.side]})
            continue
        state = "-" if entry.install is None else entry.installed or f"no: {entry.install}"
        rows.append((entry.side, entry.spec, str(entry.dim or "-"), state, entry.about))
    if not as_json:
        options.print_table(rows, ("side", "encoder", "dim", "installed", "what"))


@command.command("compare")
@click.argument("what", nargs=-1, required=True, metavar="PAIRS_OR_REF...")
@click.option("--image-encoder", "image_encoders", multiple=True, metavar="E", help="Embed the images with this too.")
@click.option("--text-encoder", "text_encoders", multiple=True, metavar="E", help="Embed the captions with this too.")
@click.option("--limit", type=click.IntRange(min=1), default=5000, show_default=True, help="Pairs, spread evenly.")
@click.option("--k", type=int, default=10, show_default=True, help="Nearest neighbours that are compared.")
@click.option(
    "--permutations", type=click.IntRange(min=2), default=200, show_default=True, help="Shuffled pairings beside it."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shuffling.")
@click.option(
    "--captions",
    type=click.Choice(["mean", "first"]),
    default="mean",
    show_default=True,
    help="Several captions per image: their mean, or the first.",
)
@options.device
@options.home
@options.as_json
def compare(what: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Rank encoder pairs by how alike they see the same pairs: mutual k-NN and linear CKA, beside shuffled pairings.

    PAIRS_OR_REF is one source of image-text pairs, which every encoder named embeds once (default: the embedded ones),
    or anchor sets over the same pairs, whose stored embeddings are taken: no encoder is loaded. An anchor set goes
    before a file or folder of the same name; write ./NAME for that.
    """
    from asif.evaluate.encoder_pairs.ranking import rank, verdict, warnings

    seen = look(what, given)
    if seen.rejects:
        reasons = "; ".join(f"row {reject.row}: {reject.reason}" for reject in seen.rejects[:3])
        options.print_notice(f"{len(seen.rejects):,} rows left out, {len(seen):,} compared ({reasons})")
    combinations = len(seen.images) * len(seen.texts)
    with options.open_progress_bar(combinations * given["permutations"], "shuffle") as bar:
        pairs = rank(seen, given["k"], given["permutations"], given["seed"], bar.update)
    if as_json:
        how = {name: given[name] for name in ("k", "permutations", "seed")}
        for place, pair in enumerate(pairs, 1):
            options.print_json({"rank": place, **pair.as_dict(), **how})
    else:
        options.print_table([row(pair) for pair in pairs], HEADER)
    for line in verdict(pairs):
        (options.print_notice if as_json else click.echo)(line)
    for line in warnings(pairs):
        options.print_notice(f"warning: {line}")


def look(what: tuple[str, ...], given: dict[str, Any]) -> SeenPairs:
    """Take the pairs out of anchor sets, or embed them."""
    from asif.encoders import DEFAULT_ENCODERS, check_spec
    from asif.evaluate.encoder_pairs.embeddings import from_anchors

    with ExitStack() as stack:
        sets = [stack.enter_context(found) for one in what if (found := anchors_of(one, given)) is not None]
        if len(sets) == len(what):
            refuse_options("anchor sets", "their embeddings are stored already")
            return from_anchors(sets, given["limit"])
    if len(what) > 1:
        raise UsageError(
            f"{len(what)} inputs, {len(what) - len(sets)} of them pairs",
            "one source of pairs, or anchor sets only",
            "name the encoders with --image-encoder and --text-encoder, or build an anchor set with each",
        )
    images, texts = (
        given["image_encoders"] or (DEFAULT_ENCODERS["image"],),
        given["text_encoders"] or (DEFAULT_ENCODERS["text"],),
    )
    for spec in images:
        check_spec(spec, "image")
    for spec in texts:
        check_spec(spec, "text")
    return embed(what[0], images, texts, given)


def anchors_of(what: str, given: dict[str, Any]) -> AnchorSet | None:
    """Open an anchor set, or return None where it is a file or folder of pairs."""
    from asif.engine import open_anchors

    try:
        return open_anchors(what, home=given["home"])
    except UsageError as error:
        if "://" in what or Path(what).exists():
            return None
        raise UsageError(
            f"{what!a} is neither an anchor set nor a file: {error.came}",
            f"a path to image-text pairs, or {error.expected}",
            "check the path, or list the sets with: asif anchors list",
        ) from None


def embed(path: str, images: tuple[str, ...], texts: tuple[str, ...], given: dict[str, Any]) -> SeenPairs:
    """Embed pairs with every encoder."""
    from asif.evaluate.encoder_pairs.embed import from_pairs
    from asif.pairs import open_pairs

    source = open_pairs(path)
    if source.dims:
        refuse_options("precomputed vectors", "there is nothing to embed")
    options.print_notice(source.describe())
    encoders = 2 if source.dims else len(set(images)) + len(set(texts))
    with options.open_progress_bar(encoders * min(given["limit"], source.rows), "row") as bar:
        return from_pairs(source, images, texts, given["limit"], given["captions"], given["device"], bar.update)


def refuse_options(what: str, why: str) -> None:
    """Refuse options that would have no effect; raises UsageError."""
    idle = options.list_given_options(ENCODING)
    if idle:
        raise UsageError(f"{', '.join(idle)} with {what}", f"none of them: {why}", "leave them out")


def row(pair: EncoderPair) -> tuple[str, ...]:
    """Write one line of the table."""
    return (
        pair.name,
        *cells(pair.alignment.mutual_knn),
        *cells(pair.alignment.cka_debiased),
        *cells(pair.alignment.cka)[:2],
        f"{len(pair.image.values):,}",
        f"{pair.image.values.shape[1]} + {pair.text.values.shape[1]}",
    )


def cells(measured: Measured | None) -> tuple[str, str, str, str]:
    """Write a measure with its error, what shuffled pairings come to, z and p."""
    if measured is None:
        return ("-",) * 4
    return (
        f"{measured.value:.4f} ± {measured.standard_error:.4f}",
        f"{measured.null_mean:.4f} ± {measured.null_sd:.4f}",
        "-" if measured.z is None else f"{measured.z:.1f}",
        f"{measured.p:.3f}",
    )
