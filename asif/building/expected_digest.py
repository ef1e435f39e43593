"""What a build of some pairs would hold, found without encoding any, beside what a set holds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from asif.anchorset import AnchorSet
from asif.anchorset.format.row_hash import compute_set_digest, hash_record, stack_hashes
from asif.anchorset.select.find import iter_ids_with_hashes
from asif.building.build import Source
from asif.building.pair_records import image_content, records_of
from asif.errors import BadImage
from asif.pairs import Pair, PairRecord, Reject
from asif.vectors import SIDES

Excuses = Counter[str | None]
"""How many rejects of a set have each id, or none."""


@dataclass(frozen=True)
class Beside:
    """Hold what the pairs of a source would be built into, less those that were removed or rejected, beside a set.

    `digest` is that of such a build, `missing` the ids it has and the set has not, `more` those that only the set has.
    `rejected` counts the rows left out because the set names them among its rejects; `removed` are those of receipts
    that the source has still, {row hash: record}, `kept` the captions and the images' sha256 of all other pairs.
    """

    digest: str
    pairs: int
    missing: tuple[str, ...]
    more: tuple[str, ...]
    rejected: int
    removed: Mapping[bytes, PairRecord]
    kept: frozenset[str]

    def traces_of(self, rows: Collection[bytes]) -> tuple[frozenset[str], frozenset[str]]:
        """Return the captions and the images' sha256 that removed rows have, and no pair that was not."""
        records = [record for row, record in self.removed.items() if row in rows]
        captions = frozenset(caption for record in records for caption in record.captions)
        return captions - self.kept, frozenset(record.image_sha256 for record in records) - self.kept


def compare(
    source: Source,
    anchors: AnchorSet,
    gone: Collection[bytes] = (),
    limit: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Beside:
    """Hash the pairs of a source as a build does, reading every image once, and compare them to a set.

    `gone` are row hashes that were removed. A row that the set does not have is left out where its id is among the
    set's rejects, once for each of these. Memory: about 200 bytes for each row of the source.
    """
    ours = {hashed: name for name, hashed in iter_ids_with_hashes(anchors)}
    excuses: Excuses = Counter(reject.id for reject in anchors.rejects())
    built: dict[bytes, str] = {}
    out: dict[bytes, PairRecord] = {}
    kept: set[str] = set()
    rejected = 0
    removed = frozenset(gone)
    for done, (pair, records) in enumerate(_read(source, anchors, limit), 1):
        hashes = [hash_record(record) for record in records]
        absent = {at: records[at].id for at, one in enumerate(hashes) if one not in ours and one not in removed}
        excused = _excused(excuses, pair, absent) if absent or not records else set()
        rejected += len(excused) if records else 1
        for at, record in enumerate(records):
            if hashes[at] in removed:
                out[hashes[at]] = record
            elif at not in excused:
                built[hashes[at]] = record.id
                kept.update((*record.captions, record.image_sha256))
        progress(done)
    return Beside(
        _digest(anchors, built),
        len(built),
        tuple(sorted(name for one, name in built.items() if one not in ours)),
        tuple(sorted(name for one, name in ours.items() if one not in built)),
        rejected,
        out,
        frozenset(kept),
    )


def _read(source: Source, anchors: AnchorSet, limit: int | None) -> Iterator[tuple[Pair | Reject, list[PairRecord]]]:
    """Yield each row with the records that it gives; none where its image cannot be read."""
    for item in islice(source.read(), limit):
        try:
            sha256 = hashlib.sha256(image_content(item)).hexdigest() if isinstance(item, Pair) else ""
        except BadImage:
            yield item, []
            continue
        captions = anchors.manifest.captions
        yield item, records_of(item, sha256, captions) if isinstance(item, Pair) else []  # type: ignore[arg-type]


def _excused(excuses: Excuses, item: Pair | Reject, names: Mapping[int, str]) -> set[int]:
    """Take from the excuses what explains why anchors of a row, by their place in it, are not in the set; tell which.

    A duplicate was rejected by the anchor's own id, a row that could not be used by the pair's.
    """
    found = set()
    for at, name in names.items():
        if excuses[name]:
            excuses[name] -= 1
            found.add(at)
    if (len(found) < len(names) or not names) and excuses[item.id]:
        excuses[item.id] -= 1
        return set(names)
    return found


def _digest(anchors: AnchorSet, built: dict[bytes, str]) -> str:
    ordered = sorted(built, key=lambda one: (built[one].encode(), one))
    fingerprints = {side: anchors.fingerprint(side) for side in SIDES}
    return compute_set_digest(anchors.manifest.dtype, anchors.manifest.captions, fingerprints, [stack_hashes(ordered)])
