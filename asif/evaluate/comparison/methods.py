"""Tune one method inside one sample of pairs, fit it to all of the sample, and measure the costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asif.aligners import (
    RIVALS,
    Aligner,
    FittedAligner,
    Hubness,
    Moments,
    is_linear,
    make_aligner,
)
from asif.aligners.moments import find_moments
from asif.encoders.torch_common import pick_device
from asif.evaluate.comparison.method_run import DeletionCost, TuningSpent
from asif.evaluate.comparison.peak_memory import peak_memory
from asif.evaluate.comparison.result import MethodKind
from asif.rivals import FittedProjector, Projector, TrainingPairs
from asif.tuning import AnchorSubset, CaptionSampler, HeldOutQueries, Task, choose_correction, has_repeated_texts, tune
from asif.vectors import Embeddings, Int64

_NO_CORRECTION = Hubness("none")


@dataclass(frozen=True)
class MethodEntry:
    """Hold whether a method is trained, and a line on what it does."""

    kind: MethodKind
    about: str


COMPARED_METHODS = {
    "auto": MethodEntry("training-free", "what asif tune finds: sums of asif, procrustes, ridge and cca"),
    "asif": MethodEntry("training-free", "similarities to the anchors, the largest of them"),
    "procrustes": MethodEntry("training-free", "the rotation that brings pairs closest"),
    "ridge": MethodEntry("training-free", "one side predicted from the other by least squares"),
    "cca": MethodEntry("training-free", "canonical correlations, with a penalty on both sides"),
    "asif-paper": MethodEntry("published", "ASIF as published: k = 800, p = 8, no tuning, no correction"),
    "ape": MethodEntry("trained", "an MLP leads texts into the image encoder's space"),
    "fusemix": MethodEntry("trained", "adapters on both sides, trained on mixtures of pairs"),
    "freeze-align": MethodEntry("trained", "freeze-align's projectors of one vector a side"),
}
"""The methods by name, in the order in which they are compared."""

TRAINED_SETTINGS: dict[str, tuple[str, ...]] = {
    "ape": ("ape", "ape(dropout=0.3)", "ape(hidden=512)", "ape(rate=0.0003)"),
    "fusemix": ("fusemix", "fusemix(dropout=0.4)", "fusemix(blocks=2)", "fusemix(rate=0.0003)"),
    "freeze-align": (
        "freeze-align",
        "freeze-align(dropout=0.5)",
        "freeze-align(dropout=0.1,decay=0.02)",
        "freeze-align(rate=0.0003)",
    ),
}
"""The settings of each trained method, tried in this order until the seconds are spent."""


@dataclass(frozen=True)
class Sample:
    """Hold some pairs of an anchor set: aligners are fitted to `anchors`, projectors trained on `pairs`.

    `pairs` are the same images, with single captions if these are known; `captions` draws some of these for tuning.
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
            random = np.random.default_rng(seed)
            drawn_rows = [starts[row] + random.permutation(starts[row + 1] - starts[row])[:each] for row in rows]
            owners_drawn = np.repeat(np.arange(len(rows)), [len(some) for some in drawn_rows])
            return Embeddings(vectors.values[np.concatenate(drawn_rows)]), owners_drawn

        return cls(anchors, pairs, captions)


@dataclass(frozen=True)
class Contender:
    """Hold a fitted method, its hubness correction, and its costs; `peak_mib` is None if unknown."""

    setting: str
    fitted: FittedAligner
    hubness: Hubness
    tuning: TuningSpent | None
    fit_seconds: float
    peak_mib: float | None
    deletion: DeletionCost

    @property
    def trained_parameters(self) -> int | None:
        """Count the trained parameters; None if nothing was trained."""
        return self.fitted.weight_count if isinstance(self.fitted, FittedProjector) else None


