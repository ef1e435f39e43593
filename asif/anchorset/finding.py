"""Find pairs of a set: by id, by what is remembered of them, or all with their row hashes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np

from asif.anchorset.opened import AnchorSet
from asif.errors import NotFound, UsageError
from asif.pairs.where import parse_where
from asif.vectors import Int64

SHOWN = 5  # ids in an error


def find_rows(
    anchors: AnchorSet, ids: Collection[str] | None = None, where: str | None = None, missing_ok: bool = False
) -> Int64:
    """Return the rows, ascending, of the pairs with one of the `ids`, or of those `where` is true of.

    Exactly one of the two is given; see `pairs.where.parse_where`. Reads the tables of all blocks. Raises NotFound for
    ids that the set does not have, unless they may be missing, UsageError for an expression that is none.
    """
    if (ids is None) == (where is None):
        raise UsageError("ids and an expression" if ids else "neither ids nor an expression", "one of them", "pass one")
    wanted = set(ids or ())
    holds = (lambda pair: pair.id in wanted) if where is None else parse_where(where)
    rows: list[int] = []
    first = 0
    found: set[str] = set()
    for at, entry in enumerate(anchors.manifest.blocks):
        for row, pair in enumerate(anchors.pairs(at), start=first):
            if holds(pair):
                rows.append(row)
                found.add(pair.id)
        first += entry.count
    missing = sorted(wanted - found)
    if missing and not missing_ok:
        some = ", ".join(map(repr, missing[:SHOWN])) + (", …" if len(missing) > SHOWN else "")
        raise NotFound(
            f"{anchors.ref} has no {some}", "ids that it has", "correct them, or pass --missing-ok to leave them out"
        )
    return np.array(rows, np.int64)


def hashed_ids(anchors: AnchorSet, blocks: Iterable[int] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the row hash of each pair, in order, or of those in some blocks."""
    for at in range(len(anchors.manifest.blocks)) if blocks is None else blocks:
        hashes = anchors.row_hashes(at)
        for row, pair in enumerate(anchors.pairs(at)):
            yield pair.id, hashes[row].tobytes()
