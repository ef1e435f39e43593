"""Compare a set with the build that its pairs would give; runs no encoder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from asif.anchorset import AnchorSet
from asif.anchorset.format.row_hash import compute_set_digest, hash_record, stack_hashes
from asif.anchorset.select.find import iter_ids_with_hashes
from asif.building.build import PairReader
from asif.building.pair_records import make_pair_records, read_image_content
from asif.errors import BadMedia
from asif.pairs import JoinedRow, Pair, PairRecord, PairSource, Reject, index_rows_apart, join_repeated_ids
from asif.vectors import SIDES

_RejectCounts = Counter[str | None]
"""The number of rejects of a set by id (None: rejects without one)."""


@dataclass(frozen=True)
class SourceComparison:
    """Hold how a set differs from a build of a source's pairs, without those that were removed or rejected.

    `digest` is that of the build, `missing` are ids that only the build has, `more` ids that only the set has.
    `rejected` counts the rows left out because they are among the set's rejects. `removed` {row hash: record} are
    pairs of receipts that are still in the source, `remaining` the captions and image sha256 of all other pairs.
    """

    digest: str
    pairs: int
    missing: tuple[str, ...]
    more: tuple[str, ...]
    rejected: int
    removed: Mapping[bytes, PairRecord]
    remaining: frozenset[str]

    def find_traces(self, rows: Collection[bytes]) -> tuple[frozenset[str], frozenset[str]]:
        """Return captions and image sha256 that occur in removed rows only."""
        records = [record for row, record in self.removed.items() if row in rows]
        captions = frozenset(caption for record in records for caption in record.captions)
        return captions - self.remaining, frozenset(record.image_sha256 for record in records) - self.remaining


def compare_source(
    source: PairReader,
    anchors: AnchorSet,
    gone: Collection[bytes] = (),
    limit: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> SourceComparison:
    """Hash the pairs of a source as a build does, reading every image once, and compare them with a set.

    `gone` are the hashes of removed rows. A row that the set does not have is left out if its id is among the set's
    rejects, once per reject. Memory: about 200 bytes for each row of the source.
    """
    ours = {hashed: name for name, hashed in iter_ids_with_hashes(anchors)}
    rejects: _RejectCounts = Counter(reject.id for reject in anchors.rejects())
    built: dict[bytes, str] = {}
    out: dict[bytes, PairRecord] = {}
    kept: set[str] = set()
    rejected = 0
    removed = frozenset(gone)
    unreadable: set[int] = set()
    for done, (pair, records) in enumerate(_read_records(source, anchors, limit), 1):
        progress(done)
        if isinstance(pair, JoinedRow):  # its captions were those of an earlier row
            rejected += pair.first in unreadable
            continue
        hashes = [hash_record(record) for record in records]
        absent = {at: records[at].id for at, one in enumerate(hashes) if one not in ours and one not in removed}
        rejected_here = _match_rejects(rejects, pair, absent) if absent or not records else set()
        rejected += len(rejected_here) if records else 1 + len(pair.joined)
        unreadable.update(() if records else (pair.row,))
        for at, record in enumerate(records):
            if hashes[at] in removed:
                out[hashes[at]] = record
            elif at not in rejected_here:
                built[hashes[at]] = record.id
                kept.update((*record.captions, record.image_sha256))
    return SourceComparison(
        _compute_digest(anchors, built),
        len(built),
        tuple(sorted(name for one, name in built.items() if one not in ours)),
        tuple(sorted(name for one, name in ours.items() if one not in built)),
        rejected,
        out,
        frozenset(kept),
    )


def _read_records(
    source: PairReader, anchors: AnchorSet, limit: int | None
) -> Iterator[tuple[Pair | Reject | JoinedRow, list[PairRecord]]]:
    """Yield each row with its records; no records if its image cannot be read."""
    rows = source.rows if limit is None else min(source.rows, limit)
    apart = index_rows_apart(source, rows) if isinstance(source, PairSource) else None
    items = islice(source.read(), limit)
    for item in apart.join(items) if apart else join_repeated_ids(items):
        try:
            sha256 = hashlib.sha256(read_image_content(item)).hexdigest() if isinstance(item, Pair) else ""
        except BadMedia:
            yield item, []
            continue
        captions = anchors.manifest.captions
        yield item, make_pair_records(item, sha256, captions) if isinstance(item, Pair) else []  # type: ignore[arg-type]


def _match_rejects(rejects: _RejectCounts, item: Pair | Reject, names: Mapping[int, str]) -> set[int]:
    """Return which anchors of a row, by their position in it, are missing from the set because they were rejected.

    Each match uses up one reject. Duplicates were rejected by the anchor's id, unusable rows by the pair's.
    """
    found = set()
    for at, name in names.items():
        if rejects[name]:
            rejects[name] -= 1
            found.add(at)
    if (len(found) < len(names) or not names) and rejects[item.id]:
        rejects[item.id] -= 1
        return set(names)
    return found


def _compute_digest(anchors: AnchorSet, built: dict[bytes, str]) -> str:
    ordered = sorted(built, key=lambda one: (built[one].encode(), one))
    fingerprints = {side: anchors.fingerprint(side) for side in SIDES}
    return compute_set_digest(anchors.manifest.dtype, anchors.manifest.captions, fingerprints, [stack_hashes(ordered)])
