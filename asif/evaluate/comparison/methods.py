"""Tune one method inside one sample of pairs, fit it to all of the sample, and measure the costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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
from asif.evaluate.comparison.method_run import DeletionCost, TrainingSteps, TuningSpent
from asif.evaluate.comparison.peak_memory import peak_memory
from asif.evaluate.comparison.result import MethodKind
from asif.evaluate.comparison.training import MethodTraining
from asif.rivals import FittedProjector, TrainingPairs
from asif.tuning import TASKS, AnchorSubset, CaptionSampler, Task, tune
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
    "fusemix": ("fusemix", "fusemix(epochs=100)", "fusemix(dropout=0.4)", "fusemix(rate=0.0003)"),
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
    `trainings` are those of trained methods, which serve several tasks.
    """

    anchors: AnchorSubset
    pairs: TrainingPairs
    captions: CaptionSampler | None
    texts: tuple[Embeddings, Int64] | None = None
    trainings: dict[tuple[str, ...], MethodTraining] = field(default_factory=dict)

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

        return cls(anchors, pairs, captions, texts)

    def select_pairs(self, rows: Int64) -> TrainingPairs:
        """Return the training pairs of some anchors of the sample, by their rows, ascending."""
        return TrainingPairs.of(self.anchors.select_rows(rows), select_captions(self.texts, rows))


def select_captions(texts: tuple[Embeddings, Int64] | None, rows: Int64) -> tuple[Embeddings, Int64] | None:
    """Return the captions of some rows, with the index of each one's row among these."""
    if texts is None:
        return None
    selected = np.flatnonzero(np.isin(texts[1], rows))
    return texts[0].select_rows(selected), np.searchsorted(rows, texts[1][selected])


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
    training: TrainingSteps | None = None

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
    tasks: Sequence[Task] = TASKS,
) -> Contender:
    """Tune a method inside a sample for at most `seconds`, and fit it to all of the sample.

    At least one setting of every method is tried. `fixed` is the only setting to try of a trained method, such as a
    recipe's. `on_setting` is called with each setting that is trained; `tasks` are all those of the comparison, for
    which a trained method is trained once.
    """
    if method in RIVALS:
        settings = (fixed,) if fixed else TRAINED_SETTINGS[method]
        if settings not in sample.trainings:
            sample.trainings[settings] = MethodTraining(settings, sample, tasks, seed, seconds, on_setting)
        return _train(sample.trainings[settings], task)
    if COMPARED_METHODS[method].kind == "published":
        return _fit_closed_form(make_aligner(method), method, _NO_CORRECTION, None, sample.anchors)
    family = None if method == "auto" else method
    found = tune(sample.anchors, task, seconds=seconds, seed=seed, captions=sample.captions, family=family)
    settings_tried = len({trial.aligner for trial in found.trials})
    over = round(max(0.0, found.seconds - seconds), 2)
    spent = TuningSpent(settings_tried, found.seconds, found.complete, found.questions, over)
    return _fit_closed_form(
        make_aligner(found.best.aligner), found.best.aligner, found.best.hubness, spent, sample.anchors
    )


def _train(training: MethodTraining, task: Task) -> Contender:
    """Take the setting that held-out pairs choose for a task, trained on all pairs."""
    choice = training.choose(task)
    trained = training.fit(choice)
    deletion = DeletionCost(trained.seconds, "trained again")
    return Contender(
        choice.setting,
        trained.fitted,
        choice.hubness,
        choice.tuning,
        trained.seconds,
        trained.peak_mib,
        deletion,
        trained.steps,
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
