"""An index of all pairs of an anchor set: numbers in place of texts, so that millions fit in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asif.aligners.sampling import number_equal_rows
from asif.anchorset import AnchorSet
from asif.pairs import PairRecord
from asif.vectors import Int64, canonical_json

_HASH_BYTES = 16


@dataclass(frozen=True)
class PairIndex:
    """Hold numbers for each anchor [n]; anchors with equal content have equal numbers.

    `image` numbers images, `captions` all captions of an anchor as a whole, `pair` pairs of the input (several anchors
    if each caption is an anchor). `source` and `licence` are positions in `sources` and `licences`, in which None
    stands for a missing one. `caption` [m] numbers single captions, normalised, `caption_row` [m] holds their rows.
    """

    image: Int64
    captions: Int64
    pair: Int64
    source: Int64
    licence: Int64
    sources: tuple[str | None, ...]
    licences: tuple[str | None, ...]
    caption: Int64
    caption_row: Int64


def build_pair_index(anchors: AnchorSet, progress: Callable[[int], None] = lambda rows: None) -> PairIndex:
    """Read the pairs of an anchor set block by block; raises IntegrityError for a changed file.

    `progress` is called with the number of rows of each block.
    """
    hashes: dict[str, list[bytes]] = {name: [] for name in ("image", "captions", "pair", "caption")}
    caption_rows: list[int] = []
    origins: dict[str, list[int]] = {"source": [], "licence": []}
    names: dict[str, dict[str | None, int]] = {"source": {}, "licence": {}}
    row = 0
    for block in range(len(anchors.manifest.blocks)):
        records = anchors.pairs(block)
        for record in records:
            pair_id = anchors.manifest.pair_id(record.id)
            hashes["image"].append(_hash(record.image_sha256.encode()))
            hashes["captions"].append(_hash(canonical_json(list(record.captions))))
            hashes["pair"].append(_hash(pair_id.encode()))
            captions = normalise_captions(record)
            hashes["caption"] += [_hash(caption.encode()) for caption in captions]
            caption_rows += [row] * len(captions)
            for origin, numbers in names.items():
                origins[origin].append(numbers.setdefault(getattr(record, origin), len(numbers)))
            row += 1
        progress(len(records))
    return PairIndex(
        image=_number_hashes(hashes["image"]),
        captions=_number_hashes(hashes["captions"]),
        pair=_number_hashes(hashes["pair"]),
        source=np.array(origins["source"], np.int64),
        licence=np.array(origins["licence"], np.int64),
        sources=tuple(names["source"]),
        licences=tuple(names["licence"]),
        caption=_number_hashes(hashes["caption"]),
        caption_row=np.array(caption_rows, np.int64),
    )


def normalise_captions(record: PairRecord) -> list[str]:
    """Return the different captions of a pair, case-folded, with single blanks.

    >>> normalise_captions(PairRecord("1", ("A  dog", "a dog", "Two dogs"), "…"))
    ['a dog', 'two dogs']
    """
    return list(dict.fromkeys(" ".join(caption.casefold().split()) for caption in record.captions))


def number_embeddings(blocks: Sequence[NDArray[np.generic]]) -> Int64:
    """Number stored embeddings [n]: two have the same number if they are equal byte for byte.

    >>> number_embeddings([np.eye(2), np.eye(2)[::-1]]).tolist()
    [0, 1, 1, 0]
    """
    return _number_hashes([_hash(row.tobytes()) for block in blocks for row in block])


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()


def _number_hashes(hashes: Sequence[bytes]) -> Int64:
    """Number hashes [n] in order of their first appearance.

    >>> _number_hashes([_hash(b"a"), _hash(b"b"), _hash(b"a")]).tolist()
    [0, 1, 0]
    """
    if not hashes:
        return np.empty(0, np.int64)
    return number_equal_rows(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, _HASH_BYTES))
