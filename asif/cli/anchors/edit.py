"""asif anchors remove|subset|merge, and add|update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.anchorset import AnchorSet
    from asif.anchorset.edit.purge import Erased
    from asif.anchorset.edit.upsert import Put
    from asif.building.merge import OnConflict
    from asif.encoders import Device

SHOWN = 10  # pairs of a dry run, without --json

CHOICE = (
    click.option("--id", "ids", multiple=True, metavar="ID", type=options.Line(), help="A pair; may be repeated."),
    click.option("--ids-file", type=click.Path(path_type=Path), metavar="FILE", help="Ids, one per line."),
    click.option("--where", metavar="EXPR", help="Pairs that it is true of: licence = 'X' and caption like '%dog%'."),
    click.option("--missing-ok", is_flag=True, help="Leave out ids that the set does not have."),
)


def choice(command: Any) -> Any:
    """Add --id, --ids-file, --where and --missing-ok."""
    for option in reversed(CHOICE):
        command = option(command)
    return command


def chosen(ids: tuple[str, ...], ids_file: Path | None, where: str | None, missing_ok: bool) -> dict[str, Any]:
    """Return what the options choose pairs by; raises UsageError unless by ids or by an expression."""
    by_id = bool(ids) or ids_file is not None
    if by_id == (where is not None) or (where is not None and missing_ok):
        raise UsageError(
            "--where beside ids or --missing-ok" if where is not None else "no pairs were named",
            "ids, or an expression",
            "pass --id, --ids-file, or --where EXPR alone",
        )
    if where is not None:
        return {"where": where}
    return {"ids": [*ids, *(options.lines(ids_file) if ids_file else ())], "missing_ok": missing_ok}


@click.command("remove")
@click.argument("ref")
@choice
@click.option("--dry-run", is_flag=True, help="Print the pairs that would go, and change nothing.")
@click.option("--purge", is_flag=True, help="Delete them from disk too, with every older version that holds them.")
@click.option(
    "--receipt",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what proves the removal: asif anchors verify REF --receipt FILE checks it.",
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
    """Make a version without some pairs, and make it current; older versions keep them, but for --purge.

    EXPR compares id, source, licence, url and caption with =, !=, in ('a', 'b') and like (% any text, _ a character),
    joined by and, or, not and brackets. Of several captions one must fit; what a pair lacks is equal to nothing.
    """
    which = chosen(ids, ids_file, where, missing_ok)
    if dry_run and (purge or receipt):
        given = "--purge" if purge else "--receipt"
        raise UsageError(f"--dry-run with {given}", "one of them", f"look with --dry-run alone, then use {given}")
    if dry_run:
        show(ref, which, home, as_json)
        return
    with options.store(home).open(ref) as before:
        if purge:
            after = purged(ref, which, receipt, home)
        else:
            after = options.store(home).remove(ref, **which, receipt=receipt)
    told = {"name": after.name, "version": after.version, "digest": after.digest, "anchors": after.count}
    removed = after.manifest.operation["pairs"] if after.version != before.version else 0
    if receipt is not None and receipt.exists():
        told["receipt"] = str(receipt)
        options.notice(f"receipt: {receipt}")
    if as_json:
        options.print_json({**told, "removed": removed})
    elif removed:
        click.echo(f"{after.ref}: {removed:,} pairs removed, {after.count:,} left, digest {after.digest[:12]}")
    else:
        options.notice(f"{after.ref} has no such pairs" + (" any more" if purge else "; nothing was changed"))


def purged(ref: str, which: dict[str, Any], receipt: Path | None, home: Path | None) -> AnchorSet:
    """Purge pairs; say what is deleted, and what is left."""
    from asif.engine import purge_pairs

    done = purge_pairs(ref, **which, receipt=receipt, home=home, saying=warn)
    options.notice(f"deleted {done.swept.files:,} files, {options.bytes_text(done.swept.bytes)}")
    for problem in done.left:
        options.notice(f"left: {problem}")
    return done.anchors


def warn(erased: Erased) -> None:
    """Say which versions are about to be deleted."""
    options.notice(f"versions that hold the pairs are deleted: {', '.join(erased.versions) or 'none'}")


def show(ref: str, which: dict[str, Any], home: Path | None, as_json: bool) -> None:
    """Print the pairs that are chosen."""
    from asif.anchorset import find_rows

    with options.store(home).open(ref) as anchors:
        rows = find_rows(anchors, **which)
        records = anchors.records(rows if as_json else rows[:SHOWN])
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
            click.echo(f"{record.id}  {record.captions[0]}")
    if not as_json:
        click.echo(f"{len(rows):,} pairs of {anchors.count:,} would be removed")


@click.command("subset")
@click.argument("ref")
@choice
@click.option("--name", required=True, metavar="NEW", help="What the new set is called.")
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
    """Make a set of some pairs of another; nothing is encoded again. EXPR is that of `asif anchors remove`."""
    from asif.engine import subset_anchors

    which = chosen(ids, ids_file, where, missing_ok)
    tell(subset_anchors(ref, name, home=home, **which), as_json)


@click.command("merge")
@click.argument("a")
@click.argument("b")
@click.option("--name", required=True, metavar="NEW", help="What the set of both is called.")
@click.option(
    "--on-conflict",
    type=click.Choice(["refuse", "first"]),
    default="refuse",
    show_default=True,
    help="What becomes of ids that stand for other pairs in B than in A.",
)
@options.home
@options.as_json
def merge(a: str, b: str, name: str, on_conflict: OnConflict, home: Path | None, as_json: bool) -> None:
    """Make a set of the pairs of two that the same encoders made; a pair that both have is taken once."""
    from asif.engine import merge_anchors

    tell(merge_anchors(a, b, name, on_conflict=on_conflict, home=home), as_json)


def putting(kind: Put, about: str) -> click.Command:
    """Make the command that puts pairs into a set in one of two ways."""

    @click.command(kind, help=about)
    @click.argument("ref")
    @click.argument("pairs")
    @click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="As for asif build-anchors.")
    @click.option("--max-bad-rows", default="1%", show_default=True, help="How many rows may be bad: 1%, or 25.")
    @options.device
    @options.home
    @options.as_json
    def command(
        ref: str,
        pairs: str,
        columns: tuple[str, ...],
        max_bad_rows: str,
        device: Device,
        home: Path | None,
        as_json: bool,
    ) -> None:
        from asif.building import Tolerance
        from asif.engine import add_pairs
        from asif.pairs import open_pairs

        tolerance, source = Tolerance.parse(max_bad_rows), open_pairs(pairs, columns=options.columns(columns))
        options.notice(source.describe())
        with options.store(home).open(ref) as anchors:
            before = anchors.version
        with options.progress_bar(source.rows, "pair") as bar:
            after = add_pairs(
                ref,
                source,
                kind=kind,
                max_bad_rows=tolerance,
                home=home,
                device=device,
                progress=lambda rows: bar.update(rows - bar.n),
            )
        done = dict(after.manifest.operation) if after.version != before else {"pairs": 0}
        if as_json:
            about = {"name": after.name, "version": after.version, "digest": after.digest, "anchors": after.count}
            options.print_json({**about, "operation": done})
        else:
            click.echo(f"{after.ref}: {done['pairs']:,} pairs put in, {after.count:,} now, digest {after.digest[:12]}")

    return command


add = putting(
    "add", "Put new pairs into a set: only they are encoded, by its own encoders. Ids that it has are refused."
)
update = putting(
    "update", "Put pairs in place of those with the same ids: other captions, images, sources or licences."
)


def tell(made: AnchorSet, as_json: bool) -> None:
    """Print what was made of other sets."""
    if as_json:
        about = {"name": made.name, "version": made.version, "digest": made.digest, "anchors": made.count}
        options.print_json({**about, "operation": dict(made.manifest.operation)})
    else:
        origin = made.manifest.operation["from"]
        click.echo(f"{made.ref}: {made.count:,} anchors of {origin}, digest {made.digest[:12]}")
