"""What differs between two versions of an anchor set, or between two sets."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from asif.anchorset.format.anchor_set import AnchorSet
from asif.anchorset.format.manifest import BlockEntry
from asif.anchorset.select.find import hashed_ids
from asif.vectors import SIDES, Side


@dataclass(frozen=True)
class Difference:
    """Hold by what the set `b` differs from `a`: ids in order, and what is not alike in how they were made.

    `changed` are ids of both with different row hashes: another caption, image, source, licence or url. `encoders` are
    the fields of fingerprints {side: {field: (in a, in b)}}, `stored` those of the sets, dtype and captions mode.
    """

    a: str
    b: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    encoders: Mapping[Side, Mapping[str, tuple[Any, Any]]]
    stored: Mapping[str, tuple[str, str]]


def difference(a: AnchorSet, b: AnchorSet) -> Difference:
    """Compare two opened sets; blocks that they share are not read. Memory: about 150 bytes for each other pair."""
    shared = set(a.manifest.blocks) & set(b.manifest.blocks)
    was, now = _rows(a, shared), _rows(b, shared)
    differing = {side: a.fingerprint(side).differences(b.fingerprint(side)) for side in SIDES}
    named = {name: (getattr(a.manifest, name), getattr(b.manifest, name)) for name in ("dtype", "captions")}
    return Difference(
        a.ref,
        b.ref,
        added=_ordered(now.keys() - was.keys()),
        removed=_ordered(was.keys() - now.keys()),
        changed=_ordered({name for name in was.keys() & now.keys() if was[name] != now[name]}),
        encoders={side: fields for side, fields in differing.items() if fields},
        stored={name: (mine, theirs) for name, (mine, theirs) in named.items() if mine != theirs},
    )


def _rows(anchors: AnchorSet, shared: Set[BlockEntry]) -> dict[str, bytes]:
    """Return the row hash of each id in the blocks that are not shared."""
    unshared = [at for at, entry in enumerate(anchors.manifest.blocks) if entry not in shared]
    return dict(hashed_ids(anchors, unshared))


def _ordered(ids: Set[str]) -> tuple[str, ...]:
    return tuple(sorted(ids, key=str.encode))
