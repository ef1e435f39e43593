"""Upsert pairs: add new ones to a set, or update those it has."""

from __future__ import annotations

from typing import Literal

import numpy as np

from asif.anchorset.edit.insert import insert_rows
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.references import format_first_names
from asif.anchorset.select.compatibility import check_compatible
from asif.anchorset.select.find import gather_row_hashes, iter_ids, iter_ids_with_hashes
from asif.errors import InputRefused

UpsertKind = Literal["add", "update"]


def upsert_pairs(folder: SetFolder, current: AnchorSet, fresh: AnchorSet, kind: UpsertKind, rejected: int) -> AnchorSet:
    """Publish a version of the current one with the pairs of `fresh`.

    A pair that the set has already, by row hash, is kept; if it has all, no version is published. `add` refuses ids
    that belong to other pairs, `update` ids that the set does not have. If each caption is an anchor,
    `<id>#<number>`, a pair consists of all of its captions. `rejected` rows of the input are counted in the operation.
    Raises InputRefused, Conflict, EncoderMismatch if other encoders made `fresh`.
    """
    check_compatible(current.manifest, fresh.manifest)
    ids, given = list(iter_ids(current)), list(iter_ids_with_hashes(fresh))
    given_pairs = {current.manifest.pair_id(anchor_id) for anchor_id, _ in given}
    rows = np.array([row for row, name in enumerate(ids) if current.manifest.pair_id(name) in given_pairs], np.int64)
    known = list(zip((ids[row] for row in rows), gather_row_hashes(current, rows), strict=True))
    known_set, given_set = set(known), set(given)
    new = [row for row, anchor in enumerate(given) if anchor not in known_set]
    known_pairs = {current.manifest.pair_id(anchor_id) for anchor_id, _ in known}
    changed = {current.manifest.pair_id(given[row][0]) for row in new}
    _refuse_ids(current, kind, sorted(changed & known_pairs if kind == "add" else changed - known_pairs))
    replaced = [
        row
        for row, anchor in zip(rows.tolist(), known, strict=True)
        if anchor not in given_set and current.manifest.pair_id(anchor[0]) in changed
    ]
    if not new and not replaced:
        return current
    operation = {"kind": kind, "pairs": len(new), "replaced": len(replaced), "rejected": rejected}
    removed, inserted = np.array(replaced, np.int64), np.array(new, np.int64)
    return insert_rows(folder, current.version, ids, removed, fresh, inserted, operation)


def _refuse_ids(current: AnchorSet, kind: UpsertKind, ids: list[str]) -> None:
    """Raise InputRefused if there are ids that belong to other pairs (add), or to none (update)."""
    if not ids:
        return
    some = format_first_names(ids)
    if kind == "add":
        raise InputRefused(
            f"{len(ids):,} ids belong to other pairs in {current.ref}: {some}",
            "pairs with ids of their own",
            "give them other ids, or replace the pairs: asif anchors update",
        )
    raise InputRefused(
        f"{current.ref} has no {some}", "ids of pairs that it has", "asif anchors add, for those that are new"
    )
