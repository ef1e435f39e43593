"""Views: some pairs of one set or of several, used as if they were a set; a view exists in memory alone."""

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
from asif.anchorset.format.blocks import MAX_BLOCK_ROWS, sum_rows
from asif.anchorset.format.kinds import SetKind
from asif.anchorset.format.pair_filter import NO_FILTER, PairFilter
from asif.anchorset.format.protocol import AnchorsIdentity, describe_as_html
from asif.anchorset.format.references import MAX_UNION_MEMBERS
from asif.anchorset.format.row_hash import compute_set_digest
from asif.anchorset.select.compatibility import check_compatible, check_id_conflicts
from asif.anchorset.select.find import iter_pairs_with_hashes
from asif.errors import InputRefused, UsageError
from asif.pairs.pair import PairRecord
from asif.vectors import SIDES, Fingerprint, Float64, Int64, Side, gather_rows

_ROWS_READ = 4096  # records that an iteration makes at a time
_MIN_MAPPED_ROWS = 512
"""Shorter runs of rows are copied, so that there are few blocks and kernels read them at full speed."""


@dataclass(frozen=True, eq=False)
class View:
    """Hold some pairs of compatible sets, in the order of ids; the digest is that of a set of exactly these pairs.

    Row i is row `rows[i]` of the member `owners[i]`. Runs of at least 512 rows are views of the mapped file; other rows
    are copied, in stored precision. Memory: the copied rows, and 9 bytes for each pair.
    """

    members: tuple[AnchorSet, ...]
    pair_filter: PairFilter
    digest: str
    owners: NDArray[np.uint8]
    rows: Int64
    sides: Mapping[Side, tuple[NDArray[Any], ...]]

    @property
    def named(self) -> AnchorsIdentity:
        version = "+".join(member.version for member in self.members)
        return AnchorsIdentity(self.name, version, self.digest, self.pair_filter)

    @property
    def kind(self) -> SetKind:
        return self.members[0].kind

    @property
    def name(self) -> str:
        return "+".join(member.name for member in self.members)

    @property
    def ref(self) -> str:
        whole = "+".join(member.ref for member in self.members)
        return f"{whole} where {self.pair_filter}" if self.pair_filter else whole

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def dims(self) -> dict[Side, int]:
        return self.members[0].dims

    @property
    def profiles(self) -> dict[str, Any]:
        """Return none: profiles are tuned for other anchors."""
        return {}

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        return list(self.sides[side])

    def iter_copied_blocks(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield both sides in the blocks of a set of these pairs, each copied, so that sums over them are equal."""
        for start in range(0, self.count, MAX_BLOCK_ROWS):
            some = np.arange(start, min(start + MAX_BLOCK_ROWS, self.count))
            image, text = (gather_rows(self.sides[side], some) for side in SIDES)
            yield image, text

    def mean(self, side: Side) -> Float64:
        total: Float64 = np.add.reduce(
            [sum_rows(both[SIDES.index(side)]) for both in self.iter_copied_blocks()], axis=0
        )
        return total / self.count

    def records(self, indices: Sequence[int] | Int64) -> list[PairRecord]:
        wanted = np.asarray(indices, np.int64)
        records: dict[int, PairRecord] = {}
        for number, member in enumerate(self.members):
            places = np.flatnonzero(self.owners[wanted] == number)
            records.update(zip(places.tolist(), member.records(self.rows[wanted[places]]), strict=True))
        return [records[place] for place in range(len(wanted))]

    def read_captions(self) -> list[tuple[str, ...]]:
        """Read the captions of all pairs, in the order of ids."""
        captions = [member.read_captions() for member in self.members]
        return [captions[owner][row] for owner, row in zip(self.owners.tolist(), self.rows.tolist(), strict=True)]

    def fingerprint(self, side: Side) -> Fingerprint:
        return self.members[0].fingerprint(side)

    def encoder_spec(self, side: Side) -> str:
        return self.members[0].encoder_spec(side)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[PairRecord]:
        """Iterate over the records of all pairs, in the order of ids."""
        for start in range(0, self.count, _ROWS_READ):
            yield from self.records(range(start, min(start + _ROWS_READ, self.count)))

    def __repr__(self) -> str:
        return f"<View {self.ref}: {self.count:,} anchors>"

    def _repr_html_(self) -> str:
        """Return a small table for notebooks."""
        return describe_as_html(self)


def open_view(members: Sequence[AnchorSet], pair_filter: PairFilter = NO_FILTER) -> View:
    """Open a view of the pairs of sets that match a filter; a pair that several sets have is taken once.

    Reads the tables of all pairs. Raises EncoderMismatch if fingerprints differ, InputRefused if dtypes or
    captions modes differ, if an id belongs to different pairs, and if no pair is left; NotFound for licences that
    no pair has, UsageError for more than 32 sets, IntegrityError for a changed table.
    """
    ref = "+".join(member.ref for member in members)
    if len(members) > MAX_UNION_MEMBERS:  # and `owners` are bytes
        raise UsageError(
            f"a union of {len(members)} sets",
            f"at most {MAX_UNION_MEMBERS}",
            "merge some: asif anchors merge A B --name C",
        )
    for other in members[1:]:
        check_compatible(members[0].manifest, other.manifest)
    counts: Counter[str | None] = Counter()
    streams = [_iter_matching(number, member, pair_filter, counts) for number, member in enumerate(members)]
    owners, rows, hashes, conflicts = array("B"), array("q"), bytearray(), []
    for name, same in groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        (_, owner, row, line), *others = same
        if any(other[3] != line for other in others):
            conflicts.append(name)
        owners.append(owner)
        rows.append(row)
        hashes += line
    pair_filter.check(ref, counts)
    check_id_conflicts(
        conflicts,
        f"in the sets of {ref}",
        "merge them, asif anchors merge A B --on-conflict first --name C, and use that set",
    )
    if not rows:
        raise InputRefused(f"no pair of {ref} was chosen by {pair_filter}", "one, at least", "choose otherwise")
    manifest = members[0].manifest
    prints = {side: members[0].fingerprint(side) for side in SIDES}
    lines = np.frombuffer(hashes, np.uint8).reshape(-1, 32)
    digest = compute_set_digest(manifest.dtype, manifest.captions, prints, [lines])
    whose, which = np.array(owners, np.uint8), np.array(rows, np.int64)
    return View(
        tuple(members),
        pair_filter,
        digest,
        whose,
        which,
        {side: _build_blocks(members, side, whose, which) for side in SIDES},
    )


def _iter_matching(
    number: int, member: AnchorSet, pair_filter: PairFilter, counts: Counter[str | None]
) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield id, member, row and row hash of the pairs that match a filter; count the licences of all pairs."""
    matches = pair_filter.predicate()
    for row, (pair, line) in enumerate(iter_pairs_with_hashes(member)):
        counts[pair.licence] += 1
        if matches(pair):
            yield pair.id, number, row, line


def _build_blocks(
    members: Sequence[AnchorSet], side: Side, owners: NDArray[np.uint8], rows: Int64
) -> tuple[NDArray[Any], ...]:
    """Build blocks of rows: views of long runs in a block of a member, and copies of the rows between them."""
    starts = [np.cumsum([0, *map(len, member.blocks(side))]) for member in members]
    places = np.empty(len(rows), np.int64)
    for number, first in enumerate(starts):
        mine = owners == number
        places[mine] = np.searchsorted(first, rows[mine], side="right") - 1
    new = (np.diff(rows) != 1) | (np.diff(places) != 0) | (owners[1:] != owners[:-1])
    edges = np.concatenate([[0], np.flatnonzero(new) + 1, [len(rows)]])
    long = np.flatnonzero(np.diff(edges) >= _MIN_MAPPED_ROWS)
    mapped = set(edges[long].tolist())
    cuts = np.unique(np.concatenate([[0, len(rows)], edges[long], edges[long + 1]])).tolist()
    blocks: list[NDArray[Any]] = []
    for start, stop in pairwise(cuts):
        if start in mapped:
            owner, place = int(owners[start]), int(places[start])
            begin = int(rows[start] - starts[owner][place])
            blocks.append(members[owner].blocks(side)[place][begin : begin + stop - start])
        else:
            pieces = [slice(at, min(at + MAX_BLOCK_ROWS, stop)) for at in range(start, stop, MAX_BLOCK_ROWS)]
            blocks += [_copy_rows(members, side, owners[some], rows[some]) for some in pieces]
    return tuple(blocks)


def _copy_rows(members: Sequence[AnchorSet], side: Side, owners: NDArray[np.uint8], rows: Int64) -> NDArray[Any]:
    """Copy rows of members into read-only memory: kernels may cache such a block on a device."""
    kind = members[0].blocks(side)[0].dtype
    values = np.empty((len(rows), members[0].dims[side]), kind)
    for owner in np.unique(owners).tolist():
        mine = owners == owner
        values[mine] = gather_rows(members[owner].blocks(side), rows[mine])
    return np.frombuffer(values.tobytes(), kind).reshape(values.shape)
