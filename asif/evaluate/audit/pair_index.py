"""What an audit needs of all pairs at once: numbers in place of texts, so that millions fit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asif.aligners.sampling import groups
from asif.anchorset import AnchorSet
from asif.pairs import PairRecord
from asif.vectors import Int64, canonical_json

KEY = 16  # bytes of a hash


@dataclass(frozen=True)
class Remembered:
    """Hold numbers [n], equal where pairs agree: their images, captions as a whole, sources, licences, families.

    A family is a pair of the input: with `--captions all` it is several anchors. `said` [m] are single captions but
    for capitals and blanks, `sayer` [m] the rows that have them. `sources`, `licences` name the numbers; None is none.
    """

    image: Int64
    captions: Int64
    family: Int64
    source: Int64
    licence: Int64
    sources: tuple[str | None, ...]
    licences: tuple[str | None, ...]
    said: Int64
    sayer: Int64


def remember(anchors: AnchorSet, progress: Callable[[int], None] = lambda rows: None) -> Remembered:
    """Read the tables of an anchor set, one after another; raises IntegrityError for a changed one."""
    keys: dict[str, list[bytes]] = {name: [] for name in ("image", "captions", "family", "said")}
    sayer: list[int] = []
    numbers: dict[str, list[int]] = {"source": [], "licence": []}
    names: dict[str, dict[str | None, int]] = {"source": {}, "licence": {}}
    row, each_caption = 0, anchors.manifest.captions == "all"
    for block in range(len(anchors.manifest.blocks)):
        records = anchors.pairs(block)
        for record in records:
            family = record.id.rpartition("#")[0] if each_caption else record.id
            keys["image"].append(key(record.image_sha256.encode()))
            keys["captions"].append(key(canonical_json(list(record.captions))))
            keys["family"].append(key(family.encode()))
            plain = plain_captions(record)
            keys["said"] += [key(text.encode()) for text in plain]
            sayer += [row] * len(plain)
            for role, known in names.items():
                numbers[role].append(known.setdefault(getattr(record, role), len(known)))
            row += 1
        progress(len(records))
    return Remembered(
        image=numbered(keys["image"]),
        captions=numbered(keys["captions"]),
        family=numbered(keys["family"]),
        source=np.array(numbers["source"], np.int64),
        licence=np.array(numbers["licence"], np.int64),
        sources=tuple(names["source"]),
        licences=tuple(names["licence"]),
        said=numbered(keys["said"]),
        sayer=np.array(sayer, np.int64),
    )


def plain_captions(record: PairRecord) -> list[str]:
    """Return the captions of a pair but for capitals and blanks, each once.

    >>> plain_captions(PairRecord("1", ("A  dog", "a dog", "Two dogs"), "…"))
    ['a dog', 'two dogs']
    """
    return list(dict.fromkeys(" ".join(caption.casefold().split()) for caption in record.captions))


def key(content: bytes) -> bytes:
    """Hash content to KEY bytes."""
    return hashlib.blake2b(content, digest_size=KEY).digest()


def numbered(keys: Sequence[bytes]) -> Int64:
    """Number keys [n], equal ones alike.

    >>> numbered([key(b"a"), key(b"b"), key(b"a")]).tolist()
    [0, 1, 0]
    """
    return groups(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY)) if keys else np.empty(0, np.int64)


def twins(blocks: Sequence[NDArray[np.generic]]) -> Int64:
    """Number stored embeddings [n], equal ones, byte for byte, alike.

    >>> twins([np.eye(2), np.eye(2)[::-1]]).tolist()
    [0, 1, 1, 0]
    """
    return numbered([key(row.tobytes()) for block in blocks for row in block])
