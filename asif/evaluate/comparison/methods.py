"""One method on one sample of pairs: tuned inside it, fitted to all of it, and what each of that cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from asif.aligners import RIVALS, Aligner, FittedAligner, Hubness, Moments, is_linear, make_aligner
from asif.aligners.moments import find_moments
from asif.encoders.torch_common import pick_device
from asif.evaluate.comparison.peak_memory import peak_memory
from asif.rivals import FittedProjector, Projector, TrainingPairs
from asif.tuning import AnchorSubset, CaptionSampler, HeldOutQueries, Task, choose_correction, has_repeated_texts, tune
from asif.vectors import Embeddings, Int64

NONE = Hubness("none")
METHODS = {
    "auto": ("training-free", "what asif tune finds: sums of asif, procrustes, ridge and cca"),
    "asif": ("training-free", "similarities to the anchors, the largest of them"),
    "procrustes": ("training-free", "the rotation that brings pairs closest"),
    "ridge": ("training-free", "one side predicted from the other by least squares"),
    "cca": ("training-free", "canonical correlations, with a penalty on both sides"),
    "asif-paper": ("published", "ASIF as published: k = 800, p = 8, no tuning, no correction"),
    "ape": ("trained", "an MLP leads texts into the image encoder's space"),
    "fusemix": ("trained", "adapters on both sides, trained on mixtures of pairs"),
    "freeze-align": ("trained", "freeze-align's projectors of one vector a side"),
}
LADDERS: dict[str, tuple[str, ...]] = {
    "ape": ("ape", "ape(dropout=0.3)", "ape(hidden=512)", "ape(rate=0.0003)"),
    "fusemix": ("fusemix", "fusemix(dropout=0.4)", "fusemix(blocks=2)", "fusemix(rate=0.0003)"),
    "freeze-align": (
        "freeze-align",
        "freeze-align(dropout=0.5)",
        "freeze-align(dropout=0.1,decay=0.02)",
        "freeze-align(rate=0.0003)",
    ),
}
"""What is tried of each trained method, one after another while time is left."""


@dataclass(frozen=True)
class Sample:
    """Hold some pairs of an anchor set: what aligners are fitted to, and what projectors are trained on.

    `pairs` are the same images with single captions where these are known; `captions` gives some of them to tuning.
    """

    anchors: AnchorSubset
    pairs: TrainingPairs
    captions: CaptionSampler | None

    @classmethod
    def of(cls, anchors: AnchorSubset, texts: tuple[Embeddings, Int64] | None, seed: int, each: int = 2) -> Sample:
        """Take anchors and their single captions: unit rows [m, dt], and the row of the anchors of each [m]."""
        pairs = TrainingPairs.of(anchors, texts)
        if texts is None:
            return cls(anchors, pairs, None)
        vectors, owners = texts
        starts = np.searchsorted(owners, np.arange(anchors.count + 1))

        def captions(rows: Int64) -> tuple[Embeddings, Int64]:
            drawn = np.random.default_rng(seed)
            chosen = [starts[row] + drawn.permutation(starts[row + 1] - starts[row])[:each] for row in rows]
            whose = np.repeat(np.arange(len(rows)), [len(some) for some in chosen])
            return Embeddings(vectors.values[np.concatenate(chosen)]), whose

        return cls(anchors, pairs, captions)


@dataclass(frozen=True)
class Contender:
    """Hold a fitted method, the correction that was chosen for it, and its costs; `peak_mib` None where unknown."""

    setting: str
    fitted: FittedAligner
    hubness: Hubness
    tuning: dict[str, Any] | None
    fit_seconds: float
    peak_mib: float | None
    deletion: dict[str, Any]

    @property
    def weights(self) -> int | None:
        """Count what was trained, None where nothing was."""
        return self.fitted.weight_count if isinstance(self.fitted, FittedProjector) else None


def contend(
    method: str,
    sample: Sample,
    task: Task,
    seed: int,
    seconds: float,
    fixed: str | None = None,
    tell: Callable[[str], None] = lambda setting: None,
) -> Contender:
    """Tune a method inside a sample, within so many seconds, and fit it to all of it.

    A trained method holds a tenth out to say when to stop: the same pairs choose among its settings, and its
    correction. At least one setting is tried of every method, whatever it takes. `fixed` is the one setting of a
    trained method that counts, such as a recipe's.
    """
    if method in RIVALS:
        return trained((fixed,) if fixed else LADDERS[method], sample, task, seed, seconds, tell)
    if METHODS[method][0] == "published":
        return fitted(make_aligner(method), method, NONE, None, sample.anchors)
    family = None if method == "auto" else method
    found = tune(sample.anchors, task, seconds=seconds, seed=seed, captions=sample.captions, family=family)
    tuning = {"trials": len(found.trials), "seconds": found.seconds, "complete": found.complete}
    return fitted(make_aligner(found.best.aligner), found.best.aligner, found.best.hubness, tuning, sample.anchors)


def fitted(
    aligner: Aligner, setting: str, hubness: Hubness, tuning: dict[str, Any] | None, anchors: AnchorSubset
) -> Contender:
    """Fit what needs no training, and measure what it costs to leave one pair out again."""
    fresh = replace(anchors)  # sums that tuning may have taken are not known of it
    with peak_memory() as peak:
        seconds, made = timed(aligner, fresh)
    less = fresh.select_rows(np.arange(1, fresh.count))
    one = fresh.select_rows(np.arange(1))
    started = time.perf_counter()
    if is_linear(aligner):
        find_moments(less, lambda _: find_moments(fresh) - Moments.of(one))
    again = time.perf_counter() - started + timed(aligner, less)[0]
    how = "sums less one pair, solved again" if is_linear(aligner) else "the pair is left out"
    return Contender(setting, made, hubness, tuning, seconds, peak.mib, {"seconds": again, "how": how})


def timed(aligner: Aligner, anchors: AnchorSubset) -> tuple[float, FittedAligner]:
    """Fit an aligner until it can answer; return the seconds, too."""
    first = {side: Embeddings(anchors.sides[side][:1].astype(np.float32)) for side in anchors.sides}
    started = time.perf_counter()
    made = aligner.fit(anchors)
    for side, rows in first.items():
        made.represent(side, rows)
    return time.perf_counter() - started, made


def trained(
    settings: Sequence[str], sample: Sample, task: Task, seed: int, seconds: float, tell: Callable[[str], None]
) -> Contender:
    """Train a method with one setting after another while time is left, and keep what held-out pairs say is best."""
    started, best, tried = time.perf_counter(), None, 0
    for setting in settings:
        spent = time.perf_counter() - started
        if tried and spent * (tried + 1) / tried > seconds:  # another one would not end in time
            break
        projector = make_aligner(setting)
        assert isinstance(projector, Projector)
        tell(setting)
        with peak_memory() as peak:
            made, run = replace(projector, seed=seed).train(sample.pairs, device=pick_device("auto"))
        tried += 1
        if best is None or run.best.rank > best[2].best.rank:
            best = (setting, made, run, peak.mib)
    assert best is not None
    setting, made, run, mib = best
    asked = questions(sample.pairs, seed)
    if task == "classify" and not has_repeated_texts(sample.anchors):
        asked = asked.add_noise(seed)  # as tuning asks the others
    hubness = choose_correction(made, asked, task)
    tuning = {
        "trials": tried,
        "seconds": round(time.perf_counter() - started, 2),
        "complete": tried == len(settings),
    }
    deletion = {"seconds": run.seconds, "how": "trained again"}
    return Contender(setting, made, hubness, tuning, run.seconds, mib, deletion)


def questions(pairs: TrainingPairs, seed: int) -> HeldOutQueries:
    """Ask about the pairs that training held out."""
    learnt, held = pairs.split(seed)
    rest = AnchorSubset({"image": learnt.images, "text": learnt.texts[learnt.text_starts[:-1]]})
    return HeldOutQueries(rest, Embeddings(held.images), Embeddings(held.texts), held.matches)
