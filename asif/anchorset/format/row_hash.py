"""Hashes of pairs, the digest of a set of pairs, and the choice among duplicate pairs."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from json.encoder import encode_basestring as quoted
from typing import Any, Literal

import numpy as np

from asif.anchorset.format.blocks import UInt8
from asif.pairs.item import ItemRecord
from asif.pairs.pair import ID_CONFLICT, SAME_PAIR, PairRecord
from asif.vectors import Fingerprint, Int64, Side, canonical_json

DedupMode = Literal["exact", "keep"]
_ID_CHARACTERS = 180  # of an id in a reason
_ITEM_PLACE = ("uri", "size", "mtime_ns", "thumbnail")


def serialize_record(record: PairRecord) -> bytes:
    """Return the canonical JSON of a record; that of a pair is what its row hash is computed over.

    It equals `canonical_json` of the fields, but string formatting is ten times faster.

    >>> print(serialize_record(PairRecord("é", ("a dog", "two"), "…", licence="CC0-1.0")).decode())
    {"captions":["a dog","two"],"id":"é","image_sha256":"…","licence":"CC0-1.0","source":null,"url":null}
    """
    if isinstance(record, ItemRecord):
        return _serialize_item(record)
    captions = ",".join(map(quoted, record.captions))
    licence = "null" if record.licence is None else quoted(record.licence)
    source = "null" if record.source is None else quoted(record.source)
    url = "null" if record.url is None else quoted(record.url)
    return (
        f'{{"captions":[{captions}],"id":{quoted(record.id)},"image_sha256":{quoted(record.image_sha256)},'
        f'"licence":{licence},"source":{source},"url":{url}}}'
    ).encode()


def _serialize_item(item: ItemRecord) -> bytes:
    thumbnail = None if item.thumbnail is None else b64encode(item.thumbnail).decode()
    return canonical_json({**vars(item), "thumbnail": thumbnail})


def parse_record(fields: Mapping[str, Any]) -> PairRecord:
    """Return the record of the parsed JSON that `serialize_record` wrote."""
    values = {**fields, "captions": tuple(fields["captions"])}
    if "uri" not in fields:
        return PairRecord(**values)
    thumbnail = fields["thumbnail"]
    return ItemRecord(**{**values, "thumbnail": None if thumbnail is None else b64decode(thumbnail)})


def hash_record(record: PairRecord) -> bytes:
    """Return the row hash of a record: the sha256 [32 bytes] of all fields of a pair.

    Of an item, fields that say where it was found, and its thumbnail, do not count: uri, size, time.

    >>> item = ItemRecord("a", (), "…", uri="/photos/a.jpg", size=3)
    >>> hash_record(item) == hash_record(ItemRecord("a", (), "…", uri="/copy/a.jpg"))
    True
    """
    if isinstance(record, ItemRecord):
        counted = {name: value for name, value in vars(record).items() if name not in _ITEM_PLACE}
        return hashlib.sha256(canonical_json(counted)).digest()
    return hashlib.sha256(serialize_record(record)).digest()


def hash_line(line: bytes) -> bytes:
    """Return the row hash of a record that `serialize_record` wrote; of any other line, its sha256."""
    if b'"uri":' in line:
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            return hash_record(parse_record(json.loads(line)))
    return hashlib.sha256(line).digest()


def hash_content(record: PairRecord) -> bytes:
    """Return the sha256 [32 bytes] of captions and image alone: equal for the same pair from two sources."""
    content = {"captions": list(record.captions), "image_sha256": record.image_sha256}
    return hashlib.sha256(canonical_json(content)).digest()


def hash_records(records: Sequence[PairRecord]) -> UInt8:
    """Return the row hashes of records [n, 32]."""
    return stack_hashes(hash_record(record) for record in records)


def stack_hashes(hashes: Iterable[bytes]) -> UInt8:
    """Stack hashes of 32 bytes to [n, 32]."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


def compute_set_digest(
    dtype: str, captions: str, fingerprints: Mapping[Side, Fingerprint], row_hashes: Iterable[UInt8]
) -> str:
    """Return the set digest: the sha256 of dtype, captions mode, encoders' fingerprints and row hashes.

    `row_hashes` are [n, 32] in the order of ids, in chunks of any size; so the digest does not depend on blocks, and
    removing a pair gives the digest of a build without it. The embeddings are identified by the sha256 of their blocks.
    """
    encoders: dict[str, str] = {side: each.digest for side, each in fingerprints.items()}
    head = {"dtype": dtype, "captions": captions, **encoders}
    digest = hashlib.sha256(b"asif anchor set 1\n" + canonical_json(head) + b"\n")
    for hashes in row_hashes:
        digest.update(np.ascontiguousarray(hashes).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class DuplicateResolution:
    """Hold the rows that are kept, in the order of ids, and why others are dropped: {row: reason}."""

    kept: Int64
    dropped: dict[int, str]


def resolve_duplicates(
    ids: Sequence[bytes], row_hashes: UInt8, content_hashes: UInt8, dedup: DedupMode
) -> DuplicateResolution:
    """Choose among rows with equal ids (UTF-8), and with `exact` among rows with equal content.

    Which pairs are kept does not depend on the order of the rows: for equal ids the smallest row hash, for equal
    content the smallest id. Of rows that are equal in everything the first is kept.

    >>> hashes = np.zeros((3, 32), np.uint8); hashes[:, 0] = [7, 5, 5]
    >>> resolve_duplicates([b"b", b"a", b"a"], hashes, hashes, "keep")
    DuplicateResolution(kept=array([1, 0]), dropped={2: 'duplicate of the same id'})
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
                dropped[row] = SAME_PAIR if same else ID_CONFLICT
    chosen = np.array(kept, np.int64)
    if dedup == "exact":
        chosen = _drop_equal_content(chosen, ids, content_hashes, dropped)
    return DuplicateResolution(chosen, dropped)


def _drop_equal_content(chosen: Int64, ids: Sequence[bytes], hashes: UInt8, dropped: dict[int, str]) -> Int64:
    """Keep the smallest id of each content; `chosen` is in the order of ids."""
    words = hashes[chosen].view(np.uint64)  # [m, 4]: a stable sort by them brings equal content together
    order = np.lexsort(words.T)
    equal = np.zeros(len(order), bool)
    equal[1:] = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    first = 0
    for place in np.flatnonzero(equal):
        if not equal[place - 1]:
            first = int(place) - 1
        dropped[int(chosen[order[place]])] = f"duplicate of {ids[chosen[order[first]]].decode()[:_ID_CHARACTERS]}"
    survives = np.ones(len(chosen), bool)
    survives[order[equal]] = False
    return chosen[survives]