def fit_contender(
    method: str,
    sample: Sample,
    task: Task,
    seed: int,
    seconds: float,
    fixed: str | None = None,
    on_setting: Callable[[str], None] = lambda setting: None,
) -> Contender:
    """Tune a method inside a sample for at most `seconds`, and fit it to all of the sample.

    A trained method holds a tenth of the pairs out, for early stopping: the same pairs choose among its settings, and
    its correction. At least one setting of every method is tried, however long it takes. `fixed` is the only setting
    to try of a trained method, such as a recipe's. `on_setting` is called with each setting that is trained.
    """
    if method in RIVALS:
        return _train_settings((fixed,) if fixed else TRAINED_SETTINGS[method], sample, task, seed, seconds, on_setting)
    if COMPARED_METHODS[method].kind == "published":
        return _fit_closed_form(make_aligner(method), method, _NO_CORRECTION, None, sample.anchors)
    family = None if method == "auto" else method
    found = tune(sample.anchors, task, seconds=seconds, seed=seed, captions=sample.captions, family=family)
    spent = TuningSpent(len(found.trials), found.seconds, found.complete)
    return _fit_closed_form(
        make_aligner(found.best.aligner), found.best.aligner, found.best.hubness, spent, sample.anchors
    )


def _fit_closed_form(
    aligner: Aligner, setting: str, hubness: Hubness, tuning: TuningSpent | None, anchors: AnchorSubset
) -> Contender:
    """Fit a training-free aligner, and measure the cost of leaving one pair out afterwards."""
    fresh = replace(anchors)  # without the sums that tuning may have cached
    with peak_memory() as peak:
        seconds, fitted = _time_fit(aligner, fresh)
    remaining = fresh.select_rows(np.arange(1, fresh.count))
    deleted = fresh.select_rows(np.arange(1))
    started = time.perf_counter()
    if is_linear(aligner):
        find_moments(remaining, lambda _: find_moments(fresh) - Moments.of(deleted))
    deletion_seconds = time.perf_counter() - started + _time_fit(aligner, remaining)[0]
    how = "sums less one pair, solved again" if is_linear(aligner) else "the pair is left out"
    deletion = DeletionCost(deletion_seconds, how)
    return Contender(setting, fitted, hubness, tuning, seconds, peak.mib, deletion)


def _time_fit(aligner: Aligner, anchors: AnchorSubset) -> tuple[float, FittedAligner]:
    """Fit an aligner and represent one row with it; return the seconds, and the fitted aligner."""
    first = {side: Embeddings(anchors.sides[side][:1].astype(np.float32)) for side in anchors.sides}
    started = time.perf_counter()
    fitted = aligner.fit(anchors)
    for side, rows in first.items():
        fitted.represent(side, rows)
    return time.perf_counter() - started, fitted


def _train_settings(
    settings: Sequence[str], sample: Sample, task: Task, seed: int, seconds: float, on_setting: Callable[[str], None]
) -> Contender:
    """Train a method with one setting after another within `seconds`; return the best one on held-out pairs."""
    started, best, tried = time.perf_counter(), None, 0
    for setting in settings:
        spent = time.perf_counter() - started
        if tried and spent * (tried + 1) / tried > seconds:  # another one would not finish in time
            break
        projector = make_aligner(setting)
        assert isinstance(projector, Projector)
        on_setting(setting)
        with peak_memory() as peak:
            fitted, run = replace(projector, seed=seed).train(sample.pairs, device=pick_device("auto"))
        tried += 1
        if best is None or run.best.rank > best[2].best.rank:
            best = (setting, fitted, run, peak.mib)
    assert best is not None
    setting, fitted, run, mib = best
    held_out = _build_held_out_questions(sample.pairs, seed)
    if task == "classify" and not has_repeated_texts(sample.anchors):
        held_out = held_out.add_noise(seed)  # as tuning does for the other methods
    hubness = choose_correction(fitted, held_out, task)
    tuning = TuningSpent(tried, round(time.perf_counter() - started, 2), complete=tried == len(settings))
    deletion = DeletionCost(run.seconds, "trained again")
    return Contender(setting, fitted, hubness, tuning, run.seconds, mib, deletion)


def _build_held_out_questions(pairs: TrainingPairs, seed: int) -> HeldOutQueries:
    """Build tuning queries from the pairs that training held out."""
    learnt, held_out = pairs.split(seed)
    rest = AnchorSubset({"image": learnt.images, "text": learnt.texts[learnt.text_starts[:-1]]})
    return HeldOutQueries(rest, Embeddings(held_out.images), Embeddings(held_out.texts), held_out.matches)
