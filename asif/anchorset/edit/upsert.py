"""Pairs that are put into a set: new ones beside those it has, or others in place of some."""

from __future__ import annotations

from typing import Literal

import numpy as np

from asif.anchorset.edit.insert import put_rows
from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.folder import SetFolder
from asif.anchorset.format.references import first_few
from asif.anchorset.select.compatibility import check_alike
from asif.anchorset.select.find import every_id, hashed_ids, hashes_of
from asif.errors import InputRefused

Put = Literal["add", "update"]


def put(folder: SetFolder, current: AnchorSet, fresh: AnchorSet, kind: Put, rejected: int) -> AnchorSet:
    """Publish a version of the current one with the pairs of `fresh`.

    A pair that is there already, by row hash, stays; where all are, no version is made. `add` refuses ids that stand
    for other pairs, `update` ids that the set does not have. Where each caption is an anchor, `<id>#<number>`, a pair
    is all of its captions. `rejected` rows of the input are counted in the operation. Raises InputRefused, Conflict,
    EncoderMismatch where other encoders made `fresh`.
    """
    check_alike(current.manifest, fresh.manifest)
    ids, theirs = list(every_id(current)), list(hashed_ids(fresh))
    meant = {pair_of(current, name) for name, _ in theirs}
    beside = np.array([row for row, name in enumerate(ids) if pair_of(current, name) in meant], np.int64)
    ours = list(zip((ids[row] for row in beside), hashes_of(current, beside), strict=True))
    known, wanted = set(ours), set(theirs)
    new = [row for row, one in enumerate(theirs) if one not in known]
    names = {pair_of(current, name) for name, _ in ours}
    changed = {pair_of(current, theirs[row][0]) for row in new}
    _refuse(current, kind, sorted(changed & names if kind == "add" else changed - names))
    gone = [
        row
        for row, one in zip(beside.tolist(), ours, strict=True)
        if one not in wanted and pair_of(current, one[0]) in changed
    ]
    if not new and not gone:
        return current
    operation = {"kind": kind, "pairs": len(new), "replaced": len(gone), "rejected": rejected}
    out, rows = (np.array(some, np.int64) for some in (gone, new))
    return put_rows(folder, current.version, ids, out, fresh, rows, operation)


def pair_of(anchors: AnchorSet, name: str) -> str:
    """Return the id of the pair that an anchor's id belongs to."""
    return name.rpartition("#")[0] if anchors.manifest.captions == "all" else name


def _refuse(current: AnchorSet, kind: Put, names: list[str]) -> None:
    if not names:
        return
    some = first_few(names)
    if kind == "add":
        raise InputRefused(
            f"{len(names):,} ids stand for other pairs in {current.ref}: {some}",
            "pairs with ids of their own",
            "asif anchors update, to put them in their place",
        )
    raise InputRefused(
        f"{current.ref} has no {some}", "ids of pairs that it has", "asif anchors add, for those that are new"
    )
