"""asif anchors verify|receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import UsageError

if TYPE_CHECKING:
    from asif.engine.unlearning import Verified

SHOWN = 5  # ids of each kind, without --json


@click.command("verify")
@click.argument("ref")
@click.option(
    "--receipt",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check the receipt of a removal too: that the set has none of the pairs, and after a purge no file of the "
    "store either.",
)
@click.option(
    "--against",
    metavar="PAIRS",
    help="Compare with the pairs that the set was built from, less those of the receipt; none is encoded.",
)
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="--against: as it was built with.")
@click.option("--limit", type=click.IntRange(1), help="--against: as it was built with.")
@options.home
@options.as_json
def verify(
    ref: str,
    file: Path | None,
    against: str | None,
    columns: tuple[str, ...],
    limit: int | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Check every byte of an anchor set: hashes, headers, counts, digest. Exit code 5 if anything is wrong."""
    if against is None and (columns or limit):
        raise UsageError("--column or --limit without --against", "the pairs they are about", "pass --against PAIRS")
    report = options.store(home).verify(ref)
    found = None
    if not report.problems and (file or against):
        found = _removal(ref, file, against, columns, limit, home)
    problems = [*report.problems, *(found.problems if found else ())]
    if as_json:
        about: dict[str, Any] = {"ref": ref, "files": report.files, "bytes": report.bytes}
        options.print_json({**about, "problems": [str(problem) for problem in problems], **_described(found)})
    elif found:
        _tell(found)
    report.raise_if_bad()
    if found:
        found.raise_if_bad()
    if not as_json:
        click.echo(f"{ref}: {report.files} files, {options.bytes_text(report.bytes)}, all as written")


def _removal(
    ref: str, file: Path | None, against: str | None, columns: tuple[str, ...], limit: int | None, home: Path | None
) -> Verified:
    from asif.anchorset.receipt_files import read_receipt
    from asif.engine import verify_removal
    from asif.pairs import open_pairs

    receipt = None if file is None else read_receipt(file)
    source = None if against is None else open_pairs(against, columns=options.columns(columns))
    if source is not None:
        options.notice(source.describe())
    with options.progress_bar(source.rows if source else 0, "pair") as bar:
        return verify_removal(
            ref, receipt, source, limit=limit, home=home, progress=lambda rows: bar.update(rows - bar.n)
        )


def _described(found: Verified | None) -> dict[str, Any]:
    """Return what was found, for JSON."""
    about: dict[str, Any] = {}
    if found and found.checked:
        checked = found.checked
        about["receipt"] = {
            "set": checked.receipt.name,
            "before": vars(checked.receipt.before),
            "after": vars(checked.receipt.after),
            "removed": len(checked.receipt.removed),
            "erased": len(checked.receipt.erased),
            "purged": checked.receipt.purged,
            "recomputed": checked.after_is_there,
            "limits": list(checked.receipt.limits),
        }
        if checked.traces:
            traces = checked.traces
            about["searched"] = {
                "files": traces.files,
                "bytes": traces.bytes,
                "not_read": [str(path) for path in traces.unread],
                "equal_embeddings": {str(path): count for path, count in traces.shared.items()},
            }
    if found and found.beside:
        beside = found.beside
        about["against"] = {
            "digest": beside.digest,
            "pairs": beside.pairs,
            "missing": list(beside.missing),
            "more": list(beside.more),
            "rejected": beside.rejected,
            "removed": beside.removed,
        }
    return about


def _tell(found: Verified) -> None:
    """Print what was found, for people."""
    if found.checked:
        checked, receipt = found.checked, found.checked.receipt
        gone = len(receipt.removed) + len(receipt.erased)
        again = "digest and root recomputed" if checked.after_is_there else "that version is gone, its proof holds"
        click.echo(
            f"receipt: {gone:,} rows are not in {receipt.after.version} ({again}); "
            f"it is {receipt.before.version} without {len(receipt.removed):,} of them, and nothing else changed"
        )
        if checked.traces:
            traces = checked.traces
            click.echo(f"searched: {traces.files:,} files, {options.bytes_text(traces.bytes)}, for rows and embeddings")
            for path in traces.unread:
                click.echo(f"not read: {path} is no plain file")
            for path, count in traces.shared.items():
                click.echo(f"equal: {path} has {count:,} such embeddings of other pairs, of the same image or caption")
    if found.beside:
        beside = found.beside
        click.echo(
            f"against: {beside.pairs:,} pairs, {beside.removed:,} more were removed and {beside.rejected:,} rejected; "
            f"their digest is {beside.digest[:12]}"
        )
        for what, ids in (("missing", beside.missing), ("besides", beside.more)):
            if ids:
                shown = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
                click.echo(f"{what}: {len(ids):,} ({shown})")


@click.command("receipt")
@click.argument("ref")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--before", metavar="VERSION", help="What the pairs were removed from.  [default: the parent of REF]")
@options.home
@options.as_json
def receipt(ref: str, file: Path, before: str | None, home: Path | None, as_json: bool) -> None:
    """Write the receipt of a removal that is done, as `asif anchors remove --receipt FILE` does.

    REF is the version that was made. A purge deletes what its receipt is made of, and must be given the FILE itself.
    """
    from asif.anchorset.receipt_files import check_place, write_receipt

    check_place(file)
    made = options.store(home).receipt(ref, before)
    write_receipt(file, made)
    about = {"receipt": str(file), "before": made.before.version, "after": made.after.version}
    if as_json:
        options.print_json({**about, "removed": len(made.removed)})
    else:
        click.echo(f"{file}: {made.after.version} is {made.before.version} without {len(made.removed):,} rows")
