"""asif anchors remove|subset|merge, and add|update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from asif.cli import options
from asif.cli.anchors.version_summary import summarise_version
from asif.cli.build_summary import describe_stages, summarise_stages
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet
    from asif.anchorset.edit.purge import PurgePlan
    from asif.anchorset.edit.upsert import UpsertKind
    from asif.building import BuildResult
    from asif.building.merge import OnConflict
    from asif.pairs import PairSource

_SHOWN = 10  # pairs that a dry run prints without --json

_CHOICE_OPTIONS = (
    click.option("--id", "ids", multiple=True, metavar="ID", type=options.LineType(), help="A pair; may be repeated."),
    click.option(
        "--ids-file", type=click.Path(path_type=Path), metavar="FILE", help="Ids: one per line, or a JSON list."
    ),
    click.option("--where", metavar="EXPR", help="Pairs that match: licence = 'X' and caption like '%dog%'."),
    click.option("--missing-ok", is_flag=True, help="Leave out ids that the set does not have."),
)


class _PairChoice(TypedDict, total=False):
    """Hold the arguments by which pairs are chosen: ids, or an expression."""

    ids: list[str]
    missing_ok: bool
    where: str


def _choice_options(command: options.Command) -> options.Command:
    """Add --id, --ids-file, --where and --missing-ok."""
    for option in reversed(_CHOICE_OPTIONS):
        command = option(command)
    return command


def _parse_choice(ids: tuple[str, ...], ids_file: Path | None, where: str | None, missing_ok: bool) -> _PairChoice:
    """Return the ids or the expression that the options give; raises UsageError for both or neither."""
    by_id = bool(ids) or ids_file is not None
    if by_id == (where is not None) or (where is not None and missing_ok):
        raise UsageError(
            "--where with ids or --missing-ok" if where is not None else "no pairs were named",
            "ids, or an expression",
            "pass --id, --ids-file, or --where EXPR alone",
        )
    if where is not None:
        return {"where": where}
    from asif.anchorset.select.ids_file import read_ids_file

    return {"ids": [*ids, *(read_ids_file(ids_file) if ids_file else ())], "missing_ok": missing_ok}


@click.command("remove")
@click.argument("ref")
@_choice_options
@click.option("--dry-run", is_flag=True, help="Print the pairs that would be removed, and change nothing.")
@click.option("--purge", is_flag=True, help="Delete them from disk too, with every older version that holds them.")
@click.option(
    "--receipt",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a proof of the removal; asif anchors verify REF --receipt FILE checks it.",
)
@options.home
@options.as_json
def remove(
    ref: str,
    ids: tuple[str, ...],
    ids_file: Path | None,
    where: str | None,
    missing_ok: bool,
    dry_run: bool,
    purge: bool,
    receipt: Path | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Publish a version without some pairs, and make it current; older versions keep them, except with --purge.

    EXPR compares id, source, licence, url and caption with =, !=, in ('a', 'b') and like (% any text, _ a character),
    joined by and, or, not and brackets. Of several captions one must match; missing fields never match.
    """
    choice = _parse_choice(ids, ids_file, where, missing_ok)
    if dry_run and (purge or receipt):
        given = "--purge" if purge else "--receipt"
        raise UsageError(f"--dry-run with {given}", "one of them", f"look with --dry-run alone, then use {given}")
    if dry_run:
        _print_chosen_pairs(ref, choice, home, as_json)
        return
    with options.open_store(home).open(ref) as before:
        if purge:
            after = _purge(ref, choice, receipt, home)
        else:
            after = options.open_store(home).remove(ref, **choice, receipt=receipt)
    about = summarise_version(after)
    removed = after.manifest.operation["pairs"] if after.version != before.version else 0
    if receipt is not None and receipt.exists():
        about["receipt"] = str(receipt)
        options.print_notice(f"receipt: {receipt}")
    if as_json:
        options.print_json({**about, "removed": removed})
    elif removed:
        options.print_text(f"{after.ref}: {removed:,} pairs removed, {after.count:,} left, digest {after.digest[:12]}")
    else:
        options.print_notice(f"{after.ref} has no such pairs" + (" any more" if purge else "; nothing was changed"))


def _purge(ref: str, choice: _PairChoice, receipt: Path | None, home: Path | None) -> AnchorSet:
    """Purge pairs; print what was deleted and any residue."""
    from asif.engine import purge_pairs

    result = purge_pairs(ref, **choice, receipt=receipt, home=home, saying=_print_purge_plan)
    options.print_notice(f"deleted {result.swept.files:,} files, {options.format_bytes(result.swept.bytes)}")
    for problem in result.residues:
        options.print_notice(f"left: {problem}")
    return result.anchors


def _print_purge_plan(plan: PurgePlan) -> None:
    """Print which versions are about to be deleted."""
    options.print_notice(f"versions that hold the pairs are deleted: {', '.join(plan.versions) or 'none'}")


