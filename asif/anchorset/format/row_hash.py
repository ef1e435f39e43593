"""What a pair hashes to, what a set of them hashes to, and which of several equal pairs is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from json.encoder import encode_basestring as quoted
from typing import Any, Literal

import numpy as np

from asif.anchorset.format.blocks import UInt8
from asif.pairs.pair import PairRecord
from asif.vectors import Fingerprint, Int64, Side, canonical_json

Dedup = Literal["exact", "keep"]


def record_line(record: PairRecord) -> bytes:
    """Return the canonical JSON of a record: what its row hash is taken over.

    Put together by hand, as that is ten times faster than `canonical_json` of the fields, which it is equal to.

    >>> print(record_line(PairRecord("é", ("a dog", "two"), "…", licence="CC0-1.0")).decode())
    {"captions":["a dog","two"],"id":"é","image_sha256":"…","licence":"CC0-1.0","source":null,"url":null}
    """
    captions = ",".join(map(quoted, record.captions))
    licence = "null" if record.licence is None else quoted(record.licence)
    source = "null" if record.source is None else quoted(record.source)
    url = "null" if record.url is None else quoted(record.url)
    return (
        f'{{"captions":[{captions}],"id":{quoted(record.id)},"image_sha256":{quoted(record.image_sha256)},'
        f'"licence":{licence},"source":{source},"url":{url}}}'
    ).encode()


def record_from(fields: Mapping[str, Any]) -> PairRecord:
    """Read back what `record_line` wrote, parsed."""
    return PairRecord(**{**fields, "captions": tuple(fields["captions"])})


def row_hash(record: PairRecord) -> bytes:
    """Return the sha256 [32 bytes] of all that is remembered of a pair."""
    return hashlib.sha256(record_line(record)).digest()


def content_hash(record: PairRecord) -> bytes:
    """Return the sha256 [32 bytes] of captions and image alone: equal for the same pair from two places."""
    content = {"captions": list(record.captions), "image_sha256": record.image_sha256}
    return hashlib.sha256(canonical_json(content)).digest()


def hash_rows(records: Sequence[PairRecord]) -> UInt8:
    """Return the row hashes [n, 32]."""
    return as_hashes(row_hash(record) for record in records)


def as_hashes(hashes: Iterable[bytes]) -> UInt8:
    """Stack hashes of 32 bytes to [n, 32]."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


def set_digest(dtype: str, captions: str, fingerprints: Mapping[Side, Fingerprint], row_hashes: Iterable[UInt8]) -> str:
    """Return the sha256 that names a set: which pairs, which encoders, stored how.

    `row_hashes` are [n, 32] in the order of ids, cut anywhere; so the digest does not depend on blocks, and removing
    a pair gives the digest of building without it. The bytes of the embeddings are named by their blocks' sha256.
    """
    head = {"dtype": dtype, "captions": captions, **{side: fingerprints[side].digest for side in ("image", "text")}}
    digest = hashlib.sha256(b"asif anchor set 1\n" + canonical_json(head) + b"\n")
    for hashes in row_hashes:
        digest.update(np.ascontiguousarray(hashes).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Resolution:
    """Hold which rows are kept, in the order of ids, and why others are not: {row: reason}."""

    kept: Int64
    dropped: dict[int, str]


def resolve(ids: Sequence[bytes], row_hashes: UInt8, content_hashes: UInt8, dedup: Dedup) -> Resolution:
    """Choose among rows with equal ids (UTF-8), and with `exact` among rows of equal content.

    Which pairs are kept does not depend on the order of the rows: of one id the smallest row hash, of one content
    the smallest id. Of rows equal in everything the first is kept.

    >>> hashes = np.zeros((3, 32), np.uint8); hashes[:, 0] = [7, 5, 5]
    >>> resolve([b"b", b"a", b"a"], hashes, hashes, "keep")
    Resolution(kept=array([1, 0]), dropped={2: 'duplicate of the same id'})
    """
    kept: list[int] = []
    dropped: dict[int, str] = {}
    for _, group in groupby(sorted(range(len(ids)), key=ids.__getitem__), key=ids.__getitem__):
        rows = list(group)
        best = min(rows, key=lambda row: row_hashes[row].tobytes()) if len(rows) > 1 else rows[0]
        kept.append(best)
        for row in rows:
            if row != best:
                same = bool((row_hashes[row] == row_hashes[best]).all())
                dropped[row] = "duplicate of the same id" if same else "id used by another pair"
    chosen = np.array(kept, np.int64)
    if dedup == "exact":
        chosen = _drop_equal_content(chosen, ids, content_hashes, dropped)
    return Resolution(chosen, dropped)


def _drop_equal_content(chosen: Int64, ids: Sequence[bytes], hashes: UInt8, dropped: dict[int, str]) -> Int64:
    """Keep the first, that is the smallest id, of equal content; `chosen` is in the order of ids."""
    words = hashes[chosen].view(np.uint64)  # [m, 4]: a stable sort by them brings equal content together
    order = np.lexsort(words.T)
    equal = np.zeros(len(order), bool)
    equal[1:] = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    first = 0
    for place in np.flatnonzero(equal):
        if not equal[place - 1]:
            first = int(place) - 1
        dropped[int(chosen[order[place]])] = f"duplicate of {ids[chosen[order[first]]].decode()}"
    survives = np.ones(len(chosen), bool)
    survives[order[equal]] = False
    return chosen[survives]
