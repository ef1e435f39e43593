"""Pairs by number and revision, encoders that need no model, and what a set of such pairs has to look like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from support.build_fakes import DIMS, FakeImages, FakeTexts, ListSource, draw_vector

from asif.anchorset import AnchorSet, EncoderInfo
from asif.anchorset.format.row_hash import compute_set_digest, hash_records
from asif.pairs import Pair, PairRecord, Reject

SIZE, REVISIONS = 96, 4
Chosen = tuple[int, int]
"""A pair of the universe: its number, and which revision of it."""
Pairs = Mapping[str, PairRecord]
"""What a version holds, by id."""
INFO: Any = {
    side: EncoderInfo(each.spec, each.fingerprint) for side, each in (("image", FakeImages()), ("text", FakeTexts()))
}


def name_of(number: int) -> str:
    """Return an id; ids are in no order of numbers."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:12]


def content(number: int, revision: int) -> bytes:
    return b"image %d.%d" % (number, revision)


@cache
def record(number: int, revision: int) -> PairRecord:
    """Return what is remembered of a pair."""
    captions = (f"caption {number}.{revision}", "ein Bär, 熊") if number % 3 else (f"caption {number}.{revision}",)
    sha256 = hashlib.sha256(content(number, revision)).hexdigest()
    return PairRecord(name_of(number), captions, sha256, licence="CC0-1.0" if number % 2 else None)


def source(pairs: Iterable[Chosen], rejected: int = 0) -> ListSource:
    """Make a source of pairs, with some rows at its end that cannot become anchors."""
    items: list[Pair | Reject] = []
    for row, (number, revision) in enumerate(pairs):
        known = record(number, revision)
        items.append(Pair(row, known.id, content(number, revision), known.captions, licence=known.licence))
    items += [Reject(len(items) + at, None, "image is null") for at in range(rejected)]
    identity = hashlib.sha256(repr(items).encode()).hexdigest()
    return ListSource(items, identity, Path("universe"))


def unit(values: Any) -> Any:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@cache
def embeddings() -> dict[tuple[str, str], tuple[Any, Any]]:
    """Return the image and the text embedding of every pair, by id and image."""
    found = {}
    for number in range(SIZE):
        for revision in range(REVISIONS):
            known = record(number, revision)
            texts = np.stack([draw_vector(text.encode(), "text") for text in known.captions]).astype(np.float64)
            image = unit(draw_vector(content(number, revision), "image").astype(np.float64))
            found[known.id, known.image_sha256] = image, unit(unit(texts).mean(axis=0))
    return found


def digest_of(pairs: Pairs) -> str:
    """Return the digest of a set of these pairs."""
    ordered = sorted(pairs.values(), key=lambda known: known.id.encode())
    prints = {side: info.fingerprint for side, info in INFO.items()}
    return compute_set_digest("float16", "mean", prints, [hash_records(ordered)])


def flaws(opened: AnchorSet) -> list[str]:
    """Say in what an open version is not whole: its records, digest and embeddings must be of one another."""
    found = []
    records = opened.records(range(opened.count))
    digest = digest_of({known.id: known for known in records})
    if digest != opened.digest or not opened.version.endswith(digest[:12]):
        found.append(f"{opened.ref} has the digest {opened.digest[:12]}, but its pairs {digest[:12]}")
    ids = [known.id for known in records]
    if ids != sorted(set(ids)):
        found.append(f"the ids of {opened.ref} are not in order, or not unique")
    expected = [embeddings()[known.id, known.image_sha256] for known in records]
    for at, side in enumerate(DIMS):
        stored = np.concatenate(opened.blocks(side)).astype(np.float64)  # type: ignore[arg-type]
        wanted = np.stack([both[at] for both in expected])
        if stored.shape != wanted.shape or not np.allclose(stored, wanted, atol=2e-3):
            found.append(f"the {side} embeddings of {opened.ref} are not those of its pairs")
    return found


def contents(opened: AnchorSet) -> dict[str, PairRecord]:
    """Return what an open version holds."""
    return {known.id: known for known in opened.records(range(opened.count))}
