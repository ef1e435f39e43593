"""Tune an anchor set: find its aligner and parameters for a task, and save them as the set's profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asif.aligners import make_aligner
from asif.anchorset import AnchorSet, Store, default_home
from asif.defaults import DEFAULT_ANCHORS
from asif.encoders import Backend, Device
from asif.engine.aligner_choice import encodes_texts
from asif.engine.captions import sample_captions
from asif.engine.engine import Engine
from asif.tuning import Task, TuningResult, tune
from asif.version import VERSION


def tune_anchors(
    ref: str = DEFAULT_ANCHORS,
    task: Task = "classify",
    *,
    seconds: float = 120,
    seed: int = 0,
    keep: bool = True,
    home: Path | None = None,
    device: Device = "auto",
    backend: Backend = "auto",
    progress: Callable[[int, int], None] = lambda done, every: None,
) -> tuple[TuningResult, AnchorSet]:
    """Tune aligner and parameters for a task, and save them as the set's profile; returns both.

    Where anchors are means of several captions, the set's text encoder encodes single captions of held-out pairs as
    queries. The returned set is a new version with the same anchors, or, without `keep`, the one that was tuned. Raises
    what `tune` raises, and Busy if the set is not, or no longer, the current version.
    """
    engine = Engine(
        ref, home=home, device=device, backend=backend, aligner=make_aligner("asif")
    )  # not the aligner of an old profile
    anchors = engine.anchor_set
    captions = sample_captions(engine, seed)
    tuned = tune(
        anchors,
        task,
        seconds=seconds,
        seed=seed,
        captions=captions,
        words=encodes_texts(anchors),
        progress=progress,
    )
    if not keep:
        return tuned, anchors
    exact_ref = ref if "/" in ref else f"{anchors.name}@{anchors.version}"
    return tuned, Store(home or default_home()).publish_profile(exact_ref, task, tuned.profile(), VERSION)
