"""What a set remembers of a pair, known before anything is encoded: the hash of its image, and its records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from asif.encoders.images import read_bytes
from asif.pairs import Pair, PairRecord
from asif.vectors import canonical_json

Captions = Literal["mean", "first", "all"]
CAPTIONS: tuple[Captions, ...] = ("mean", "first", "all")


def image_content(pair: Pair) -> bytes:
    """Return what the hash of a pair's image is taken over: the encoded file, or the float32 vector that came with it.

    Raises BadImage for a file that cannot be read.
    """
    if pair.image_embedding is not None:
        return np.ascontiguousarray(pair.image_embedding, np.float32).tobytes()
    assert pair.image is not None  # or it has vectors
    return read_bytes(pair.image)


def records_of(pair: Pair, image_sha256: str, captions: Captions) -> list[PairRecord]:
    """Return a record for each anchor that a pair gives: with `all`, one for every caption.

    >>> [one.id for one in records_of(Pair(0, "a", b"", ("x", "y")), "0" * 64, "all")]
    ['a#0', 'a#1']
    """
    chosen = pair.captions[:1] if captions == "first" else pair.captions
    name = pair.id or derived_id(image_sha256, chosen)
    groups = [(caption,) for caption in chosen] if captions == "all" else [chosen]
    names = [f"{name}#{number}" for number in range(len(groups))] if captions == "all" else [name]
    return [
        PairRecord(id_, group, image_sha256, pair.source, pair.licence, pair.url)
        for id_, group in zip(names, groups, strict=True)
    ]


def derived_id(image_sha256: str, captions: Sequence[str]) -> str:
    """Name a pair that came without an id by its content, so that the name does not depend on the order of rows."""
    return hashlib.sha256(canonical_json([image_sha256, list(captions)])).hexdigest()[:16]
