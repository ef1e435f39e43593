"""Thumbnails of anchor pairs on the page of a search: each is in the page once, and shown wherever it is named."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from asif.engine.search.results import SearchAnswer
from asif.pairs import PairRecord

MOST_PICTURES = 400
_MOST_BYTES = 2 << 20


@dataclass(frozen=True)
class Picture:
    """Hold a thumbnail, WebP in base64, and the name by which the page shows it."""

    name: str
    webp: str


def list_shown_pairs(answers: Sequence[SearchAnswer]) -> list[PairRecord]:
    """Return the pairs behind results, as first named, one for each image; 400 at most."""
    shown: dict[str, PairRecord] = {}
    for record in _iter_pairs(answers):
        if len(shown) == MOST_PICTURES:
            break
        shown.setdefault(record.image_sha256, record)
    return list(shown.values())


def choose_pictures(answers: Sequence[SearchAnswer], thumbnails: Mapping[str, bytes]) -> dict[str, Picture]:
    """Choose pictures of {sha256 of the image: WebP}: the first that are shown, 400 and 2 MiB at most."""
    chosen: dict[str, Picture] = {}
    left = _MOST_BYTES
    for record in list_shown_pairs(answers):
        webp = thumbnails.get(record.image_sha256, b"")
        if webp and len(webp) <= left:
            left -= len(webp)
            chosen[record.image_sha256] = Picture(f"pair-{len(chosen) + 1}", base64.b64encode(webp).decode())
    return chosen


def _iter_pairs(answers: Sequence[SearchAnswer]) -> Iterator[PairRecord]:
    for answer in answers:
        for result in answer.results:
            if result.evidence is not None:
                yield from result.evidence.records
