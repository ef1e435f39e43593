"""A few hundred rows on their way from pairs to anchors."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asif.building.pair_records import Captions, image_content, records_of
from asif.encoders import ImageEncoder, TextEncoder
from asif.errors import BadImage
from asif.pairs import Pair, PairRecord, Reject
from asif.vectors import Float32, vector_problems


@dataclass(frozen=True)
class Prepared:
    """A pair whose image is ready for the encoder (`image` is None where its vector was precomputed)."""

    pair: Pair
    image_sha256: str
    image: Any


def prepare(item: Pair | Reject, encoder: ImageEncoder) -> Prepared | Reject:
    """Read, hash, decode and preprocess one pair's image; a bad image becomes a Reject with its reason."""
    if isinstance(item, Reject):
        return item
    try:
        content = image_content(item)
        ready = None if item.image_embedding is not None else encoder.prepare(content)
        return Prepared(item, hashlib.sha256(content).hexdigest(), ready)
    except BadImage as error:
        return Reject(item.row, item.id, error.came)


@dataclass
class Clock:
    """Seconds spent in the encoders' forward passes, and what they did in them."""

    image_seconds: float = 0.0
    text_seconds: float = 0.0
    images: int = 0
    texts: int = 0


@dataclass
class Collected:
    """Collect prepared pairs and rejects; `run` is given their images whenever a batch is full."""

    image: ImageEncoder
    text: TextEncoder
    captions: Captions
    pairs: list[tuple[Pair, str]] = field(default_factory=list, kw_only=True)
    rejects: list[Reject] = field(default_factory=list, kw_only=True)
    _waiting: list[Any] = field(default_factory=list, kw_only=True)

    def __len__(self) -> int:
        return len(self.pairs) + len(self.rejects)

    def add(self, item: Prepared | Reject) -> None:
        """Take one row."""
        if isinstance(item, Reject):
            self.rejects.append(item)
            return
        self.pairs.append((item.pair, item.image_sha256))
        if item.image is not None:
            self._waiting.append(item.image)
            if len(self._waiting) == self.image.batch:
                self.flush()

    def flush(self) -> None:
        """Run what is waiting."""
        if self._waiting:
            self.run(self._waiting)
            self._waiting = []

    def run(self, images: list[Any]) -> None:
        """Pass prepared images through the encoder."""
        raise NotImplementedError


@dataclass
class Segment(Collected):
    """Collect prepared pairs, run the encoders, and give anchors: records, image [n, di], text [n, dt], rejects."""

    clock: Clock
    _vectors: list[Float32] = field(default_factory=list)

    def add(self, item: Prepared | Reject) -> None:
        """Take one row, or the vector that came with it."""
        super().add(item)
        if isinstance(item, Prepared) and item.image is None:
            self._vectors.append(np.asarray(item.pair.image_embedding, np.float32)[None])

    def run(self, images: list[Any]) -> None:
        """Embed images, by the clock."""
        started = time.perf_counter()
        self._vectors.append(self.image.forward(images))
        self.clock.image_seconds += time.perf_counter() - started
        self.clock.images += len(images)

    def finish(self) -> tuple[list[PairRecord], list[int], Float32, Float32]:
        """Run what is waiting and return the anchors: records, source rows, unit image and text embeddings.

        Rows with unusable vectors join the rejects.
        """
        self.flush()
        image = np.concatenate(self._vectors) if self._vectors else np.empty((0, self.image.dim), np.float32)
        records, rows, text = self._texts()
        image = image[rows]
        problems = {**_named("text", vector_problems(text)), **_named("image", vector_problems(image))}
        bad = {rows[at]: (at, reason) for at, reason in sorted(problems.items(), reverse=True)}
        for row, (_, reason) in sorted(bad.items()):
            self.rejects.append(Reject(self.pairs[row][0].row, self.pairs[row][0].id, reason))
        good = [at for at, row in enumerate(rows) if row not in bad]
        sources = [self.pairs[rows[at]][0].row for at in good]
        return [records[at] for at in good], sources, unit(image[good]), unit(text[good])

    def _texts(self) -> tuple[list[PairRecord], list[int], Float32]:
        """Make one record and one text vector per anchor; with `all`, every caption is an anchor of its own."""
        encoded = self._encode_captions()
        records: list[PairRecord] = []
        rows: list[int] = []
        vectors: list[Float32] = []
        for row, (pair, image_sha256) in enumerate(self.pairs):
            for record in records_of(pair, image_sha256, self.captions):
                records.append(record)
                rows.append(row)
                given, texts = pair.text_embedding, record.captions
                vectors.append(mean_of([encoded[text] for text in texts]) if given is None else np.asarray(given))
        stacked = np.stack(vectors).astype(np.float32) if vectors else np.empty((0, self.text.dim), np.float32)
        return records, rows, stacked

    def _encode_captions(self) -> dict[str, Float32]:
        """Encode every distinct caption once."""
        last = 1 if self.captions == "first" else None
        texts = sorted({text for pair, _ in self.pairs if pair.text_embedding is None for text in pair.captions[:last]})
        if not texts:
            return {}
        started = time.perf_counter()
        vectors = self.text.forward(texts)
        self.clock.text_seconds += time.perf_counter() - started
        self.clock.texts += len(texts)
        return dict(zip(texts, vectors, strict=True))


def mean_of(vectors: Sequence[Float32]) -> Float32:
    """Average unit embeddings; NaN where one of them has no direction."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.stack(vectors).astype(np.float64)
        mean: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0).astype(np.float32)
    return mean


def unit(rows: Float32) -> Float32:
    """Scale rows, known to be usable, to unit length."""
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), np.float32)


def _named(side: str, problems: dict[int, str]) -> dict[int, str]:
    return {at: f"{side} embedding is {problem}" for at, problem in problems.items()}
