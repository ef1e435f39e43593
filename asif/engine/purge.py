"""Purge pairs from a set and from what the store remembers beside it; verify that none of them is left."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from asif.anchorset import AnchorSet, Problem, Store, default_home
from asif.anchorset.edit.gc import DeletedFiles
from asif.anchorset.edit.purge import PurgePlan
from asif.anchorset.format.row_hash import stack_hashes
from asif.anchorset.receipts.check import ReceiptCheck
from asif.anchorset.receipts.merkle import sort_hashes
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.residue_scan import ResidueTargets, list_files, scan_files
from asif.building.expected_digest import SourceComparison, compare_source
from asif.encoders.text_cache import TextCache
from asif.errors import IntegrityError
from asif.pairs import PairSource

QUICK = (".safetensors", ".jsonl")
"""Files in which a purge looks for what it leaves; `asif anchors verify` looks into all."""


@dataclass(frozen=True)
class Purged:
    """Hold what a purge came to; `left` are files outside the set's versions that have the pairs still."""

    anchors: AnchorSet
    swept: DeletedFiles
    left: tuple[Problem, ...]


def purge_pairs(
    ref: str,
    ids: Collection[str] | None = None,
    *,
    where: str | None = None,
    missing_ok: bool = False,
    receipt: Path | None = None,
    home: Path | None = None,
    saying: Callable[[PurgePlan], None] = lambda erased: None,
) -> Purged:
    """Remove pairs for good: from all versions of a set, from the cache of texts, and from interrupted trainings.

    What builds in progress, other sets or token files have of them stays, and is named. See `anchorset.purging.purge`.
    """
    store = Store(home or default_home())
    told: list[PurgePlan] = []

    def forget(erased: PurgePlan) -> None:
        saying(erased)
        told.append(erased)
        for fingerprint in erased.text_fingerprints:
            texts(store).forget(fingerprint, erased.captions)
        for digest in erased.set_digests:
            for state in (store.root / "cache" / "training").glob(f"{digest[:12]}-*"):
                state.unlink(missing_ok=True)

    anchors, swept = store.purge(ref, ids, where=where, missing_ok=missing_ok, saying=forget, receipt=receipt)
    wanted = ResidueTargets(sort_hashes([stack_hashes(told[0].row_hashes)]))
    return Purged(anchors, swept, scan_files(_quick(store.root), wanted).problems if told[0].row_hashes else ())


def texts(store: Store) -> TextCache:
    """Return the cache of embeddings of texts."""
    return TextCache(store.root / "cache" / "texts.sqlite")


def _quick(root: Path) -> list[Path]:
    return [path for path in list_files(root) if path.suffix in QUICK]


@dataclass(frozen=True)
class Verified:
    """Hold what receipts and the pairs that a set was built from say of it, and what is wrong with it by them."""

    checked: ReceiptCheck | None
    beside: SourceComparison | None
    problems: tuple[Problem, ...]

    def raise_if_bad(self) -> None:
        """Raise IntegrityError where there are problems."""
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
) -> Verified:
    """Check a set against receipts of removals, and against the pairs that it was built from; encodes nothing.

    Where pairs that a purge removed are in the source still, the store is searched for their captions and images too.
    """
    store = Store(home or default_home())
    beside, checked = None, None
    problems: list[Problem] = []
    captions = images = frozenset[str]()
    with store.open(ref) as anchors:
        if source is not None:
            gone = {row for receipt in receipts for row in receipt.all_removed}
            beside = compare_source(source, anchors, gone, limit, progress)
            problems += _differing(store.path(ref), anchors, beside)
            purged = {row for receipt in receipts if receipt.purged for row in receipt.all_removed}
            captions, images = beside.find_traces(purged)
        if receipts:
            checked = store.check_receipts(ref, receipts, captions, images)
            problems += checked.problems
        problems += _cached(texts(store), anchors.fingerprint("text").digest, captions)
    return Verified(checked, beside, tuple(problems))


def _differing(path: Path, anchors: AnchorSet, beside: SourceComparison) -> list[Problem]:
    if beside.digest == anchors.digest:
        return []
    return [
        Problem(
            path,
            f"{anchors.ref} lacks {len(beside.missing):,} of the pairs and has {len(beside.more):,} others: its digest "
            f"is {anchors.digest[:12]}, that of a build of the pairs {beside.digest[:12]}",
        )
    ]


def _cached(cache: TextCache, fingerprint: str, captions: Collection[str]) -> list[Problem]:
    try:
        known = cache.find_known(fingerprint, captions)
    except sqlite3.Error as error:
        return [Problem(cache.path, f"cannot be read ({error})")]
    return [Problem(cache.path, f"has the embeddings of {len(known):,} captions of removed pairs")] if known else []