def _print_chosen_pairs(ref: str, choice: _PairChoice, home: Path | None, as_json: bool) -> None:
    """Print the chosen pairs, for --dry-run."""
    from asif.anchorset import find_rows

    with options.open_store(home).open(ref) as anchors:
        rows = find_rows(anchors, **choice)
        records = anchors.records(rows if as_json else rows[:_SHOWN])
    for record in records:
        if as_json:
            options.print_json(
                {
                    "id": record.id,
                    "captions": record.captions,
                    "source": record.source,
                    "licence": record.licence,
                    "url": record.url,
                }
            )
        else:
            options.print_text(f"{record.id}  {record.captions[0]}")
    if not as_json:
        options.print_text(f"{len(rows):,} pairs of {anchors.count:,} would be removed")


@click.command("subset")
@click.argument("ref")
@_choice_options
@click.option("--name", required=True, metavar="NEW", help="Name of the new set.")
@options.home
@options.as_json
def subset(
    ref: str,
    ids: tuple[str, ...],
    ids_file: Path | None,
    where: str | None,
    missing_ok: bool,
    name: str,
    home: Path | None,
    as_json: bool,
) -> None:
    """Make a set of some pairs of another; runs no encoder. For EXPR see `asif anchors remove`."""
    from asif.engine import subset_anchors

    choice = _parse_choice(ids, ids_file, where, missing_ok)
    _print_derived_set(subset_anchors(ref, name, home=home, **choice), as_json)


@click.command("merge")
@click.argument("a")
@click.argument("b")
@click.option("--name", required=True, metavar="NEW", help="Name of the new set.")
@click.option(
    "--on-conflict",
    type=click.Choice(["refuse", "first"]),
    default="refuse",
    show_default=True,
    help="Ids that belong to different pairs in A and B: refuse them, or take those of A.",
)
@options.home
@options.as_json
def merge(a: str, b: str, name: str, on_conflict: OnConflict, home: Path | None, as_json: bool) -> None:
    """Make a set of the pairs of two sets made by the same encoders; pairs that both have are taken once."""
    from asif.engine import merge_anchors

    _print_derived_set(merge_anchors(a, b, name, on_conflict=on_conflict, home=home), as_json)


def _make_upsert_command(kind: UpsertKind, help_text: str) -> click.Command:
    """Make the command that adds or updates pairs of a set."""

    @click.command(kind, help=help_text)
    @click.argument("ref")
    @click.argument("pairs")
    @options.rows
    @options.device
    @options.backend
    @options.home
    @options.as_json
    def command(ref: str, pairs: str, as_json: bool, dry_run: bool, **params: Any) -> None:
        from asif.building import BuildOptions, Tolerance
        from asif.engine import add_pairs
        from asif.pairs import open_pairs

        rows = BuildOptions(
            dedup=params["dedup"],
            limit=params["limit"],
            max_bad_rows=Tolerance.parse(params["max_bad_rows"]),
            resume=params["resume"],
        )
        source = open_pairs(
            pairs,
            columns=options.parse_columns(params["columns"]),
            split=params["split"],
            captions_from=params["captions_from"],
            template=params["template"],
            modality=options.find_data_modality(ref, params["home"]),
        )
        options.print_notice(source.describe())
        with options.open_store(params["home"]).open(ref) as anchors:
            before = anchors.version
            if dry_run:
                _print_estimate(source, anchors, rows.limit, params["home"], as_json)
                return
        encoded: list[BuildResult] = []
        total = source.rows if rows.limit is None else min(rows.limit, source.rows)
        with options.open_progress_bar(total, "pair") as bar:
            after = add_pairs(
                ref,
                source,
                kind=kind,
                options=rows,
                home=params["home"],
                device=params["device"],
                backend=params["backend"],
                progress=lambda rows: bar.update(rows - bar.n),
                report=encoded.append,
            )
        operation = dict(after.manifest.operation) if after.version != before else {"pairs": 0}
        if as_json:
            stages = summarise_stages(encoded[0]) if encoded else {}
            options.print_json({**summarise_version(after), "operation": operation, **stages})
        else:
            done = f"{operation['pairs']:,} pairs {'added' if kind == 'add' else 'updated'}"
            options.print_text(f"{after.ref}: {done}, {after.count:,} now, digest {after.digest[:12]}")
            for built in encoded:
                options.print_lines(describe_stages(built))

    return command


add = _make_upsert_command(
    "add", "Add new pairs to a set; only they are encoded, by the set's own encoders. Ids that the set has are refused."
)
update = _make_upsert_command(
    "update", "Replace pairs by those with the same ids and other captions, images, sources or licences."
)


def _print_estimate(
    source: PairSource, anchors: AnchorSet, limit: int | None, home: Path | None, as_json: bool
) -> None:
    """Print what encoding the pairs with a set's encoders takes."""
    from asif.building.estimate import estimate_build

    image, text = anchors.encoder_spec("image"), anchors.encoder_spec("text")
    estimated = estimate_build(source, image, text, anchors.manifest.dtype, limit, options.open_store(home).root)
    if as_json:
        options.print_json(estimated.as_dict())
    else:
        options.print_lines(estimated.as_text())


def _print_derived_set(anchors: AnchorSet, as_json: bool) -> None:
    """Print a set that was made from others."""
    if as_json:
        options.print_json({**summarise_version(anchors), "operation": dict(anchors.manifest.operation)})
    else:
        origin = anchors.manifest.operation["from"]
        options.print_text(f"{anchors.ref}: {anchors.count:,} anchors of {origin}, digest {anchors.digest[:12]}")
