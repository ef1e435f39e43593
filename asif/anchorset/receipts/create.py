"""Build the receipt of a removal from the rows that a version had and those that are left."""

from __future__ import annotations

import platform
from collections.abc import Collection

import numpy as np

from asif.anchorset.format.blocks import UInt8
from asif.anchorset.format.content import iter_live_row_hashes
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.moment_cache import iter_block_changes
from asif.anchorset.receipts.merkle import (
    MerkleTree,
    SortedHashes,
    choose_group_bits,
    contains_hashes,
    find_group,
    fold_proof,
    hash_leaf,
    hash_root,
    sort_hashes,
    view_hash_bytes,
)
from asif.anchorset.receipts.receipt import Receipt, VersionRoot
from asif.errors import UsageError
from asif.version import VERSION

_LIMITS = (
    "The encoders are frozen: what they learnt in their own training, from these pairs or others, is untouched.",
    "Backups, copies, exports and the source of the pairs are the user's.",
    "The checksum betrays a changed receipt, not a forged one: whoever can write the store can write a receipt.",
    "It says what was so when it was written; asif anchors verify says what is so now.",
)
_REMOVAL_LIMIT = "The pairs were removed, not purged: older versions, and hidden rows of blocks, hold them still."
_PURGE_LIMIT = "Files were deleted, not overwritten: what the disk keeps of them is up to file system and device."


def build_receipt_between(folder: SetFolder, before: Manifest, after: Manifest) -> Receipt:
    """Build the receipt for the rows of `before` that `after` lacks.

    It depends on the two versions alone, and on the versions of the code. Memory: about 150 bytes for each row of
    `before`. Raises UsageError if `after` has rows that `before` lacks, or has all of its rows, or was made by other
    encoders, or is stored otherwise.
    """
    differing = [name for name in ("dims", "dtype", "captions", "encoders") if vars(before)[name] != vars(after)[name]]
    if differing:
        raise UsageError(
            f"{before.version} and {after.version} differ in more than pairs: {', '.join(differing)}",
            "a version, and the one it was made of by removing pairs",
            "name two that were made by the same encoders, with the same dtype and captions mode",
        )
    before_only: list[UInt8] = []
    after_only: list[UInt8] = []
    for step in iter_block_changes(before, after):  # skips the rows of blocks that both versions share
        rows = folder.block(before, step.entry).row_hash
        before_only.append(rows[step.removed])
        after_only.append(rows[step.added])
    old, new = sort_hashes(before_only), sort_hashes(after_only)
    removed, added = old[~contains_hashes(new, old)], int((~contains_hashes(old, new)).sum())
    if added or not len(removed):
        came = f"{added:,} pairs that {before.version} has not" if added else f"all pairs that {before.version} has"
        raise UsageError(
            f"{after.version} has {came}",
            "a version, and the one it was made of by removing pairs",
            f"name the two: asif anchors receipt {after.name}@VERSION FILE --before VERSION",
        )
    return build_receipt(before, after, read_sorted_hashes(folder, before), removed)


def build_receipt(
    before: Manifest,
    after: Manifest,
    before_rows: SortedHashes,
    removed: SortedHashes,
    erased: SortedHashes | None = None,
    embeddings: Collection[bytes] = (),
) -> Receipt:
    """Build a receipt from the row hashes of `before` and those that were removed; for a purge also those `erased`."""
    others = np.empty(0, "S32") if erased is None else erased
    bits = choose_group_bits(len(before_rows))
    tree, gone = MerkleTree(before_rows, bits), {*_split_rows(removed), *_split_rows(others)}
    touched = sorted({find_group(row_hash, bits) for row_hash in gone})
    groups = [_drop_hashes(tree.read_group(group), gone) for group in touched]
    siblings = tree.find_siblings(touched)  # outside the touched groups both trees are the same
    top = fold_proof(dict(zip(touched, map(hash_leaf, groups), strict=True)), bits, siblings)
    return Receipt(
        before.name,
        erased is not None,
        VersionRoot(before.version, before.digest, before.count, tree.root),
        VersionRoot(after.version, after.digest, after.count, hash_root(top, bits, len(before_rows) - len(removed))),
        _split_rows(removed),
        _split_rows(others),
        bits,
        tuple(groups),
        tuple(siblings),
        tuple(sorted(embeddings)),
        after.created,
        {"asif": VERSION, "numpy": np.__version__, "python": platform.python_version()},
        (*_LIMITS, _REMOVAL_LIMIT if erased is None else _PURGE_LIMIT),
    )


def _drop_hashes(group: bytes, gone: Collection[bytes]) -> bytes:
    """Return the concatenated hashes of a group without those in `gone`."""
    rows = (group[start : start + 32] for start in range(0, len(group), 32))
    return b"".join(row for row in rows if row not in gone)


def read_sorted_hashes(folder: SetFolder, manifest: Manifest) -> SortedHashes:
    """Return the row hashes of a version, sorted, as its blocks have them."""
    return sort_hashes(iter_live_row_hashes(folder, manifest, manifest.blocks))


def _split_rows(hashes: SortedHashes) -> tuple[bytes, ...]:
    return tuple(row.tobytes() for row in view_hash_bytes(hashes))
