"""asif anchors verify|receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from asif.engine.purge import Verified

SHOWN = 5  # ids of each kind, without --json


@click.command("verify")
@click.argument("ref")
@click.option(
    "--receipt",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check the receipt of a removal too: that the set has none of the pairs, and after a purge no file of the "
    "store either; may be repeated.",
)
@click.option(
    "--against",
    metavar="PAIRS",
    help="Compare with the pairs that the set was built from, less those of receipts; none is encoded.",
)
@click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="--against: as it was built with.")
@click.option("--limit", type=click.IntRange(1), help="--against: as it was built with.")
@options.home
@options.as_json
def verify(
    ref: str,
    files: tuple[Path, ...],
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
    if files or against:
        try:
            found = _removal(ref, files, against, columns, limit, home)
        except IntegrityError:
            report.raise_if_bad()  # rather why the set cannot be read
            raise
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
    ref: str,
    files: tuple[Path, ...],
    against: str | None,
    columns: tuple[str, ...],
    limit: int | None,
    home: Path | None,
) -> Verified:
    from asif.anchorset import read_receipt
    from asif.engine import verify_removal
    from asif.pairs import open_pairs

    receipts = [read_receipt(file) for file in files]
    source = None if against is None else open_pairs(against, columns=options.columns(columns))
    if source is not None:
        options.notice(source.describe())
    with options.progress_bar(source.rows if source else 0, "pair") as bar:
        return verify_removal(
            ref, receipts, source, limit=limit, home=home, progress=lambda rows: bar.update(rows - bar.n)
        )


def _described(found: Verified | None) -> dict[str, Any]:
    """Return what was found, for JSON."""
    about: dict[str, Any] = {}
    if found and found.checked:
        checked = found.checked
        about["receipts"] = [
            {
                "before": vars(receipt.before),
                "after": vars(receipt.after),
                "removed": len(receipt.removed),
                "erased": len(receipt.erased),
                "purged": receipt.purged,
                "recomputed": receipt.after.version in checked.there,
                "limits": list(receipt.limits),
            }
            for receipt in checked.receipts
        ]
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
            "removed": len(beside.removed),
        }
    return about


def _tell(found: Verified) -> None:
    """Print what was found, for people."""
    for receipt in found.checked.receipts if found.checked else ():
        again = found.checked is not None and receipt.after.version in found.checked.there
        erased = f", {len(receipt.erased):,} more were erased from older ones" if receipt.erased else ""
        click.echo(
            f"receipt: {receipt.after.version} is {receipt.before.version} without {len(receipt.removed):,} rows"
            f"{erased}; {'digest and root were recomputed' if again else 'that version is gone since'}"
        )
    traces = found.checked.traces if found.checked else None
    if traces:
        click.echo(f"searched: {traces.files:,} files, {options.bytes_text(traces.bytes)}, for rows and embeddings")
        for path in traces.unread:
            click.echo(f"not read: {path} is no plain file")
        for path, count in traces.shared.items():
            click.echo(f"equal: {path} has {count:,} such embeddings of other pairs, of the same image or caption")
    if found.beside:
        beside = found.beside
        click.echo(
            f"against: {beside.pairs:,} pairs, besides {len(beside.removed):,} that were removed and "
            f"{beside.rejected:,} rejected; a build has the digest {beside.digest[:12]}"
        )
        for what, ids in (("missing", beside.missing), ("besides", beside.more)):
            if ids:
                shown = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
                click.echo(f"{what}: {len(ids):,} ({shown})")
    for problem in found.problems:
        click.echo(f"wrong: {problem}")


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
    from asif.anchorset.receipts.receipt_file import check_place, write_receipt

    check_place(file)
    made = options.store(home).receipt(ref, before)
    write_receipt(file, made)
    about = {"receipt": str(file), "before": made.before.version, "after": made.after.version}
    if as_json:
        options.print_json({**about, "removed": len(made.removed)})
    else:
        click.echo(f"{file}: {made.after.version} is {made.before.version} without {len(made.removed):,} rows")
