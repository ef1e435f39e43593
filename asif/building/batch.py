"""Batches of rows: pairs with decoded images, run through the encoders to become anchors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from asif.building.caption_encoder import list_encoded_captions
from asif.building.clock import EncoderClock
from asif.building.pair_records import CaptionMode, make_pair_records, read_image_content
from asif.building.stages import ForwardRunner
from asif.encoders import ImageEncoder, TextEncoder
from asif.encoders.text_limits import count_cut_texts
from asif.errors import BadMedia
from asif.modality import read_modality
from asif.pairs import JoinedRow, Pair, PairRecord, Reject
from asif.vectors import Float32, find_vector_problems, mean_direction, normalise_rows


@dataclass(frozen=True)
class PreparedPair:
    """Hold a pair whose image is ready for the encoder; `image` is None if its vector was precomputed."""

    pair: Pair
    image_sha256: str
    image: Any


def prepare_pair(item: Pair | Reject, encoder: ImageEncoder) -> PreparedPair | Reject:
    """Read, hash, decode and preprocess one pair's image; a bad image becomes a Reject with its reason."""
    if isinstance(item, Reject):
        return item
    try:
        content = read_image_content(item)
        ready = None if item.image_embedding is not None else encoder.prepare(content)
        return PreparedPair(item, hashlib.sha256(content).hexdigest(), ready)
    except BadMedia as error:
        return Reject(item.row, item.id, error.came, item.joined)


@dataclass
class PairBatch:
    """Collect prepared pairs and rejects, and call `run` with their images whenever the encoder's batch is full."""

    image: ImageEncoder
    text: TextEncoder
    captions: CaptionMode
    pairs: list[tuple[Pair, str]] = field(default_factory=list, kw_only=True)
    rejects: list[Reject] = field(default_factory=list, kw_only=True)
    _pending: list[Any] = field(default_factory=list, kw_only=True)

    def __len__(self) -> int:
        return len(self.pairs) + len(self.rejects)

    def add(self, item: PreparedPair | Reject) -> None:
        """Add one row."""
        if isinstance(item, Reject):
            self.rejects += item.split_rows()
            return
        self.pairs.append((replace(item.pair, image=None), item.image_sha256))  # images may be large
        if item.image is not None:
            self._pending.append(item.image)
            if len(self._pending) == self.image.batch:
                self.flush()

    def flush(self) -> None:
        """Run the images that are pending."""
        if self._pending:
            self.run(self._pending)
            self._pending = []

    def run(self, images: list[Any]) -> None:
        """Pass prepared images through the encoder."""
        raise NotImplementedError


@dataclass
class EmbeddingBatch(PairBatch):
    """Turn prepared pairs into anchors: records, image [n, di] and text [n, dt] embeddings, rejects.

    Images are encoded as they come, by `run_forward`; `finish` takes the vectors of the captions. After it,
    `joined` are the source rows whose captions are part of another row's anchor.
    """

    clock: EncoderClock
    run_forward: ForwardRunner
    joined: list[int] = field(default_factory=list)
    _later: list[JoinedRow] = field(default_factory=list)
    _vectors: list[Float32] = field(default_factory=list)

    def __len__(self) -> int:
        return super().__len__() + len(self._later)

    def add(self, item: PreparedPair | Reject | JoinedRow) -> None:
        """Take one row; a precomputed image vector is used as it is."""
        if isinstance(item, JoinedRow):
            self._later.append(item)
            return
        super().add(item)
        if isinstance(item, PreparedPair) and item.image is None:
            self._vectors.append(np.asarray(item.pair.image_embedding, np.float32)[None])

    def run(self, images: list[Any]) -> None:
        """Run the image encoder and count its time."""

        def encode() -> Float32:
            with self.clock.measure("encode_images"):
                return self.image.forward(images)

        self._vectors.append(self.run_forward(encode))
        self.clock.images += len(images)

    def finish(
        self, encoded: Mapping[str, Float32], unusable: Mapping[int, str] = MappingProxyType({})
    ) -> tuple[list[PairRecord], list[int], Float32, Float32]:
        """Run the pending images and return the anchors: records, source rows, unit image and text embeddings.

        `encoded` has a vector [dt] for each caption that the mode uses. Rows with unusable vectors join the rejects,
        and so do later rows of pairs that are rejected here, or were in earlier batches: `unusable` {row: reason}.
        """
        self.flush()
        image = np.concatenate(self._vectors) if self._vectors else np.empty((0, self.image.dim), np.float32)
        records, rows, text = self._choose_texts(encoded)
        image = image[rows]
        problems = {
            **_name_side(read_modality(self.text.fingerprint, "text"), find_vector_problems(text)),
            **_name_side(read_modality(self.image.fingerprint, "image"), find_vector_problems(image)),
        }
        bad = {rows[at]: (at, reason) for at, reason in sorted(problems.items(), reverse=True)}
        for row, (_, reason) in sorted(bad.items()):
            pair = self.pairs[row][0]
            self.rejects += Reject(pair.row, pair.id, reason, pair.joined).split_rows()
        good = [at for at, row in enumerate(rows) if row not in bad]
        self.joined = [other for row, (pair, _) in enumerate(self.pairs) if row not in bad for other in pair.joined]
        self._join_later_rows(unusable)
        sources = [self.pairs[rows[at]][0].row for at in good]
        return [records[at] for at in good], sources, normalise_rows(image[good]), normalise_rows(text[good])

    def _join_later_rows(self, unusable: Mapping[int, str]) -> None:
        """Count each later row of a pair as joined, or as rejected if its pair was."""
        unusable = {**unusable, **{reject.row: reject.reason for reject in self.rejects}}
        for later in self._later:
            if later.first in unusable:
                self.rejects.append(Reject(later.row, later.id, unusable[later.first]))
            else:
                self.joined.append(later.row)

    def _choose_texts(self, encoded: Mapping[str, Float32]) -> tuple[list[PairRecord], list[int], Float32]:
        """Return records, the row of each, and one text vector per anchor; with `all`, each caption is an anchor."""
        records: list[PairRecord] = []
        rows: list[int] = []
        vectors: list[Float32] = []
        for row, (pair, image_sha256) in enumerate(self.pairs):
            for number, record in enumerate(make_pair_records(pair, image_sha256, self.captions)):
                records.append(record)
                rows.append(row)
                given, texts = pair.text_embedding, record.captions
                vectors.append(
                    mean_direction([encoded[text] for text in texts])
                    if given is None
                    else _choose_text_vector(np.asarray(given), number, self.captions)
                )
        stacked = np.stack(vectors).astype(np.float32) if vectors else np.empty((0, self.text.dim), np.float32)
        return records, rows, stacked

    def count_texts(self) -> None:
        """Count the distinct captions that are encoded, and those of them that are cut."""
        texts = {text for pair, _ in self.pairs for text in list_encoded_captions(pair, self.captions)}
        self.clock.texts += len(texts)
        self.clock.cut_texts += count_cut_texts(self.text, texts)


def _choose_text_vector(given: Float32, number: int, captions: CaptionMode) -> Float32:
    """Return the precomputed text vector of the anchor `number` of a pair; `given` is [dt], or [captions, dt]."""
    if given.ndim == 1:
        return given
    return mean_direction(list(given)) if captions == "mean" else np.asarray(given[number])


def _name_side(side: str, problems: dict[int, str]) -> dict[int, str]:
    return {at: f"{side} embedding is {problem}" for at, problem in problems.items()}
