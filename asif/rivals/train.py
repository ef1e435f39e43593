"""Train a projector on an anchor set, resumable, and store it with the set."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from asif.anchorset import AnchorSet
from asif.anchorset.format.atomic_io import make_folder
from asif.anchorset.format.fit_cache import FitKey, read_matching_fit, write_fit
from asif.encoders import Device
from asif.encoders.torch_common import pick_device
from asif.engine.captions import encode_single_captions
from asif.engine.engine import Engine
from asif.errors import AsifError, IntegrityError, Interrupted
from asif.rivals import FittedProjector, PairFeatures, Projector, TrainingPairs

if TYPE_CHECKING:
    from asif.rivals.trainer import HeldOutEvaluation, TrainedWeights

SECONDS_BETWEEN_SAVES = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Hold the trained projector, its evaluations, and the anchor set with which it is stored.

    `missing` is the number of anchors whose tokens were not found, None if no tokens were needed.
    """

    fitted: FittedProjector
    trained: TrainedWeights
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
    encoding: Callable[[int, int], None] = lambda done, total: None,
    progress: Callable[[HeldOutEvaluation], None] = lambda evaluation: None,
) -> TrainingResult:
    """Train a projector on an anchor set and store it with the set, for `--aligner`.

    If the anchors' texts are means of several captions, each caption is encoded once and cached. After a crash the
    same call resumes, and ends with the same weights. Raises InputRefused for too few images, Interrupted on Ctrl-C.
    """
    engine = Engine(ref, home=home, device=device)
    pairs = TrainingPairs.of(engine.anchor_set, encode_single_captions(engine, encoding))
    return train_on_pairs(pairs, projector, engine, progress)


def train_on_pairs(
    pairs: PairFeatures,
    projector: Projector,
    engine: Engine,
    progress: Callable[[HeldOutEvaluation], None],
    origin: Mapping[str, Any] | None = None,
    complete: Callable[[FittedProjector], FittedProjector] = lambda fitted: fitted,
) -> TrainingResult:
    """Train on pairs of the engine's anchors, resuming an interrupted run, and store the projector with them.

    `origin` identifies further data that the outcome depends on; `complete` adds to the projector what is stored with
    its weights.
    """
    anchors = engine.anchor_set
    projector = projector.resolve(len(pairs))
    description = {"name": projector.name, "parameters": projector.parameters}
    run = {**description, **(origin or {})}
    key = FitKey.of(anchors.manifest, run)
    path = engine.home / "cache" / "training" / key.file_name
    state = _read_interrupted_state(path, key)
    resumed_at, saved_at, saved_step = (int(state["step"][0]) if state else 0), time.monotonic(), 0

    def save(state: Mapping[str, NDArray[Any]]) -> None:
        nonlocal saved_at, saved_step
        if time.monotonic() - saved_at >= SECONDS_BETWEEN_SAVES:
            make_folder(path.parent)
            write_fit(path, key, state)
            saved_at, saved_step = time.monotonic(), int(state["step"][0])

    try:
        fitted, trained = projector.train(
            pairs, device=pick_device(engine.device), progress=progress, keep=save, resume=state
        )
    except KeyboardInterrupt:
        raise Interrupted(
            f"{projector.name} was stopped; {max(saved_step, resumed_at):,} steps are saved",
            "the rest",
            "run it again to resume",
        ) from None
    fitted = complete(fitted)
    if not anchors.cache_fit(description, fitted.arrays()):
        raise AsifError(
            f"{projector.name} could not be stored with {anchors.ref}",
            "a store that can be written",
            "check its permissions and free space, then run it again",
        )
    path.unlink(missing_ok=True)
    return TrainingResult(fitted, trained, anchors, len(pairs), len(pairs.texts), resumed_at)


def _read_interrupted_state(path: Path, key: FitKey) -> dict[str, NDArray[Any]] | None:
    """Read the state of an interrupted training; None if there is none, or it was changed."""
    try:
        return read_matching_fit(path, key) if path.exists() else None
    except IntegrityError as error:
        _log.warning("an interrupted training is not resumed: %s", str(error).splitlines()[0])
        return None
