"""Check receipts against a set, and purges against every file of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset.format.content import iter_live_row_hashes
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.row_hash import compute_set_digest, stack_hashes
from asif.anchorset.format.verify import Problem
from asif.anchorset.receipts.create import read_sorted_hashes
from asif.anchorset.receipts.merkle import MerkleTree, SortedHashes, contains_hashes, sort_hashes
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.residue_scan import ResidueReport, ResidueTargets, list_files, scan_files
from asif.errors import UsageError


@dataclass(frozen=True)
class ReceiptCheck:
    """Hold the result of a check: the receipts, which of their versions exist, and the problems.

    `residue` is the scan of the store's files, for purges only.
    """

    receipts: tuple[Receipt, ...]
    existing_versions: frozenset[str]
    problems: tuple[Problem, ...]
    residue: ResidueReport | None


def check_receipts(
    folder: SetFolder,
    version: str,
    receipts: Sequence[Receipt],
    root: Path,
    captions: frozenset[str] = frozenset(),
    images: frozenset[str] = frozenset(),
) -> ReceiptCheck:
    """Check that a version has none of the removed rows, and that the versions that receipts were written for match.

    For purges, also scan all files under `root` for the rows, their embeddings, and the given captions and images
    (sha256 in hex). Raises UsageError for a receipt of another set, IntegrityError for a version that cannot be read.
    """
    manifest, versions = folder.manifest(version), folder.versions()
    problems = _find_removed_rows(folder, manifest, _collect_row_hashes(receipts))
    for receipt in receipts:
        if manifest.name != receipt.name:
            raise UsageError(
                f"the receipt is one of the anchor set {receipt.name!r}", f"one of {manifest.name!r}", "name that set"
            )
        if receipt.after.version in versions:
            problems += _check_after_version(folder, folder.manifest(receipt.after.version), receipt)
    existing = frozenset(receipt.after.version for receipt in receipts).intersection(versions)
    purges = [receipt for receipt in receipts if receipt.purged]
    residue = None
    if purges:
        embeddings = frozenset(sha256 for receipt in purges for sha256 in receipt.embeddings)
        targets = ResidueTargets(_collect_row_hashes(purges), embeddings, captions, images)
        residue = scan_files(list_files(root), targets)
        problems += [problem for problem in residue.problems if problem not in problems]
    return ReceiptCheck(tuple(receipts), existing, tuple(problems), residue)


def _collect_row_hashes(receipts: Sequence[Receipt]) -> SortedHashes:
    return sort_hashes(stack_hashes(receipt.all_removed) for receipt in receipts)


def _find_removed_rows(folder: SetFolder, manifest: Manifest, removed: SortedHashes) -> list[Problem]:
    """Report how many of the removed rows a version has."""
    count = int(contains_hashes(read_sorted_hashes(folder, manifest), removed).sum())
    path = folder.version_file(manifest.version)
    return [Problem(path, f"has {count:,} of the rows that a receipt lists as removed")] if count else []


def _check_after_version(folder: SetFolder, after: Manifest, receipt: Receipt) -> list[Problem]:
    """Recompute digest and root of the version that a receipt was written for, from its blocks."""
    fingerprints = {side: info.fingerprint for side, info in after.encoders.items()}
    digest = compute_set_digest(
        after.dtype, after.captions, fingerprints, iter_live_row_hashes(folder, after, after.blocks)
    )
    root = MerkleTree(read_sorted_hashes(folder, after), receipt.bits).root
    values = {"set digest": (digest, receipt.after.digest), "root": (root, receipt.after.root)}
    path = folder.version_file(after.version)
    return [
        Problem(path, f"its rows give the {what} {computed}, the receipt says {stated}")
        for what, (computed, stated) in values.items()
        if computed != stated
    ]
