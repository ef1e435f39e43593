"""Purge pairs from a set and from the caches of its store; verify that nothing of them is left."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset import AnchorSet, Problem, Store, default_home
from asif.anchorset.edit.gc import DeletedFiles
from asif.anchorset.edit.purge import PurgePlan
from asif.anchorset.format.fit_cache import delete_fits
from asif.anchorset.format.kinds import GALLERY
from asif.anchorset.format.row_hash import stack_hashes
from asif.anchorset.receipts.check import ReceiptCheck
from asif.anchorset.receipts.merkle import sort_hashes
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.residue_scan import ResidueTargets, list_files, scan_files
from asif.building.expected_digest import SourceComparison, compare_source
from asif.encoders.text_cache import TextCache
from asif.engine.search.row_cache import KEPT_WITH_GALLERIES
from asif.errors import IntegrityError
from asif.pairs import PairSource

_QUICK_SUFFIXES = (".safetensors", ".jsonl")
"""Files in which a purge searches for residues; `asif anchors verify` searches all files."""


@dataclass(frozen=True)
class PurgeResult:
    """The set after a purge, the deleted files, and residues: files outside its versions that still have the pairs."""

    anchors: AnchorSet
    swept: DeletedFiles
    residues: tuple[Problem, ...]


def purge_pairs(
    ref: str,
    ids: Collection[str] | None = None,
    *,
    where: str | None = None,
    missing_ok: bool = False,
    receipt: Path | None = None,
    home: Path | None = None,
    saying: Callable[[PurgePlan], None] = lambda erased: None,
) -> PurgeResult:
    """Remove pairs for good: from all versions of a set, from the text cache, and from interrupted trainings.

    Residues in builds in progress, other sets and token files stay, and are returned. See `anchorset.edit.purge`.
    """
    store = Store(home or default_home())
    reports: list[PurgePlan] = []

    def forget(erased: PurgePlan) -> None:
        saying(erased)
        reports.append(erased)
        for fingerprint in erased.text_fingerprints:
            for cache in _list_text_caches(store):
                cache.forget(fingerprint, erased.captions)
        for digest in erased.set_digests:
            for state in (store.root / "cache" / "training").glob(f"{digest[:12]}-*"):
                state.unlink(missing_ok=True)
        _forget_represented_items(store)

    anchors, swept = store.purge(ref, ids, where=where, missing_ok=missing_ok, saying=forget, receipt=receipt)
    _forget_represented_items(store)  # a search may have kept some before the versions were deleted
    wanted = ResidueTargets(sort_hashes([stack_hashes(reports[0].row_hashes)]))
    return PurgeResult(
        anchors, swept, scan_files(_list_quick_files(store.root), wanted).problems if reports[0].row_hashes else ()
    )


def _list_text_caches(store: Store) -> list[TextCache]:
    """List the caches of text embeddings: that of the command line, and those of tenants of a service."""
    return list(map(TextCache, sorted((store.root / "cache").glob("texts*.sqlite"))))


def _forget_represented_items(store: Store) -> None:
    """Delete the items of all galleries as anchors saw them."""
    for fits in store.root.glob(f"{GALLERY.folder}/*/fits"):
        for name in KEPT_WITH_GALLERIES:
            delete_fits(fits, name)


def _list_quick_files(root: Path) -> list[Path]:
    return [path for path in list_files(root) if path.suffix in _QUICK_SUFFIXES]


@dataclass(frozen=True)
class RemovalCheck:
    """A set checked against receipts and against its source pairs, and the problems found."""

    receipt_check: ReceiptCheck | None
    comparison: SourceComparison | None
    problems: tuple[Problem, ...]

    def raise_if_bad(self) -> None:
        """Raise IntegrityError if there are problems."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise IntegrityError(
                f"{self.problems[0]}{more}",
                "the pairs that the set was built from, without those that were removed",
                "purge or delete what is left of them, or give the receipt, pairs, columns and limit that belong to it",
            )


def verify_removal(
    ref: str,
    receipts: Sequence[Receipt] = (),
    source: PairSource | None = None,
    *,
    limit: int | None = None,
    home: Path | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> RemovalCheck:
    """Check a set against receipts of removals, and against the pairs that it was built from; runs no encoder.

    Where the source still has pairs that a purge removed, the store is searched for their captions and images, too.
    """
    store = Store(home or default_home())
    comparison, receipt_check = None, None
    problems: list[Problem] = []
    captions = images = frozenset[str]()
    with store.open(ref) as anchors:
        if source is not None:
            removed = {row for receipt in receipts for row in receipt.all_removed}
            comparison = compare_source(source, anchors, removed, limit, progress)
            problems += _report_difference(store.path(ref), anchors, comparison)
            purged = {row for receipt in receipts if receipt.purged for row in receipt.all_removed}
            captions, images = comparison.find_traces(purged)
        if receipts:
            receipt_check = store.check_receipts(ref, receipts, captions, images)
            problems += receipt_check.problems
        for cache in _list_text_caches(store):
            problems += _report_cached_texts(cache, anchors.fingerprint("text").digest, captions)
    return RemovalCheck(receipt_check, comparison, tuple(problems))


def _report_difference(path: Path, anchors: AnchorSet, comparison: SourceComparison) -> list[Problem]:
    if comparison.digest == anchors.digest:
        return []
    return [
        Problem(
            path,
            f"{anchors.ref} lacks {len(comparison.missing):,} of the pairs and has {len(comparison.more):,} others: "
            f"its digest is {anchors.digest[:12]}, that of a build of the pairs {comparison.digest[:12]}",
        )
    ]


def _report_cached_texts(cache: TextCache, fingerprint: str, captions: Collection[str]) -> list[Problem]:
    try:
        known = cache.find_known(fingerprint, captions)
    except sqlite3.Error as error:
        return [Problem(cache.path, f"cannot be read ({error})")]
    return [Problem(cache.path, f"has the embeddings of {len(known):,} captions of removed pairs")] if known else []
