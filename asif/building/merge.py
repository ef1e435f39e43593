"""Merge two sets: the pairs of both with their stored embeddings; runs no encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from asif.anchorset import AnchorSet, Store
from asif.anchorset.select.compatibility import check_compatible, check_id_conflicts
from asif.anchorset.select.find import iter_ids_with_hashes
from asif.building.copy_rows import publish_rows
from asif.vectors import Int64

OnConflict = Literal["refuse", "first"]


def merge_sets(sets: Sequence[AnchorSet], store: Store, name: str, on_conflict: OnConflict = "refuse") -> AnchorSet:
    """Publish the pairs of two sets as the next version of the set `name`.

    A pair that is in both, by row hash, is taken once. If an id belongs to different pairs, `on_conflict` "first"
    takes that of the first set. The digest is that of a build of all these pairs. Raises EncoderMismatch if
    fingerprints differ, InputRefused if dtypes or captions modes do, or ids conflict, and what `publish_rows` does.
    """
    first, second = sets
    check_compatible(first.manifest, second.manifest)
    chosen = [np.arange(first.count), _find_new_rows(first, second, on_conflict)]
    origin = {"kind": "merge", "from": f"{first.ref} and {second.ref}", "digests": [one.digest for one in sets]}
    operation = {**origin, "on_conflict": on_conflict, "first": len(chosen[0]), "second": len(chosen[1])}
    return publish_rows(list(zip(sets, chosen, strict=True)), store, name, operation)


def _find_new_rows(first: AnchorSet, second: AnchorSet, on_conflict: OnConflict) -> Int64:
    """Return the rows of the second set whose ids the first does not have; raises InputRefused for conflicts."""
    known = dict(iter_ids_with_hashes(first))
    rows: list[int] = []
    conflicts: list[str] = []
    for row, (name, line) in enumerate(iter_ids_with_hashes(second)):
        if name not in known:
            rows.append(row)
        elif known[name] != line:
            conflicts.append(name)
    if on_conflict == "refuse":
        where = f"in {first.ref} and {second.ref}"
        check_id_conflicts(conflicts, where, "pass --on-conflict first to keep those of the first set")
    return np.array(rows, np.int64)
