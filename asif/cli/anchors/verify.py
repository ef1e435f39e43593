"""asif anchors verify|receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asif.cli import options
from asif.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from asif.anchorset.receipts.check import ReceiptCheck
    from asif.engine.purge import RemovalCheck

_SHOWN = 5  # ids of each kind that are printed without --json


@click.command("verify")
@click.argument("ref")
@click.option(
    "--receipt",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also check the receipt of a removal: the set has none of the pairs, and after a purge no file of the store "
    "has; may be repeated.",
)
@click.option(
    "--against",
    metavar="PAIRS",
    help="Compare with the pairs that the set was built from, excluding receipted removals; runs no encoder.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="ROLE=NAME",
    help="With --against: the value used for the build.",
)
@click.option("--split", metavar="NAME", help="With --against: the value used for the build.")
@click.option("--limit", type=click.IntRange(1), help="With --against: the value used for the build.")
@options.home
@options.as_json
def verify(
    ref: str,
    files: tuple[Path, ...],
    against: str | None,
    columns: tuple[str, ...],
    split: str | None,
    limit: int | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Check every byte of an anchor set: hashes, headers, counts, digest. Exit code 5 if anything is wrong."""
    if against is None and (columns or split or limit):
        raise UsageError(
            "--column, --split or --limit without --against", "the pairs they are about", "pass --against PAIRS"
        )
    report = options.open_store(home).verify(ref)
    verified = None
    if files or against:
        try:
            verified = _verify_removal(ref, files, against, columns, split, limit, home)
        except IntegrityError:
            report.raise_if_bad()  # the cause, if the set cannot be read
            raise
    problems = [*report.problems, *(verified.problems if verified else ())]
    if as_json:
        about: dict[str, Any] = {"ref": ref, "files": report.files, "bytes": report.bytes}
        options.print_json({**about, "problems": [str(problem) for problem in problems], **_format_json(verified)})
    elif verified:
        _print_verification(verified)
    report.raise_if_bad()
    if verified:
        verified.raise_if_bad()
    if not as_json:
        options.print_text(f"{ref}: {report.files} files, {options.format_bytes(report.bytes)}, all as written")


def _verify_removal(
    ref: str,
    files: tuple[Path, ...],
    against: str | None,
    columns: tuple[str, ...],
    split: str | None,
    limit: int | None,
    home: Path | None,
) -> RemovalCheck:
    from asif.anchorset import read_receipt
    from asif.engine import verify_removal
    from asif.pairs import open_pairs

    receipts = [read_receipt(file) for file in files]
    modality = options.find_data_modality(ref, home)
    named = options.parse_columns(columns)
    source = None if against is None else open_pairs(against, columns=named, split=split, modality=modality)
    if source is not None:
        options.print_notice(source.describe())
    with options.open_progress_bar(source.rows if source else 0, "pair") as bar:
        return verify_removal(
            ref, receipts, source, limit=limit, home=home, progress=lambda rows: bar.update(rows - bar.n)
        )


def _format_json(verified: RemovalCheck | None) -> dict[str, Any]:
    """Return the result of checking a removal, for JSON."""
    about: dict[str, Any] = {}
    if verified and verified.receipt_check:
        checked = verified.receipt_check
        about["receipts"] = [
            {
                "before": vars(receipt.before),
                "after": vars(receipt.after),
                "removed": len(receipt.removed),
                "erased": len(receipt.erased),
                "purged": receipt.purged,
                "recomputed": receipt.after.version in checked.existing_versions,
                "limits": list(receipt.limits),
            }
            for receipt in checked.receipts
        ]
        if checked.residue:
            residue = checked.residue
            about["searched"] = {
                "files": residue.files,
                "bytes": residue.bytes,
                "not_read": [str(path) for path in residue.unread],
                "equal_embeddings": {str(path): count for path, count in residue.equal_embeddings.items()},
            }
    if verified and verified.comparison:
        source = verified.comparison
        about["against"] = {
            "digest": source.digest,
            "pairs": source.pairs,
            "missing": list(source.missing),
            "more": list(source.more),
            "rejected": source.rejected,
            "removed": len(source.removed),
        }
    return about


def _print_verification(verified: RemovalCheck) -> None:
    """Print the result of checking a removal, for people."""
    if verified.receipt_check:
        _print_receipts(verified.receipt_check)
    if verified.comparison:
        source = verified.comparison
        options.print_text(
            f"against: {source.pairs:,} pairs, besides {len(source.removed):,} that were removed and "
            f"{source.rejected:,} rejected; a build has the digest {source.digest[:12]}"
        )
        for what, ids in (("missing", source.missing), ("besides", source.more)):
            if ids:
                shown = ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
                options.print_text(f"{what}: {len(ids):,} ({shown})")
    for problem in verified.problems:
        options.print_text(f"wrong: {problem}")


def _print_receipts(checked: ReceiptCheck) -> None:
    for receipt in checked.receipts:
        recomputed = receipt.after.version in checked.existing_versions
        erased = f", {len(receipt.erased):,} more were erased from older ones" if receipt.erased else ""
        options.print_text(
            f"receipt: {receipt.after.version} is {receipt.before.version} without {len(receipt.removed):,} rows"
            f"{erased}; {'digest and root were recomputed' if recomputed else 'that version has been deleted'}"
        )
    residue = checked.residue
    if residue:
        options.print_text(
            f"searched: {residue.files:,} files, {options.format_bytes(residue.bytes)}, for rows and embeddings"
        )
        for path in residue.unread:
            options.print_text(f"not read: {path} is no plain file")
        for path, count in residue.equal_embeddings.items():
            options.print_text(
                f"equal: {path} has {count:,} such embeddings of other pairs, of the same image or caption"
            )


@click.command("receipt")
@click.argument("ref")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--before", metavar="VERSION", help="The version that the pairs were removed from.  [default: the parent of REF]"
)
@options.home
@options.as_json
def receipt(ref: str, file: Path, before: str | None, home: Path | None, as_json: bool) -> None:
    """Write the receipt of an earlier removal, as `asif anchors remove --receipt FILE` does.

    REF is the version that the removal made. A purge deletes what its receipt is made from: pass it --receipt itself.
    """
    from asif.anchorset.receipts.receipt_file import check_receipt_path, write_receipt

    check_receipt_path(file)
    removal = options.open_store(home).receipt(ref, before)
    write_receipt(file, removal)
    about = {"receipt": str(file), "before": removal.before.version, "after": removal.after.version}
    if as_json:
        options.print_json({**about, "removed": len(removal.removed)})
    else:
        options.print_text(
            f"{file}: {removal.after.version} is {removal.before.version} without {len(removal.removed):,} rows"
        )
