"""asif encoders list|compare|bench."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asif.cli import options
from asif.cli.app import SuggestingGroup
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet
    from asif.encoders import Backend, Device, Precision
    from asif.evaluate.backend_speed import BackendSpeed
    from asif.evaluate.encoder_pairs.embed import CaptionPooling
    from asif.evaluate.encoder_pairs.embeddings import EncodedPairs
    from asif.evaluate.encoder_pairs.permutation_test import PermutationTest
    from asif.evaluate.encoder_pairs.ranking import EncoderPair
    from asif.vectors import Side

_ENCODING_OPTIONS = ("image_encoders", "text_encoders", "captions", "device", "backend", "precision")
_TEST_COLUMNS = ("shuffled", "z", "p")
_TABLE_HEADER = (
    "encoders",
    "mutual k-NN",
    *_TEST_COLUMNS,
    "debiased CKA",
    *_TEST_COLUMNS,
    "linear CKA",
    "shuffled",
    "pairs",
    "dims",
)


_SPEED_HEADER = (
    "encoder",
    "backend",
    "inputs a second",
    "range",
    "largest difference",
    "same neighbours",
    "export s",
    "load s",
    "remark",
)


@click.group("encoders", cls=SuggestingGroup)
def command() -> None:
    """List encoders, compare pairs of them before building anything, and measure what runs them fastest."""


@command.command("list")
@options.as_json
def print_encoders(as_json: bool) -> None:
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
@click.argument("inputs", nargs=-1, required=True, metavar="PAIRS_OR_REF...")
@click.option("--image-encoder", "image_encoders", multiple=True, metavar="E", help="Embed the images with this too.")
@click.option("--text-encoder", "text_encoders", multiple=True, metavar="E", help="Embed the captions with this too.")
@click.option("--joins", is_flag=True, help="Rank joins too: of each two encoders of a side, and of all of them.")
@click.option("--limit", type=click.IntRange(min=1), default=5000, show_default=True, help="Pairs, spread evenly.")
@click.option("--k", type=int, default=10, show_default=True, help="Nearest neighbours that are compared.")
@click.option(
    "--permutations",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Shuffled pairings to compare with.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the shuffled pairings."
)
@click.option(
    "--captions",
    type=click.Choice(["mean", "first"]),
    default="mean",
    show_default=True,
    help="Several captions per image: their mean, or the first.",
)
@options.split
@options.device
@options.backend
@options.precision
@options.home
@options.as_json
def rank_pairs(
    inputs: tuple[str, ...],
    image_encoders: tuple[str, ...],
    text_encoders: tuple[str, ...],
    joins: bool,
    limit: int,
    k: int,
    permutations: int,
    seed: int,
    captions: CaptionPooling,
    split: str | None,
    device: Device,
    backend: Backend,
    precision: Precision,
    home: Path | None,
    as_json: bool,
) -> None:
    """Rank encoder pairs by the alignment of their embeddings of the same pairs.

    Measures are mutual k-NN and linear CKA, compared with those of shuffled pairings.

    PAIRS_OR_REF is one source of image-text pairs, which every named encoder embeds once (default: the embedded ones),
    or anchor sets over the same pairs, whose stored embeddings are used: no encoder is loaded. An anchor set takes
    precedence over a file or folder of the same name; write ./NAME for the latter.
    """
    from asif.evaluate.encoder_pairs.embeddings import add_joins
    from asif.evaluate.encoder_pairs.ranking import describe_choices, find_ranking_warnings, rank_encoder_pairs

    encoded = _read_anchor_sets(inputs, limit, home)
    if encoded is None:
        encoded = _embed_pairs(
            inputs[0], image_encoders, text_encoders, limit, captions, split, device, backend, precision, home
        )
    elif split is not None:
        raise UsageError("--split with anchor sets", "pairs in a folder of several splits", "leave it out")
    if encoded.rejects:
        reasons = "; ".join(f"row {reject.row}: {reject.reason}" for reject in encoded.rejects[:3])
        options.print_notice(f"{len(encoded.rejects):,} rows left out, {len(encoded):,} compared ({reasons})")
    if joins:
        encoded = add_joins(encoded)
    combinations = len(encoded.images) * len(encoded.texts)
    with options.open_progress_bar(combinations * permutations, "shuffle") as bar:
        pairs = rank_encoder_pairs(encoded, k, permutations, seed, bar.update)
    if as_json:
        settings = {"k": k, "permutations": permutations, "seed": seed}
        for place, pair in enumerate(pairs, 1):
            options.print_json({"rank": place, **pair.to_json(), **settings})
    else:
        options.print_table([_format_row(pair) for pair in pairs], _TABLE_HEADER)
    for line in describe_choices(pairs):
        (options.print_notice if as_json else options.print_text)(line)
    for line in find_ranking_warnings(pairs):
        options.print_notice(f"warning: {line}")


def _read_anchor_sets(inputs: tuple[str, ...], limit: int, home: Path | None) -> EncodedPairs | None:
    """Read the stored embeddings of anchor sets; None if the one input is a source of pairs."""
    from asif.evaluate.encoder_pairs.embeddings import read_stored_pairs

    with ExitStack() as stack:
        opened = (_open_anchor_set(name, home) for name in inputs)
        sets = [stack.enter_context(anchors) for anchors in opened if anchors is not None]
        if len(sets) == len(inputs):
            _refuse_idle_options("anchor sets", "their embeddings are stored already")
            return read_stored_pairs(sets, limit)
    if len(inputs) > 1:
        raise UsageError(
            f"{len(inputs)} inputs, {len(inputs) - len(sets)} of them pairs",
            "one source of pairs, or anchor sets only",
            "name the encoders with --image-encoder and --text-encoder, or build an anchor set with each",
        )
    return None


def _open_anchor_set(name: str, home: Path | None) -> AnchorSet | None:
    """Open an anchor set, or return None if the name is that of a file or folder of pairs."""
    from asif.engine import open_anchors

    try:
        return open_anchors(name, home=home)
    except UsageError as error:
        if "://" in name or Path(name).exists():
            return None
        raise UsageError(
            f"{name!a} is neither an anchor set nor a file: {error.came}",
            f"a path to image-text pairs, or {error.expected}",
            "check the path, or list the sets with: asif anchors list",
        ) from None


def _embed_pairs(
    path: str,
    image_encoders: tuple[str, ...],
    text_encoders: tuple[str, ...],
    limit: int,
    captions: CaptionPooling,
    split: str | None,
    device: Device,
    backend: Backend,
    precision: Precision,
    home: Path | None,
) -> EncodedPairs:
    """Embed a source of pairs with every encoder named, by default with the embedded ones."""
    from asif.encoders import DEFAULT_ENCODERS, check_spec
    from asif.evaluate.encoder_pairs.embed import encode_pairs, list_parts
    from asif.pairs import open_pairs

    images, texts = image_encoders or (DEFAULT_ENCODERS["image"],), text_encoders or (DEFAULT_ENCODERS["text"],)
    for spec in images:
        check_spec(spec, "image")
    for spec in texts:
        check_spec(spec, "text")
    source = open_pairs(path, split=split)
    if source.dims:
        _refuse_idle_options("precomputed vectors", "there is nothing to embed")
    options.print_notice(source.describe())
    cache = options.open_store(home).root / "cache"
    encoders = 2 if source.dims else len(list_parts(images)) + len(list_parts(texts))
    with options.open_progress_bar(encoders * min(limit, source.rows), "row") as bar:
        return encode_pairs(source, images, texts, limit, captions, device, backend, bar.update, precision, cache)


def _refuse_idle_options(what: str, why: str) -> None:
    """Raise UsageError for options that would have no effect."""
    idle = options.list_given_options(_ENCODING_OPTIONS)
    if idle:
        raise UsageError(f"{', '.join(idle)} with {what}", f"none of them: {why}", "leave them out")


def _format_row(pair: EncoderPair) -> tuple[str, ...]:
    """Write one line of the table."""
    return (
        pair.name,
        *_format_test(pair.alignment.mutual_knn),
        *_format_test(pair.alignment.cka_debiased),
        *_format_test(pair.alignment.cka)[:2],
        f"{len(pair.image.values):,}",
        f"{pair.image.values.shape[1]} + {pair.text.values.shape[1]}",
    )


def _format_test(measured: PermutationTest | None) -> tuple[str, str, str, str]:
    """Write a measure with its error, that of shuffled pairings, z and p."""
    if measured is None:
        return ("-",) * 4
    return (
        f"{measured.value:.4f} ± {measured.standard_error:.4f}",
        f"{measured.null_mean:.4f} ± {measured.null_sd:.4f}",
        "-" if measured.z is None else f"{measured.z:.1f}",
        f"{measured.p:.3f}",
    )


@command.command("bench")
@click.option("--image-encoder", metavar="E", help="The image encoder.  [default: the embedded one]")
@click.option("--text-encoder", metavar="E", help="The text encoder.  [default: the embedded one]")
@click.option(
    "--images",
    type=click.IntRange(min=2),
    default=64,
    show_default=True,
    help="Images of each round; captions are 16 times as many.",
)
@options.home
@options.as_json
def print_speeds(
    image_encoder: str | None, text_encoder: str | None, images: int, home: Path | None, as_json: bool
) -> None:
    """Measure which backend runs the encoders fastest on the CPU of this machine.

    All backends that are installed take turns on the same images and captions, with equal threads; images are decoded
    before. --backend auto, the default of all commands, uses the fastest one whose vectors agree with those of torch.
    Of joined encoders each part is measured.
    """
    from asif.encoders import DEFAULT_ENCODERS, check_spec
    from asif.encoders.backends.choose import choose_backend
    from asif.encoders.spec import split_spec
    from asif.evaluate.backend_speed import STEPS, measure_backends

    encoders: dict[Side, str] = {
        "image": image_encoder or DEFAULT_ENCODERS["image"],
        "text": text_encoder or DEFAULT_ENCODERS["text"],
    }
    for side, spec in encoders.items():
        check_spec(spec, side)
    parts = [(side, part) for side, spec in encoders.items() for part in split_spec(spec)]
    cache = options.open_store(home).root / "cache"
    with options.open_progress_bar(len(parts) * STEPS, "round") as bar:
        rows = [row for side, part in parts for row in measure_backends(part, side, cache, images, bar.update)]
    if as_json:
        for row in rows:
            options.print_json(row.to_json())
    else:
        options.print_table([_format_speed(row) for row in rows], _SPEED_HEADER)
    for _, spec in parts:
        choice = choose_backend("auto", "auto", spec=spec, cache=cache)
        line = f"auto: {choice.backend} for {spec}, {choice.reason}"
        (options.print_notice if as_json else options.print_text)(line)


def _format_speed(row: BackendSpeed) -> tuple[str, ...]:
    """Write one line of the table."""
    backend = " ".join([row.backend, *([row.version] if row.version else [])])
    if row.agreement is None:
        return (row.encoder, backend, *("-",) * 6, row.reason or "")
    found = row.agreement
    return (
        row.encoder,
        backend,
        f"{row.median:.1f}",
        f"{min(row.rates):.1f} to {max(row.rates):.1f}",
        f"{found.largest_difference:.1e}",
        f"{row.inputs - found.other_neighbours} of {row.inputs}",
        "-" if row.export_seconds is None else f"{row.export_seconds:.1f}",
        f"{row.load_seconds:.1f}",
        "" if found.passed else "other vectors than torch: auto never uses it",
    )
