"""Train a projector on an anchor set, resumable, and keep it beside the set; find the ones that were kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset import AnchorSet
from asif.anchorset.format.fit_cache import build_fit_file_name, read_matching_fit, write_fit
from asif.encoders import Device
from asif.encoders.torch_common import pick_device
from asif.engine.engine import Engine
from asif.errors import AsifError, IntegrityError, Interrupted
from asif.rivals import FittedProjector, Pairs, Projector, TrainingPairs
from asif.vectors import Embeddings, Int64

if TYPE_CHECKING:
    from asif.rivals.trainer import Look, Trained

RECORDS = 512  # whose captions are encoded at a time
SECONDS_BETWEEN = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What a training came to: the projector, how it went, and the set it is kept with.

    `missing` counts the anchors whose tokens were not found, None where none were needed.
    """

    fitted: FittedProjector
    trained: Trained
    anchors: AnchorSet
    images: int
    texts: int
    resumed_at: int
    missing: int | None = None


def train_projector(
    ref: str,
    projector: Projector,
    *,
    home: Path | None = None,
    device: Device = "auto",
    encoding: Callable[[int, int], None] = lambda done, every: None,
    progress: Callable[[Look], None] = lambda look: None,
) -> Training:
    """Train a projector on an anchor set and keep it beside it, for `--aligner` and for nobody else's anchors.

    Where anchors are made of several captions, each is encoded by itself, once, and kept in the cache. Whatever is
    killed goes on where it was, and ends as if nothing had happened. Raises InputRefused for too few images,
    Interrupted on Ctrl-C.
    """
    engine = Engine(ref, home=home, device=device)
    pairs = TrainingPairs.of(engine.anchor_set, single_captions(engine, encoding))
    return train_on(pairs, projector, engine, progress)


def train_on(
    pairs: Pairs,
    projector: Projector,
    engine: Engine,
    progress: Callable[[Look], None],
    origin: Mapping[str, Any] | None = None,
) -> Training:
    """Train on pairs of the engine's anchors, going on where an earlier run was; keep the projector with them.

    `origin` is what decides the outcome besides the anchors and the projector.
    """
    anchors = engine.anchor_set
    whole = projector.resolved(len(pairs))
    described = {"name": whole.name, "parameters": whole.parameters}
    run = {**described, **(origin or {})}
    path = engine.home / "cache" / "training" / build_fit_file_name(anchors.manifest, run)
    state = taken_up(path, anchors, run)
    resumed_at, last, seen = (int(state["step"][0]) if state else 0), time.monotonic(), 0

    def keep(found: Mapping[str, NDArray[Any]]) -> None:
        nonlocal last, seen
        if time.monotonic() - last >= SECONDS_BETWEEN:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_fit(path, anchors.manifest, run, found)
            last, seen = time.monotonic(), int(found["step"][0])

    try:
        fitted, trained = whole.train(
            pairs, device=pick_device(engine.device), progress=progress, keep=keep, resume=state
        )
    except KeyboardInterrupt:
        raise Interrupted(
            f"{whole.name} was stopped; {max(seen, resumed_at):,} steps are kept",
            "the rest",
            "run it again: it goes on",
        ) from None
    if not anchors.keep_fit(described, fitted.arrays()):
        raise AsifError(
            f"{whole.name} could not be kept beside {anchors.ref}", "a store that can be written", "free it"
        )
    path.unlink(missing_ok=True)
    return Training(fitted, trained, anchors, len(pairs), len(pairs.texts), resumed_at)


def taken_up(path: Path, anchors: AnchorSet, described: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
    """Read what an interrupted training had come to; None where there is none, or it was changed."""
    try:
        return read_matching_fit(path, anchors.manifest, described) if path.exists() else None
    except IntegrityError as error:
        _log.warning("an interrupted training is not taken up: %s", str(error).splitlines()[0])
        return None


def single_captions(
    engine: Engine, progress: Callable[[int, int], None] = lambda done, every: None
) -> tuple[Embeddings, Int64] | None:
    """Encode every caption of anchors that are made of several: unit rows [m, dt], and the anchor of each [m].

    None where stored texts are single ones already, or vectors that came with the pairs.
    """
    anchors = engine.anchor_set
    if anchors.manifest.captions != "mean" or anchors.encoder_spec("text") == "precomputed":
        return None
    found, owners = [], []
    for start in range(0, anchors.count, RECORDS):
        rows = range(start, min(start + RECORDS, anchors.count))
        said = [
            (row, caption)
            for row, record in zip(rows, anchors.records(rows), strict=True)
            for caption in record.captions
        ]
        found.append(engine.encode_texts([caption for _, caption in said], anchors).values)
        owners += [row for row, _ in said]
        progress(rows.stop, anchors.count)
    return Embeddings(np.concatenate(found)), np.array(owners)
