"""Tune an anchor set, and keep the profile with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, Store, default_home
from asif.encoders import Device
from asif.engine.build import DEFAULT_ANCHORS
from asif.engine.engine import Engine
from asif.tuning import CaptionSampler, Task, TuningResult, tune
from asif.vectors import Embeddings, Int64
from asif.version import VERSION

CAPTIONS_EACH = 2  # of a held-out pair: more of them cost time in the encoder, and say little more


def tune_anchors(
    ref: str = DEFAULT_ANCHORS,
    task: Task = "classify",
    *,
    seconds: float = 120,
    seed: int = 0,
    keep: bool = True,
    home: Path | None = None,
    device: Device = "auto",
    progress: Callable[[int, int], None] = lambda done, every: None,
) -> tuple[TuningResult, AnchorSet]:
    """Find what suits an anchor set for a task, and keep it as the set's profile: returns both.

    Where anchors are made of several captions, the set's text encoder encodes single ones of held-out pairs, as
    questions are asked. The set that is returned is a new version with the same anchors, or, without `keep`, the one
    that was tuned. Raises what `tune` raises, and Busy where the set is not, or no longer, the current version.
    """
    engine = Engine(ref, home=home, device=device, aligner=make_aligner("asif"))  # whatever profile it may have
    anchors = engine.anchor_set
    tuned = tune(anchors, task, seconds=seconds, seed=seed, captions=captions_of(engine, seed), progress=progress)
    if not keep:
        return tuned, anchors
    exactly = ref if "/" in ref else f"{anchors.name}@{anchors.version}"
    return tuned, Store(home or default_home()).publish_profile(exactly, task, tuned.profile(), VERSION)


def captions_of(engine: Engine, seed: int) -> CaptionSampler | None:
    """Return what gives single captions of anchors; None where stored texts are single ones, or vectors of yours."""
    anchors = engine.anchor_set
    if anchors.manifest.captions != "mean" or anchors.encoder_spec("text") == "precomputed":
        return None

    def captions(rows: Int64) -> tuple[Embeddings, Int64]:
        drawn, texts, whose = np.random.default_rng(seed), [], []
        for at, record in enumerate(anchors.records(rows)):
            for chosen in drawn.permutation(len(record.captions))[:CAPTIONS_EACH]:
                texts.append(record.captions[chosen])
                whose.append(at)
        return engine.encode_texts(texts, anchors), np.array(whose)

    return captions
