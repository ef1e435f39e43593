"""Pair records, which need no encoder: the content that identifies an image, and a record for each anchor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from asif.encoders.images import read_image_bytes
from asif.pairs import Pair, PairRecord
from asif.vectors import canonical_json

CaptionMode = Literal["mean", "first", "all"]
CAPTION_MODES: tuple[CaptionMode, ...] = ("mean", "first", "all")


def read_image_content(pair: Pair) -> bytes:
    """Return the bytes that a pair's image is hashed over: the encoded file, or its precomputed float32 vector.

    Raises BadMedia for a file that cannot be read.
    """
    if pair.image_embedding is not None:
        return np.ascontiguousarray(pair.image_embedding, np.float32).tobytes()
    assert pair.image is not None  # or it has vectors
    return read_image_bytes(pair.image)


def make_pair_records(pair: Pair, image_sha256: str, captions: CaptionMode) -> list[PairRecord]:
    """Return the record of each anchor of a pair: one per caption with `all`, otherwise one.

    >>> [one.id for one in make_pair_records(Pair(0, "a", b"", ("x", "y")), "0" * 64, "all")]
    ['a#0', 'a#1']
    """
    chosen = pair.captions[:1] if captions == "first" else pair.captions
    name = pair.id or derive_pair_id(image_sha256, chosen)
    groups = [(caption,) for caption in chosen] if captions == "all" else [chosen]
    names = [f"{name}#{number}" for number in range(len(groups))] if captions == "all" else [name]
    return [
        PairRecord(id_, group, image_sha256, pair.source, pair.licence, pair.url)
        for id_, group in zip(names, groups, strict=True)
    ]


def derive_pair_id(image_sha256: str, captions: Sequence[str]) -> str:
    """Derive an id from a pair's content, for pairs without one; it does not depend on the order of rows."""
    return hashlib.sha256(canonical_json([image_sha256, list(captions)])).hexdigest()[:16]
