"""Make the receipt of a removal from what a version had and what is left."""

from __future__ import annotations

import platform
from collections.abc import Collection

import numpy as np

from asif.anchorset.format.anchor_set import live_hashes
from asif.anchorset.format.blocks import UInt8
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.manifest import Manifest
from asif.anchorset.format.moment_cache import steps
from asif.anchorset.receipts.merkle import (
    Hashes,
    HashTree,
    as_rows,
    bits_for,
    contains,
    fold,
    group_of,
    leaf,
    root_of,
    sorted_hashes,
)
from asif.anchorset.receipts.receipt import Receipt, State
from asif.errors import UsageError
from asif.version import VERSION

LIMITS = (
    "The encoders are frozen: what they learnt in their own training, from these pairs or others, is untouched.",
    "Backups, copies, exports and the source of the pairs are the user's.",
    "The checksum betrays a changed receipt, not a forged one: whoever can write the store can write a receipt.",
    "It says what was so when it was written; asif anchors verify says what is so now.",
)
KEPT = "The pairs were removed, not purged: older versions, and hidden rows of blocks, hold them still."
PURGED = "Files were deleted, not overwritten: what the disk keeps of them is up to file system and device."


def receipt_between(folder: SetFolder, before: Manifest, after: Manifest) -> Receipt:
    """Make the receipt for what `after` has less than `before`; a function of the two, but for the versions of code.

    Memory: about 150 bytes for each row of `before`. Raises UsageError where `after` has rows that `before` has not,
    or all that it has, or was made or stored otherwise.
    """
    differing = [name for name in ("dims", "dtype", "captions", "encoders") if vars(before)[name] != vars(after)[name]]
    if differing:
        raise UsageError(
            f"{before.version} and {after.version} differ in more than pairs: {', '.join(differing)}",
            "a version, and the one it was made of by removing pairs",
            "name two that were made by the same encoders, stored alike",
        )
    gone: list[UInt8] = []
    come: list[UInt8] = []
    for step in steps(before, after):  # what versions share is not looked at
        rows = folder.block(before, step.entry).row_hash
        gone.append(rows[step.removed])
        come.append(rows[step.added])
    was, now = sorted_hashes(gone), sorted_hashes(come)
    removed, more = was[~contains(now, was)], int((~contains(was, now)).sum())
    if more or not len(removed):
        came = f"{more:,} pairs that {before.version} has not" if more else f"all pairs that {before.version} has"
        raise UsageError(
            f"{after.version} has {came}",
            "a version, and the one it was made of by removing pairs",
            f"name the two: asif anchors receipt {after.name}@VERSION FILE --before VERSION",
        )
    return make_receipt(before, after, version_hashes(folder, before), removed)


def make_receipt(
    before: Manifest,
    after: Manifest,
    had: Hashes,
    removed: Hashes,
    erased: Hashes | None = None,
    embeddings: Collection[bytes] = (),
) -> Receipt:
    """Make a receipt from the hashes that `before` had and those that were removed; for a purge also those `erased`."""
    others = np.empty(0, "S32") if erased is None else erased
    bits = bits_for(len(had))
    tree, gone = HashTree(had, bits), {*_each(removed), *_each(others)}
    touched = sorted({group_of(one, bits) for one in gone})
    groups = [_without(tree.group(at), gone) for at in touched]
    siblings = tree.siblings(touched)  # beside the touched groups both trees are the same
    top = fold(dict(zip(touched, map(leaf, groups), strict=True)), bits, siblings)
    return Receipt(
        before.name,
        erased is not None,
        State(before.version, before.digest, before.count, tree.root),
        State(after.version, after.digest, after.count, root_of(top, bits, len(had) - len(removed))),
        _each(removed),
        _each(others),
        bits,
        tuple(groups),
        tuple(siblings),
        tuple(sorted(embeddings)),
        after.created,
        {"asif": VERSION, "numpy": np.__version__, "python": platform.python_version()},
        (*LIMITS, KEPT if erased is None else PURGED),
    )


def _without(group: bytes, gone: Collection[bytes]) -> bytes:
    """Return the hashes of a group, one after another, without those that are gone."""
    rows = (group[at : at + 32] for at in range(0, len(group), 32))
    return b"".join(row for row in rows if row not in gone)


def version_hashes(folder: SetFolder, manifest: Manifest) -> Hashes:
    """Return the row hashes of a version, sorted, as its blocks have them."""
    return sorted_hashes(live_hashes(folder, manifest, manifest.blocks))


def _each(hashes: Hashes) -> tuple[bytes, ...]:
    return tuple(row.tobytes() for row in as_rows(hashes))
