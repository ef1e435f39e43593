"""Remove pairs for good: from the current version, from hidden rows, and with the older versions that hold them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from asif.anchorset.edit.gc import Swept, sweep
from asif.anchorset.edit.row_ranges import groups, joined, pieces_of
from asif.anchorset.edit.transaction import begun, published
from asif.anchorset.format.anchor_set import AnchorSet, load_pairs
from asif.anchorset.format.deletion_list import Mask
from asif.anchorset.format.folder import CURRENT, SetFolder
from asif.anchorset.format.manifest import BlockEntry, Manifest
from asif.anchorset.format.row_hash import as_hashes
from asif.anchorset.receipts.create import make_receipt, version_hashes
from asif.anchorset.receipts.merkle import as_rows, contains, sorted_hashes
from asif.anchorset.receipts.receipt import Receipt
from asif.anchorset.receipts.receipt_file import check_place, read_receipt, taken, write_receipt
from asif.anchorset.receipts.residue_scan import row_sha256
from asif.anchorset.select.find import Choice
from asif.errors import IntegrityError, NotFound, UsageError
from asif.vectors import SIDES


@dataclass(frozen=True)
class Erased:
    """Hold what a purge is about to delete: versions, oldest first, and what is known of the pairs.

    `digests` are those of the versions, `texts` those of the fingerprints of the encoders that the captions went
    through in any version.
    """

    versions: tuple[str, ...]
    digests: frozenset[str]
    rows: frozenset[bytes]
    captions: frozenset[str]
    texts: frozenset[str]


@dataclass
class _Found:
    """Hold the rows that are chosen, [rows] of each block of any version, hidden ones too, and what they are."""

    masks: dict[BlockEntry, Mask] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    captions: set[str] = field(default_factory=set)
    rows: set[bytes] = field(default_factory=set)
    embeddings: set[bytes] = field(default_factory=set)

    def of(self, entry: BlockEntry) -> Mask:
        return self.masks[entry.whole]

    def holds(self, manifest: Manifest) -> bool:
        return any(self.of(entry).any() for entry in manifest.blocks)


def purge(
    folder: SetFolder,
    version: str,
    choice: Choice,
    missing_ok: bool,
    saying: Callable[[Erased], None],
    receipt: Path | None = None,
) -> tuple[AnchorSet, Swept]:
    """Publish a version of the current one without the chosen pairs; then delete every file that has them.

    Blocks that have them, hidden or not, are written anew, and every older version that holds them is deleted, after
    the receipt was written and `saying` was told. Rejects and builds in progress are left alone. Killed midway, the
    same call finishes, from its receipt where that is written. Raises NotFound for ids that no version has, Conflict,
    and UsageError where no pair would be left, another alias points at a version that would be deleted, or there is a
    file in the receipt's place.
    """
    begun_before = None if receipt is None else unfinished(folder, version, receipt)
    with begun(folder, version) as current:
        sweep(folder, ())  # what a killed purge left is in no version any more, so that nothing below would find it
        manifests = [folder.manifest(one) for one in folder.versions()]
        found = _find(folder, manifests, choice)
        choice.check(f"{current.name}, in all of its versions,", found.ids, missing_ok or begun_before is not None)
        doomed = [manifest for manifest in manifests if found.holds(manifest)]
        if sum(int((entry.live & ~found.of(entry)).sum()) for entry in current.blocks) == 0:
            raise UsageError(
                f"all {current.count:,} pairs of {current.name}@{current.seq} would be removed",
                "one that stays, at least",
                "choose fewer, or delete the set itself",
            )
        names = tuple(manifest.version for manifest in doomed)
        _check_aliases(folder, names)
        if begun_before is not None and receipt is not None and not found.rows <= set(begun_before.gone):
            raise taken(receipt)
        opened = _without(folder, current, found) if version in names else AnchorSet(folder, version)
        if receipt is not None and begun_before is None and found.rows:
            write_receipt(receipt, _receipt(folder, opened.manifest, doomed, found))
        digests = frozenset(manifest.digest for manifest in doomed)
        texts = frozenset(manifest.encoders["text"].fingerprint.digest for manifest in manifests)
        rows = frozenset(found.rows).union(begun_before.gone if begun_before else ())
        saying(Erased(names, digests, rows, frozenset(found.captions), texts))
        return opened, sweep(folder, names)


def unfinished(folder: SetFolder, version: str, receipt: Path) -> Receipt | None:
    """Return the receipt of a purge that was killed after writing it, None where the place is free.

    Raises UsageError for any other file.
    """
    if not os.path.lexists(receipt):
        check_place(receipt)
        return None
    try:
        found = read_receipt(receipt)
    except (IntegrityError, NotFound):
        raise taken(receipt) from None
    if not found.purged or (found.name, found.after.version) != (folder.manifest(version).name, version):
        raise taken(receipt)
    return found


def _find(folder: SetFolder, manifests: Iterable[Manifest], choice: Choice) -> _Found:
    found = _Found()
    for entry, manifest in {entry: one for one in manifests for entry in one.files}.items():
        pairs = load_pairs(folder, entry)
        mask = found.masks[entry] = np.array([choice.holds(pair) for pair in pairs], bool)
        rows = np.flatnonzero(mask)
        if len(rows):
            block = folder.block(manifest, entry)
            found.ids.update(pairs[row].id for row in rows)
            found.captions.update(caption for row in rows for caption in pairs[row].captions)
            found.rows.update(block.row_hash[row].tobytes() for row in rows)
            found.embeddings.update(row_sha256(block.side(side)[row]) for side in SIDES for row in rows)
    return found


def _receipt(folder: SetFolder, after: Manifest, doomed: Sequence[Manifest], found: _Found) -> Receipt:
    """Make the receipt of a purge: what the version that it was made of had, and what only others had.

    That version is the parent, where the current one is a purge: one that was killed before it wrote a receipt.
    """
    parents = [one for one in doomed if one.version == after.parent and after.operation.get("kind") == "purge"]
    has = version_hashes(folder, after)
    for before in (*parents, after):
        had = has if before is after else version_hashes(folder, before)
        removed = had[~contains(has, had)]
        if {row.tobytes() for row in as_rows(removed)} <= found.rows and len(had) == len(has) + len(removed):
            break
    every = sorted_hashes([as_hashes(found.rows)])
    return make_receipt(before, after, had, removed, every[~contains(removed, every)], found.embeddings)


def _check_aliases(folder: SetFolder, doomed: Sequence[str]) -> None:
    held = {alias: target for alias, target in folder.aliases().items() if target in doomed and alias != CURRENT}
    if held:
        alias, target = min(held.items())
        raise UsageError(
            f"the alias {alias!r} points at {target}, which holds pairs that are to be purged",
            "no alias but current on a version that is to be deleted",
            "remove them without --purge, compact the set, move the alias to the version that is current then, purge",
        )


def _without(folder: SetFolder, current: Manifest, found: _Found) -> AnchorSet:
    """Publish a version without the chosen pairs; whatever else lies in a block that has one goes into other blocks."""
    blocks: list[BlockEntry] = []
    for touched, some in groupby(pieces_of(folder, current), lambda piece: found.of(piece.entry).any()):
        if touched:
            rest = [replace(piece, rows=piece.rows[~found.of(piece.entry)[piece.rows]]) for piece in some]
            stays = [piece for piece in rest if len(piece)]
            blocks += [joined(folder, group) for group in groups(stays)]
        else:
            blocks += [piece.entry for piece in some]
    left = sum(entry.count for entry in blocks)
    return published(folder, current, blocks, {"kind": "purge", "pairs": current.count - left})
