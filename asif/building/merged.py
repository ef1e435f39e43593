"""Two sets become one: the pairs of both, their stored bytes, nothing encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asif.aligners.sampling import gathered
from asif.anchorset import AnchorSet, Store
from asif.anchorset.alike import check_alike
from asif.anchorset.finding import hashed_ids
from asif.anchorset.fits import anchors_hash
from asif.building.chosen import SEGMENT_ROWS, SIDES
from asif.errors import InputRefused
from asif.vectors import Float32, Int64
from asif.version import VERSION

OnConflict = Literal["refuse", "first"]
SHOWN = 5  # ids in an error


def merge(sets: Sequence[AnchorSet], store: Store, name: str, on_conflict: OnConflict = "refuse") -> AnchorSet:
    """Publish the pairs of two sets as the next version of the set `name`.

    A pair that both have, by row hash, is taken once. Of an id that stands for different pairs the first set's is taken
    if `on_conflict` is `first`. The digest is that of a build of all these pairs; what was killed goes on where it was.
    Memory: 1,024 anchors, and about 250 bytes for each. Raises EncoderMismatch where fingerprints differ, InputRefused
    where dtypes or captions modes do, or ids conflict, and what `publish_rows` does.
    """
    first, second = sets
    check_alike(first, second)
    chosen = [np.arange(first.count), new_rows(first, second, on_conflict)]
    origin = {"kind": "merge", "from": f"{first.ref} and {second.ref}", "digests": [one.digest for one in sets]}
    operation = {**origin, "on_conflict": on_conflict, "first": len(chosen[0]), "second": len(chosen[1])}
    manifest = first.manifest
    plan = {"dtype": manifest.dtype, "anchors": [anchors_hash(one.manifest) for one in sets], "operation": operation}
    with store.journal(name, plan) as journal:
        done = 0
        for anchors, rows in pieces(sets, chosen):
            done += len(rows)
            if done > journal.next_row:
                image, text = (stored(anchors, side, rows) for side in SIDES)
                journal.append(anchors.records(rows), image, text, [], done)
        return journal.publish(
            image=manifest.encoders["image"],
            text=manifest.encoders["text"],
            dtype=manifest.dtype,
            captions=manifest.captions,
            operation=operation,
            asif_version=VERSION,
            dedup="keep",
        )


def pieces(sets: Sequence[AnchorSet], chosen: Sequence[Int64]) -> Iterator[tuple[AnchorSet, Int64]]:
    """Cut the chosen rows of each set into segments."""
    for anchors, rows in zip(sets, chosen, strict=True):
        for start in range(0, len(rows), SEGMENT_ROWS):
            yield anchors, rows[start : start + SEGMENT_ROWS]


def stored(anchors: AnchorSet, side: Any, rows: Int64) -> Float32:
    """Return stored embeddings in float32, which are rounded back exactly."""
    values: NDArray[Any] = gathered(anchors, side, rows)
    return values.astype(np.float32)


def new_rows(first: AnchorSet, second: AnchorSet, on_conflict: OnConflict) -> Int64:
    """Return the rows of the second set whose ids the first does not have; raises InputRefused for conflicts."""
    known = dict(hashed_ids(first))
    rows: list[int] = []
    conflicts: list[str] = []
    for row, (name, line) in enumerate(hashed_ids(second)):
        if name not in known:
            rows.append(row)
        elif known[name] != line:
            conflicts.append(name)
    if conflicts and on_conflict == "refuse":
        some = ", ".join(map(repr, conflicts[:SHOWN])) + (", …" if len(conflicts) > SHOWN else "")
        raise InputRefused(
            f"{len(conflicts):,} ids stand for other pairs in {second.ref} than in {first.ref}: {some}",
            "ids that stand for one pair each",
            "pass --on-conflict first to keep those of the first set",
        )
    return np.array(rows, np.int64)
