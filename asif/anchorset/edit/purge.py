"""Purge pairs: remove them from the current version, with the deleted rows and older versions that still hold them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from asif.anchorset.edit.gc import DeletedFiles, delete_versions
from asif.anchorset.edit.row_ranges import group_into_blocks, list_row_ranges, write_joined_block
from asif.anchorset.edit.transaction import edit_lock, publish_edit
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.content import load_pair_table
from asif.anchorset.format.deletion_list import LiveRows
from asif.anchorset.format.folder import CURRENT_ALIAS, SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.format.row_hash import stack_hashes
from asif.anchorset.receipts.create import build_receipt, read_sorted_hashes
from asif.anchorset.receipts.merkle import contains_hashes, sort_hashes, view_hash_bytes
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import check_receipt_path, make_path_taken_error, read_receipt, write_receipt
from asif.anchorset.receipts.residue_scan import hash_embedding
from asif.anchorset.select.find import PairSelection
from asif.errors import IntegrityError, NotFound, UsageError


@dataclass(frozen=True)
class PurgePlan:
    """Hold what a purge is about to delete: versions, oldest first, and what identifies the pairs elsewhere.

    `set_digests` are those of the versions. `text_fingerprints` are those of the encoders that have encoded the
    captions in any version.
    """

    versions: tuple[str, ...]
    set_digests: frozenset[str]
    row_hashes: frozenset[bytes]
    captions: frozenset[str]
    text_fingerprints: frozenset[str]


@dataclass
class _ChosenRows:
    """Hold which rows [rows] of each block of any version are chosen, deleted ones too, and what they contain.

    `embeddings` are the sha256 of stored embeddings.
    """

    masks: dict[BlockEntry, LiveRows] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    captions: set[str] = field(default_factory=set)
    row_hashes: set[bytes] = field(default_factory=set)
    embeddings: set[bytes] = field(default_factory=set)

    def select_in(self, entry: BlockEntry) -> LiveRows:
        """Tell which rows of a block are chosen [rows]."""
        return self.masks[entry.whole]

    def are_in(self, manifest: Manifest) -> bool:
        """Tell whether any block of a version has a chosen row, deleted or not."""
        return any(self.select_in(entry).any() for entry in manifest.blocks)


def purge(
    folder: SetFolder,
    version: str,
    choice: PairSelection,
    missing_ok: bool,
    on_plan: Callable[[PurgePlan], None],
    receipt: Path | None = None,
) -> tuple[AnchorSet, DeletedFiles]:
    """Publish a version of the current one without the chosen pairs; then delete every file that has them.

    Blocks with chosen rows, deleted or not, are rewritten, and every older version that holds one is deleted. Before
    anything is deleted, the receipt is written and `on_plan` is called. Rejects and builds in progress are left alone.
    If a purge was killed, the same call completes it, from its receipt if that was written. Raises NotFound for ids
    that no version has, Conflict, and UsageError if no pair would be left, if another alias points at a version
    that would be deleted, or if the receipt's file exists.
    """
    resumed = None if receipt is None else _read_unfinished_receipt(folder, version, receipt)
    with edit_lock(folder, version) as current:
        delete_versions(folder, ())  # files left by a killed purge belong to no version: the search would miss them
        manifests = [folder.manifest(one) for one in folder.versions()]
        chosen = _find_rows(folder, manifests, choice)
        choice.check(f"{current.name}, in all of its versions,", chosen.ids, missing_ok or resumed is not None)
        doomed = [manifest for manifest in manifests if chosen.are_in(manifest)]
        if sum(int((entry.live & ~chosen.select_in(entry)).sum()) for entry in current.blocks) == 0:
            raise UsageError(
                f"all {current.count:,} pairs of {current.name}@{current.seq} would be removed",
                "one that stays, at least",
                "choose fewer, or delete the set itself",
            )
        versions = tuple(manifest.version for manifest in doomed)
        _check_aliases(folder, versions)
        if resumed is not None and receipt is not None and not chosen.row_hashes <= set(resumed.all_removed):
            raise make_path_taken_error(receipt)
        opened = _publish_without(folder, current, chosen) if version in versions else AnchorSet(folder, version)
        if receipt is not None and resumed is None and chosen.row_hashes:
            write_receipt(receipt, _build_purge_receipt(folder, opened.manifest, doomed, chosen))
        digests = frozenset(manifest.digest for manifest in doomed)
        encoders = frozenset(
            manifest.encoders["text"].fingerprint.digest for manifest in manifests if "text" in manifest.encoders
        )
        removed = frozenset(chosen.row_hashes).union(resumed.all_removed if resumed else ())
        on_plan(PurgePlan(versions, digests, removed, frozenset(chosen.captions), encoders))
        return opened, delete_versions(folder, versions)


def _read_unfinished_receipt(folder: SetFolder, version: str, path: Path) -> Receipt | None:
    """Return the receipt of a purge that was killed after writing it, None if `path` is free.

    Raises UsageError for any other file.
    """
    if not os.path.lexists(path):
        check_receipt_path(path)
        return None
    try:
        receipt = read_receipt(path)
    except (IntegrityError, NotFound):
        raise make_path_taken_error(path) from None
    with folder.reading(version):
        name = folder.manifest(version).name
    if not receipt.purged or (receipt.name, receipt.after.version) != (name, version):
        raise make_path_taken_error(path)
    return receipt


def _find_rows(folder: SetFolder, manifests: Iterable[Manifest], choice: PairSelection) -> _ChosenRows:
    chosen = _ChosenRows()
    for entry, manifest in {entry: one for one in manifests for entry in one.files}.items():
        pairs = load_pair_table(folder, entry)
        mask = chosen.masks[entry] = np.array([choice.matches(pair) for pair in pairs], bool)
        rows = np.flatnonzero(mask)
        if len(rows):
            block = folder.block(manifest, entry)
            chosen.ids.update(pairs[row].id for row in rows)
            chosen.captions.update(caption for row in rows for caption in pairs[row].captions)
            chosen.row_hashes.update(block.row_hash[row].tobytes() for row in rows)
            chosen.embeddings.update(hash_embedding(block.side(side)[row]) for side in block.values for row in rows)
    return chosen


def _build_purge_receipt(
    folder: SetFolder, after: Manifest, doomed: Sequence[Manifest], chosen: _ChosenRows
) -> Receipt:
    """Build the receipt of a purge: the rows that the version before it had, and those that only others had.

    The version before it is the parent of `after` if that is itself a purge, one that was killed before it wrote a
    receipt.
    """
    parents = [one for one in doomed if one.version == after.parent and after.operation.get("kind") == "purge"]
    after_rows = read_sorted_hashes(folder, after)
    for before in (*parents, after):
        before_rows = after_rows if before is after else read_sorted_hashes(folder, before)
        removed = before_rows[~contains_hashes(after_rows, before_rows)]
        all_chosen = {row.tobytes() for row in view_hash_bytes(removed)} <= chosen.row_hashes
        if all_chosen and len(before_rows) == len(after_rows) + len(removed):
            break
    every = sort_hashes([stack_hashes(chosen.row_hashes)])
    erased = every[~contains_hashes(removed, every)]
    return build_receipt(before, after, before_rows, removed, erased, chosen.embeddings)


def _check_aliases(folder: SetFolder, doomed: Sequence[str]) -> None:
    """Raise UsageError if an alias other than `current` points at a version that is to be deleted."""
    blocking = {
        alias: target for alias, target in folder.aliases().items() if target in doomed and alias != CURRENT_ALIAS
    }
    if blocking:
        alias, target = min(blocking.items())
        raise UsageError(
            f"the alias {alias!r} points at {target}, which holds pairs that are to be purged",
            "no alias but current on a version that is to be deleted",
            "remove them without --purge, compact the set, move the alias to the version that is current then, purge",
        )


def _publish_without(folder: SetFolder, current: Manifest, chosen: _ChosenRows) -> AnchorSet:
    """Publish a version without the chosen pairs; blocks that have one are rewritten without it."""
    blocks: list[BlockEntry] = []
    for touched, ranges in groupby(list_row_ranges(folder, current), lambda each: chosen.select_in(each.entry).any()):
        if touched:
            rest = [replace(each, rows=each.rows[~chosen.select_in(each.entry)[each.rows]]) for each in ranges]
            remaining = [each for each in rest if len(each)]
            blocks += [write_joined_block(folder, group) for group in group_into_blocks(remaining)]
        else:
            blocks += [each.entry for each in ranges]
    left = sum(entry.count for entry in blocks)
    return publish_edit(folder, current, blocks, {"kind": "purge", "pairs": current.count - left})
