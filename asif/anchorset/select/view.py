"""Views: some pairs of one set or of several as if they were a set, made for a question and kept in memory alone."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.blocks import MAX_ROWS, Float64, sum_rows
from asif.anchorset.format.pair_filter import EVERYTHING, Mask
from asif.anchorset.format.protocol import Named
from asif.anchorset.format.references import MOST_MEMBERS
from asif.anchorset.format.row_hash import set_digest
from asif.anchorset.select.compatibility import check_alike, refuse_conflicts
from asif.anchorset.select.find import hashed_pairs
from asif.errors import InputRefused, UsageError
from asif.pairs.pair import PairRecord
from asif.vectors import SIDES, Fingerprint, Int64, Side, gathered

LEAST = 512
"""Rows in one piece below which they are copied: so blocks are never many, and kernels read them at full speed."""


@dataclass(frozen=True, eq=False)
class View:
    """Hold some pairs of sets that are alike, in the order of ids; the digest is that of a set of just these pairs.

    Row i is row `rows[i]` of the member `owners[i]`. Where at least 512 rows lie in one piece they are views of the
    mapped file; others are copied, in stored precision. Memory: what was copied, and 9 bytes for each pair.
    """

    members: tuple[AnchorSet, ...]
    mask: Mask
    digest: str
    owners: NDArray[np.uint8]
    rows: Int64
    sides: Mapping[Side, tuple[NDArray[Any], ...]]

    @property
    def named(self) -> Named:
        version = "+".join(member.version for member in self.members)
        return Named(self.name, version, self.digest, self.mask)

    @property
    def name(self) -> str:
        return "+".join(member.name for member in self.members)

    @property
    def ref(self) -> str:
        whole = "+".join(member.ref for member in self.members)
        return f"{whole} where {self.mask}" if self.mask else whole

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def dims(self) -> dict[Side, int]:
        return self.members[0].dims

    @property
    def profiles(self) -> dict[str, Any]:
        """Return none: they were found for other anchors."""
        return {}

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        return list(self.sides[side])

    def pieces(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield both sides cut as a set of these pairs is, copied piece by piece: sums over them come out the same."""
        for start in range(0, self.count, MAX_ROWS):
            some = np.arange(start, min(start + MAX_ROWS, self.count))
            image, text = (gathered(self.sides[side], some) for side in SIDES)
            yield image, text

    def mean(self, side: Side) -> Float64:
        total: Float64 = np.add.reduce([sum_rows(both[SIDES.index(side)]) for both in self.pieces()], axis=0)
        return total / self.count

    def records(self, indices: Sequence[int] | Int64) -> list[PairRecord]:
        asked = np.asarray(indices, np.int64)
        found: dict[int, PairRecord] = {}
        for number, member in enumerate(self.members):
            places = np.flatnonzero(self.owners[asked] == number)
            found.update(zip(places.tolist(), member.records(self.rows[asked[places]]), strict=True))
        return [found[place] for place in range(len(asked))]

    def fingerprint(self, side: Side) -> Fingerprint:
        return self.members[0].fingerprint(side)

    def encoder_spec(self, side: Side) -> str:
        return self.members[0].encoder_spec(side)

    def __repr__(self) -> str:
        return f"<View {self.ref}: {self.count:,} anchors>"


