"""Encode the single captions of anchors whose stored text is a mean of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from asif.tuning import CaptionSampler
from asif.vectors import Embeddings, Int64

if TYPE_CHECKING:
    from asif.engine.engine import Engine

_RECORDS_PER_BATCH = 512
_SAMPLED_PER_PAIR = 2  # more captions of a held-out pair cost encoder time and hardly change the estimate


def sample_captions(engine: Engine, seed: int) -> CaptionSampler | None:
    """Return a function that encodes up to two random captions of each of some anchors.

    It takes anchor indices [n] and returns unit rows [m, dt] and, for each, its position among the n [m]. None if
    stored texts are single captions, or precomputed vectors.
    """
    if not _has_averaged_captions(engine):
        return None

    def encode_sample(rows: Int64) -> tuple[Embeddings, Int64]:
        random = np.random.default_rng(seed)

        def sample(captions: Sequence[str]) -> list[str]:
            return [captions[at] for at in random.permutation(len(captions))[:_SAMPLED_PER_PAIR]]

        return _encode_captions(engine, rows, sample)

    return encode_sample


def encode_single_captions(
    engine: Engine, progress: Callable[[int, int], None] = lambda done, every: None
) -> tuple[Embeddings, Int64] | None:
    """Encode every caption of every anchor: unit rows [m, dt] with their texts, and the anchor index of each [m].

    None if stored texts are single captions, or precomputed vectors.
    """
    if not _has_averaged_captions(engine):
        return None
    count = engine.anchor_set.count
    values, owners = [], []
    texts: list[tuple[str, ...]] = []
    for start in range(0, count, _RECORDS_PER_BATCH):
        stop = min(start + _RECORDS_PER_BATCH, count)
        embeddings, positions = _encode_captions(engine, range(start, stop), lambda captions: captions)
        values.append(embeddings.values)
        texts += embeddings.texts or ()
        owners.append(start + positions)
        progress(stop, count)
    return Embeddings(np.concatenate(values), tuple(texts)), np.concatenate(owners)


def _has_averaged_captions(engine: Engine) -> bool:
    anchors = engine.anchor_set
    return anchors.manifest.captions == "mean" and anchors.encoder_spec("text") != "precomputed"


def _encode_captions(
    engine: Engine, rows: Sequence[int] | Int64, pick: Callable[[Sequence[str]], Sequence[str]]
) -> tuple[Embeddings, Int64]:
    """Encode the captions that `pick` takes from each row's: embeddings, and the position among `rows` of each."""
    anchors = engine.anchor_set
    texts: list[str] = []
    owners: list[int] = []
    for position, record in enumerate(anchors.records(rows)):
        picked = pick(record.captions)
        texts += picked
        owners += [position] * len(picked)
    return engine.encode_texts(texts, anchors), np.array(owners)
