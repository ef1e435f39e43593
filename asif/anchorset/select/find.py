"""Find pairs of a set by id or by an expression over their records; iterate over all with their row hashes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.references import format_first_names
from asif.errors import NotFound, UsageError
from asif.pairs.filter_expression import parse_where
from asif.pairs.pair import PairRecord
from asif.vectors import Int64, gather_rows


@dataclass(frozen=True)
class PairSelection:
    """Select pairs by the predicate `matches`; `ids` are those that were named, if any were."""

    matches: Callable[[PairRecord], bool]
    ids: frozenset[str]

    @classmethod
    def of(cls, ids: Collection[str] | None, where: str | None) -> PairSelection:
        """Select by ids, or by an expression (see `pairs.filter_expression`); raises UsageError for both or neither."""
        if (ids is None) == (where is None):
            came = "neither ids nor an expression" if ids is None else "ids and an expression"
            raise UsageError(came, "one of them", "name the pairs in one way")
        named = frozenset(ids or ())
        return cls((lambda pair: pair.id in named) if where is None else parse_where(where), named)

    def check(self, ref: str, found: Collection[str], missing_ok: bool) -> None:
        """Raise NotFound if named ids are not among the found ones, unless `missing_ok`."""
        missing = sorted(self.ids.difference(found))
        if missing and not missing_ok:
            raise NotFound(
                f"{ref} has no {format_first_names(missing)}",
                "ids that it has",
                "correct them, or pass --missing-ok to leave them out",
            )


def find_rows(
    anchors: AnchorSet, ids: Collection[str] | None = None, where: str | None = None, missing_ok: bool = False
) -> Int64:
    """Return the rows, ascending, of the pairs with one of the `ids`, or of those that match `where`.

    Reads the ids of all blocks, or for an expression their full tables. Raises NotFound for ids that the set does not
    have, unless `missing_ok`, and UsageError for an invalid expression.
    """
    selection = PairSelection.of(ids, where)
    if where is None:
        found = {row: name for row, name in enumerate(iter_ids(anchors)) if name in selection.ids}
    else:
        pairs = chain.from_iterable(map(anchors.pairs, range(len(anchors.manifest.blocks))))
        found = {row: pair.id for row, pair in enumerate(pairs) if selection.matches(pair)}
    selection.check(anchors.ref, found.values(), missing_ok)
    return np.array(list(found), np.int64)


def iter_ids(anchors: AnchorSet) -> Iterator[str]:
    """Yield the id of each pair, in order."""
    return chain.from_iterable(map(anchors.ids, range(len(anchors.manifest.blocks))))


def gather_row_hashes(anchors: AnchorSet, rows: Int64) -> list[bytes]:
    """Return the row hashes of rows, which are ascending."""
    hashes = map(anchors.row_hashes, range(len(anchors.manifest.blocks)))
    return [line.tobytes() for line in gather_rows(list(hashes), rows)]


def iter_ids_with_hashes(anchors: AnchorSet, blocks: Iterable[int] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the id and the row hash of each pair, in order; only of some blocks if these are given."""
    for at in range(len(anchors.manifest.blocks)) if blocks is None else blocks:
        hashes = anchors.row_hashes(at)
        for row, name in enumerate(anchors.ids(at)):
            yield name, hashes[row].tobytes()


def iter_pairs_with_hashes(anchors: AnchorSet) -> Iterator[tuple[PairRecord, bytes]]:
    """Yield each pair with its row hash, in order."""
    for at in range(len(anchors.manifest.blocks)):
        hashes = anchors.row_hashes(at)
        for row, pair in enumerate(anchors.pairs(at)):
            yield pair, hashes[row].tobytes()
