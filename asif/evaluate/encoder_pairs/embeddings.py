"""Embeddings of the same pairs by several encoders, and how they are read from anchor sets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from asif.aligners.sampling import choose_evenly_spaced
from asif.anchorset import AnchorSet
from asif.anchorset.format.references import parse_sequence_number
from asif.encoders.joined import join_fingerprints, join_vectors
from asif.encoders.spec import join_specs, split_spec
from asif.errors import InputRefused, UsageError
from asif.pairs import Reject
from asif.vectors import Fingerprint, Float32, Side, mean_direction, normalise_rows


@dataclass(frozen=True)
class EncodedSide:
    """Hold unit rows [n, d] of one side of the pairs, and which encoder made them.

    `anchors` is {name, version, digest} of the version they come from, None if they were embedded now.
    """

    side: Side
    spec: str
    fingerprint: Fingerprint
    values: Float32
    anchors: Mapping[str, str] | None = None

    @property
    def identity(self) -> str:
        """Hash encoder and rows: equal for two anchor sets that share an encoder."""
        return hashlib.sha256(self.fingerprint.digest.encode() + self.values.tobytes()).hexdigest()

    @property
    def copies(self) -> int:
        """Count the rows that are the same as an earlier one."""
        return len(self.values) - len({row.tobytes() for row in self.values})


@dataclass(frozen=True)
class EncodedPairs:
    """Hold the embeddings of the same rows by each encoder of a side, and the rows that were left out."""

    images: tuple[EncodedSide, ...]
    texts: tuple[EncodedSide, ...]
    rejects: tuple[Reject, ...] = ()

    def __len__(self) -> int:
        return len(self.images[0].values)


def label_encoders(encoded: Sequence[EncodedSide]) -> list[str]:
    """Name each encoder by its spec, with its anchor set if several have the same spec.

    >>> rows = np.eye(2, dtype=np.float32)
    >>> fields = Fingerprint({"library": "precomputed"})
    >>> sets = [{"name": name, "version": "000003-1f2e3d4c5b6a", "digest": ""} for name in ("a", "b")]
    >>> label_encoders([EncodedSide("image", "precomputed", fields, rows, one) for one in sets])
    ['precomputed (a@3)', 'precomputed (b@3)']
    """
    specs = [one.spec for one in encoded]
    return [
        f"{one.spec} ({one.anchors['name']}@{parse_sequence_number(one.anchors['version'])})"
        if one.anchors and specs.count(one.spec) > 1
        else one.spec
        for one in encoded
    ]


def join_sides(parts: Sequence[EncodedSide]) -> EncodedSide:
    """Join the rows of several encoders of one side, as the join of the encoders would give them."""
    fingerprint = join_fingerprints([(part.fingerprint, part.values.shape[1]) for part in parts])
    spec, values = join_specs(label_encoders(parts)), join_vectors([part.values for part in parts])
    return EncodedSide(parts[0].side, spec, fingerprint, values)


def add_joins(encoded: EncodedPairs) -> EncodedPairs:
    """Add the joins of each two encoders of a side, and that of all of them; nothing is encoded again.

    Encoders that are joined already are not joined further. Raises UsageError if no side has two encoders.
    """
    images, texts = (_list_joins(side) for side in (encoded.images, encoded.texts))
    if not images and not texts:
        raise UsageError(
            f"joins of {len(encoded.images)} image and {len(encoded.texts)} text encoders",
            "two encoders of a side, that are not joined yet",
            "name more encoders, or leave out --joins",
        )
    return EncodedPairs((*encoded.images, *images), (*encoded.texts, *texts), encoded.rejects)


def _list_joins(sides: Sequence[EncodedSide]) -> list[EncodedSide]:
    """Join each two encoders, and all if they are more, in the order of their names; not what is joined already."""
    single = [side for side in sides if len(side.fingerprint.parts) == 1]
    ordered = [side for _, side in sorted(zip(label_encoders(single), single, strict=True), key=lambda one: one[0])]
    subsets = [*combinations(ordered, 2), *([tuple(ordered)] if len(ordered) > 2 else [])]
    known = {frozenset(split_spec(side.spec)) for side in sides}
    return [joined for joined in map(join_sides, subsets) if frozenset(split_spec(joined.spec)) not in known]


def read_stored_pairs(sets: Sequence[AnchorSet], limit: int) -> EncodedPairs:
    """Read the stored embeddings of anchor sets over the same pairs; no encoder is loaded.

    Captions that are separate anchors are averaged again: otherwise an image with several anchors would be its own
    neighbour. Embeddings that several sets share are read once. Raises InputRefused if ids differ.
    """
    found: dict[Side, dict[str, EncodedSide]] = {"image": {}, "text": {}}
    first = _group_rows_by_pair(sets[0])
    names = [list(first)[at] for at in choose_evenly_spaced(len(first), limit)]
    for anchors in sets:
        rows_of = _group_rows_by_pair(anchors)
        differing = rows_of.keys() ^ first.keys()
        if differing:
            raise InputRefused(
                f"{sets[0].ref} and {anchors.ref} differ in {len(differing):,} pairs, such as {min(differing)!r}",
                "anchor sets of the same pairs, with equal ids",
                "build them from the same input with an id column, or compare one set at a time",
            )
        about = {"name": anchors.name, "version": anchors.version, "digest": anchors.digest}
        for side, known in found.items():
            rows = np.concatenate([block.astype(np.float32) for block in anchors.blocks(side)])
            values = normalise_rows(np.stack([mean_direction(list(rows[rows_of[name]])) for name in names]))
            one = EncodedSide(side, anchors.encoder_spec(side), anchors.fingerprint(side), values, about)
            known.setdefault(one.identity, one)
    return EncodedPairs(tuple(found["image"].values()), tuple(found["text"].values()))


def _group_rows_by_pair(anchors: AnchorSet) -> dict[str, list[int]]:
    """Return the rows of each pair by its id: several if each caption is an anchor, `<id>#<number>`."""
    rows: dict[str, list[int]] = {}
    for row, record in enumerate(anchors.records(range(anchors.count))):
        name = anchors.manifest.pair_id(record.id)
        rows.setdefault(name, []).append(row)
    return rows
