"""Check receipts against the set, and a purge against every file of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset.format.anchor_set import live_hashes
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.row_hash import as_hashes, set_digest
from asif.anchorset.format.verify import Problem
from asif.anchorset.receipts.create import version_hashes
from asif.anchorset.receipts.merkle import Hashes, HashTree, contains, sorted_hashes
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.residue_scan import Traces, Wanted, files_under, search
from asif.errors import UsageError


@dataclass(frozen=True)
class Checked:
    """Hold what became of receipts: which of their versions are there, what is wrong, what was searched for a purge."""

    receipts: tuple[Receipt, ...]
    there: frozenset[str]
    problems: tuple[Problem, ...]
    traces: Traces | None


def check_receipts(
    folder: SetFolder,
    version: str,
    receipts: Sequence[Receipt],
    root: Path,
    captions: frozenset[str] = frozenset(),
    images: frozenset[str] = frozenset(),
) -> Checked:
    """Check that a version has none of the rows of receipts, and that the receipts' own are what they say.

    For purges also looks through all files under `root`, for the rows and their embeddings, and for the captions and
    images (sha256 in hex) that are given. Raises UsageError for a receipt of another set, IntegrityError for a version
    that cannot be read.
    """
    manifest, versions = folder.manifest(version), folder.versions()
    problems = _absent(folder, manifest, _rows(receipts))
    for receipt in receipts:
        if manifest.name != receipt.name:
            raise UsageError(
                f"the receipt is one of the anchor set {receipt.name!r}", f"one of {manifest.name!r}", "name that set"
            )
        if receipt.after.version in versions:
            problems += _as_told(folder, folder.manifest(receipt.after.version), receipt)
    there = frozenset(receipt.after.version for receipt in receipts).intersection(versions)
    purges = [receipt for receipt in receipts if receipt.purged]
    traces = None
    if purges:
        embeddings = frozenset(one for receipt in purges for one in receipt.embeddings)
        traces = search(files_under(root), Wanted(_rows(purges), embeddings, captions, images))
        problems += [problem for problem in traces.problems if problem not in problems]
    return Checked(tuple(receipts), there, tuple(problems), traces)


def _rows(receipts: Sequence[Receipt]) -> Hashes:
    return sorted_hashes(as_hashes(receipt.gone) for receipt in receipts)


def _absent(folder: SetFolder, manifest: Manifest, rows: Hashes) -> list[Problem]:
    """Find the removed rows in a version."""
    count = int(contains(version_hashes(folder, manifest), rows).sum())
    path = folder.version_file(manifest.version)
    return [Problem(path, f"has {count:,} of the rows that a receipt says are gone")] if count else []


def _as_told(folder: SetFolder, after: Manifest, receipt: Receipt) -> list[Problem]:
    """Recompute digest and root of the version that a receipt tells of, from its blocks."""
    fingerprints = {side: info.fingerprint for side, info in after.encoders.items()}
    digest = set_digest(after.dtype, after.captions, fingerprints, live_hashes(folder, after, after.blocks))
    root = HashTree(version_hashes(folder, after), receipt.bits).root
    found = {"set digest": (digest, receipt.after.digest), "root": (root, receipt.after.root)}
    path = folder.version_file(after.version)
    return [
        Problem(path, f"its rows give the {what} {has}, the receipt says {told}")
        for what, (has, told) in found.items()
        if has != told
    ]