def open_view(members: Sequence[AnchorSet], mask: Mask = EVERYTHING) -> View:
    """Take the pairs of sets, those that a mask lets through; a pair that several have is taken once.

    Reads the tables of all pairs. Raises EncoderMismatch where fingerprints differ, InputRefused where dtypes or
    captions modes do, where an id stands for different pairs, and where no pair is left; NotFound for licences that
    there are none of, UsageError for more than 32 sets, IntegrityError for a changed table.
    """
    ref = "+".join(member.ref for member in members)
    if len(members) > MOST_MEMBERS:  # and a byte tells of which a pair is
        raise UsageError(
            f"a union of {len(members)} sets", f"at most {MOST_MEMBERS}", "merge some: asif anchors merge A B --name C"
        )
    for other in members[1:]:
        check_alike(members[0].manifest, other.manifest)
    counts: Counter[str | None] = Counter()
    streams = [_let_through(number, member, mask, counts) for number, member in enumerate(members)]
    owners, rows, hashes, conflicts = array("B"), array("q"), bytearray(), []
    for name, same in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        (_, owner, row, line), *others = same
        if any(other[3] != line for other in others):
            conflicts.append(name)
        owners.append(owner)
        rows.append(row)
        hashes += line
    mask.check(ref, counts)
    refuse_conflicts(
        conflicts,
        f"in one of {ref} than in another",
        "merge them, asif anchors merge A B --on-conflict first --name C, and ask with that set",
    )
    if not rows:
        raise InputRefused(f"no pair of {ref} was chosen by {mask}", "one, at least", "choose otherwise")
    manifest = members[0].manifest
    prints = {side: members[0].fingerprint(side) for side in SIDES}
    lines = np.frombuffer(hashes, np.uint8).reshape(-1, 32)
    digest = set_digest(manifest.dtype, manifest.captions, prints, [lines])
    whose, which = np.array(owners, np.uint8), np.array(rows, np.int64)
    return View(
        tuple(members), mask, digest, whose, which, {side: _laid(members, side, whose, which) for side in SIDES}
    )


def _let_through(
    number: int, member: AnchorSet, mask: Mask, counts: Counter[str | None]
) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield id, member, row and row hash of the pairs that a mask lets through; count licences of all."""
    holds = mask.test()
    for row, (pair, line) in enumerate(hashed_pairs(member)):
        counts[pair.licence] += 1
        if holds(pair):
            yield pair.id, number, row, line


def _laid(members: Sequence[AnchorSet], side: Side, owners: NDArray[np.uint8], rows: Int64) -> tuple[NDArray[Any], ...]:
    """Lay rows out as blocks: long runs of a block of a member as they are mapped, what is between them copied."""
    starts = [np.cumsum([0, *map(len, member.blocks(side))]) for member in members]
    places = np.empty(len(rows), np.int64)
    for number, first in enumerate(starts):
        mine = owners == number
        places[mine] = np.searchsorted(first, rows[mine], side="right") - 1
    new = (np.diff(rows) != 1) | (np.diff(places) != 0) | (owners[1:] != owners[:-1])
    edges = np.concatenate([[0], np.flatnonzero(new) + 1, [len(rows)]])
    long = np.flatnonzero(np.diff(edges) >= LEAST)
    mapped = set(edges[long].tolist())
    cuts = np.unique(np.concatenate([[0, len(rows)], edges[long], edges[long + 1]])).tolist()
    found: list[NDArray[Any]] = []
    for start, stop in pairwise(cuts):
        if start in mapped:
            owner, place = int(owners[start]), int(places[start])
            begin = int(rows[start] - starts[owner][place])
            found.append(members[owner].blocks(side)[place][begin : begin + stop - start])
        else:
            pieces = [slice(at, min(at + MAX_ROWS, stop)) for at in range(start, stop, MAX_ROWS)]
            found += [_copied(members, side, owners[some], rows[some]) for some in pieces]
    return tuple(found)


def _copied(members: Sequence[AnchorSet], side: Side, owners: NDArray[np.uint8], rows: Int64) -> NDArray[Any]:
    """Copy rows of members into memory that nobody can write to: engines may keep such a block on a device."""
    kind = members[0].blocks(side)[0].dtype
    values = np.empty((len(rows), members[0].dims[side]), kind)
    for owner in np.unique(owners).tolist():
        mine = owners == owner
        values[mine] = gathered(members[owner].blocks(side), rows[mine])
    return np.frombuffer(values.tobytes(), kind).reshape(values.shape)
