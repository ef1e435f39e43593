"""Tune one method inside one sample of pairs, fit it to all of the sample, and measure the costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from asif.aligners import (
    Aligner,
    FittedAligner,
    Hubness,
    Moments,
    is_linear,
    make_aligner,
)
from asif.aligners.moments import find_moments
from asif.evaluate.comparison.anchor_tokens import AnchorTokens
from asif.evaluate.comparison.method_run import DeletionCost, TrainingSteps, TuningSpent
from asif.evaluate.comparison.peak_memory import peak_memory
from asif.evaluate.comparison.result import MethodKind
from asif.evaluate.comparison.training import MethodTraining, choose_usual_correction
from asif.rivals import FittedProjector, FreezeAlignTokens, PairFeatures, Projector, TrainingPairs
from asif.rivals.words import FittedWithWords, WordChannel, WordedPairs
from asif.tuning import (
    CORRECTIONS,
    TASKS,
    AnchorSubset,
    CaptionSampler,
    HubnessCorrector,
    Task,
    compute_query_scores,
    fit_and_score,
    has_repeated_texts,
    is_proven,
    split_folds,
    tune,
)
from asif.vectors import Embeddings, Float32, Float64, Int64, Side, Texts

if TYPE_CHECKING:
    from asif.rivals.trainer import TrainingView

_NO_CORRECTION = Hubness("none")


@dataclass(frozen=True)
class MethodEntry:
    """Hold whether a method is trained, and a line on what it does."""

    kind: MethodKind
    about: str


COMPARED_METHODS = {
    "auto": MethodEntry(
        "training-free", "what asif tune finds: sums of asif, procrustes, ridge and cca, with words or without"
    ),
    "asif": MethodEntry("training-free", "similarities to the anchors, the largest of them"),
    "procrustes": MethodEntry("training-free", "the rotation that brings pairs closest"),
    "ridge": MethodEntry("training-free", "one side predicted from the other by least squares"),
    "cca": MethodEntry("training-free", "canonical correlations, with a penalty on both sides"),
    "cca(words)": MethodEntry("training-free", "canonical correlations of images with texts and their words, by rule"),
    "asif-paper": MethodEntry("published", "ASIF as published: k = 800, p = 8, no tuning, no correction"),
    "ape": MethodEntry("trained", "an MLP leads texts into the image encoder's space"),
    "fusemix": MethodEntry("trained", "adapters on both sides, trained on mixtures of pairs"),
    "freeze-align": MethodEntry("trained", "freeze-align's projectors of one vector a side"),
}
"""The methods by name, in the order in which they are compared."""

OPTIONAL_METHODS = {
    "freeze-align-tokens": MethodEntry("trained", "freeze-align's projectors of all tokens of both sides"),
}
"""Methods that are compared only if they are named: they need the tokens of all anchors."""

WORD_METHODS = ("auto", "cca(words)")
"""The methods that read the words of captions; where one of them competes, trained methods read these too."""

TRAINED_SETTINGS: dict[str, tuple[str, ...]] = {
    "ape": ("ape", "ape(dropout=0.3)", "ape(hidden=512)", "ape(rate=0.0003)"),
    "fusemix": ("fusemix", "fusemix(epochs=100)", "fusemix(dropout=0.4)", "fusemix(rate=0.0003)"),
    "freeze-align": (
        "freeze-align",
        "freeze-align(dropout=0.5)",
        "freeze-align(dropout=0.1,decay=0.02)",
        "freeze-align(rate=0.0003)",
    ),
    "freeze-align-tokens": (
        "freeze-align-tokens",
        "freeze-align-tokens(dropout=0.5)",
        "freeze-align-tokens(dropout=0.1,decay=0.02)",
        "freeze-align-tokens(rate=0.0003)",
    ),
}
"""The settings of each trained method, tried in this order until the seconds are spent."""


def find_method(name: str) -> MethodEntry:
    """Return the entry of a method."""
    return COMPARED_METHODS[name] if name in COMPARED_METHODS else OPTIONAL_METHODS[name]


@dataclass(frozen=True)
class Sample:
    """Hold some pairs of an anchor set: aligners are fitted to `anchors`, projectors trained on `prepare_pairs`.

    `texts` are their single captions if these are known; `captions` draws some of these for tuning. With `reads_words`
    every method may read the captions' words. `trainings` are those of trained methods, which serve several tasks.
    `tokens` are those of the anchors, for a method that is trained on them.
    """

    anchors: AnchorSubset
    captions: CaptionSampler | None
    texts: tuple[Embeddings, Int64] | None = None
    reads_words: bool = False
    trainings: dict[tuple[str, ...], MethodTraining] = field(default_factory=dict)
    tokens: AnchorTokens | None = None

    @classmethod
    def of(
        cls,
        anchors: AnchorSubset,
        texts: tuple[Embeddings, Int64] | None,
        seed: int,
        each: int = 2,
        reads_words: bool = False,
        tokens: AnchorTokens | None = None,
    ) -> Sample:
        """Take anchors and their single captions: unit rows [m, dt], and the row of the anchors of each [m].

        `tokens` are those of the same anchors.
        """
        reads_words = reads_words and (texts is None or texts[0].texts is not None)
        if not reads_words:
            anchors = replace(anchors, whole=None)  # without captions
        if texts is None:
            return cls(anchors, None, None, reads_words, tokens=tokens)
        vectors, owners = texts
        starts = np.searchsorted(owners, np.arange(anchors.count + 1))

        def captions(rows: Int64) -> tuple[Embeddings, Int64]:
            random = np.random.default_rng(seed)
            drawn_rows = [starts[row] + random.permutation(starts[row + 1] - starts[row])[:each] for row in rows]
            owners_drawn = np.repeat(np.arange(len(rows)), [len(some) for some in drawn_rows])
            return vectors.select_rows(np.concatenate(drawn_rows)), owners_drawn

        return cls(anchors, captions, texts, reads_words, tokens=tokens)

    def prepare_pairs(
        self, rows: Int64 | None = None, most_words: int | None = None
    ) -> tuple[TrainingPairs, WordChannel | None]:
        """Return training pairs, of all anchors or of some, by row, ascending, and the words they are joined with."""
        anchors = self.anchors if rows is None else self.anchors.select_rows(rows)
        texts = self.texts if rows is None else select_captions(self.texts, rows)
        channel = WordChannel.of(anchors, most_words) if self.reads_words else None
        pairs = TrainingPairs.of(anchors, texts) if channel is None else WordedPairs.join(anchors, texts, channel)
        return pairs, channel

    def prepare_data(self, projector: Projector, rows: Int64 | None = None) -> TrainingData:
        """Return what a projector is trained on, of all anchors or of some, by row, ascending."""
        if not isinstance(projector, FreezeAlignTokens):
            return TrainingData(*self.prepare_pairs(rows, projector.most_words))
        assert self.tokens is not None  # the command opens them for this method
        tokens = self.tokens if rows is None else self.tokens.select_rows(rows)
        return TrainingData(tokens.prepare_pairs(), tokens=tokens)


@dataclass(frozen=True)
class TrainingData:
    """Hold pairs to train on, and the words or the tokens that go with them."""

    pairs: PairFeatures
    words: WordChannel | None = None
    tokens: AnchorTokens | None = None

    def complete(self, fitted: FittedProjector, most: int) -> FittedProjector | FittedWithWords:
        """Return a trained projector that takes vectors; one of tokens with a query bank of `most` anchors."""
        if self.tokens is not None:
            return self.tokens.complete(fitted, most)
        return fitted if self.words is None else FittedWithWords(fitted, self.words)

    def project(self, view: TrainingView, side: Side, embeddings: Embeddings) -> Float32:
        """Project held-out queries with networks that are being trained."""
        if self.tokens is not None:
            every = self.tokens.lookup.iter_inputs(side, embeddings)
            return np.concatenate([view.project(side, *inputs) for inputs in every])
        joined = embeddings if self.words is None or side == "image" else self.words.join(embeddings)
        return view.project(side, joined.values)


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
        return self.fitted.weight_count if isinstance(self.fitted, FittedProjector | FittedWithWords) else None


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
    if find_method(method).kind == "trained":
        settings = (fixed,) if fixed else TRAINED_SETTINGS[method]
        if settings not in sample.trainings:
            sample.trainings[settings] = MethodTraining(settings, sample, tasks, seed, seconds, on_setting)
        return _train(sample.trainings[settings], task)
    if find_method(method).kind == "published":
        return _fit_closed_form(make_aligner(method), method, _NO_CORRECTION, None, sample.anchors)
    if method == "cca(words)":
        return _fit_by_rule(method, sample, task, seed, seconds)
    family = None if method == "auto" else method
    words = sample.reads_words and method == "auto"
    found = tune(sample.anchors, task, seconds=seconds, seed=seed, captions=sample.captions, family=family, words=words)
    settings_tried = len({trial.aligner for trial in found.trials})
    over = round(max(0.0, found.seconds - seconds), 2)
    spent = TuningSpent(settings_tried, found.seconds, found.complete, found.questions, over)
    return _fit_closed_form(
        make_aligner(found.best.aligner), found.best.aligner, found.best.hubness, spent, sample.anchors
    )


def _fit_by_rule(method: str, sample: Sample, task: Task, seed: int, seconds: float) -> Contender:
    """Fit an aligner whose parameters follow from the anchors; held-out queries choose its hubness correction."""
    started, noisy = time.perf_counter(), task == "classify" and not has_repeated_texts(sample.anchors)
    usual = choose_usual_correction(sample.anchors, task)
    scores: dict[Hubness, list[Float64]] = {hubness: [] for hubness in (usual, *CORRECTIONS)}
    complete = True
    for fold, queries in enumerate(split_folds(sample.anchors, seed, sample.captions)):
        complete = not fold or time.perf_counter() - started < seconds
        if not complete:
            break
        held_out = queries.add_noise(seed + fold) if noisy else queries
        corrector = HubnessCorrector(fit_and_score(method, held_out, task, bank=True))
        for hubness, found in scores.items():
            found.append(compute_query_scores(corrector, hubness, held_out.matches, task))
    joined = {hubness: np.concatenate(found) for hubness, found in scores.items()}
    best = max(joined, key=lambda hubness: float(joined[hubness].mean()))
    spent = time.perf_counter() - started
    tuning = TuningSpent(1, round(spent, 2), complete, len(joined[usual]), round(max(0.0, spent - seconds), 2))
    hubness = best if is_proven(joined[best] - joined[usual]) else usual
    return _fit_closed_form(make_aligner(method), method, hubness, tuning, sample.anchors)


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
    said = tuple(anchors.select_rows(np.arange(1)).read_captions()) or None
    texts: dict[Side, Texts | None] = {"image": None, "text": said}
    first = {side: Embeddings(anchors.sides[side][:1].astype(np.float32), texts[side]) for side in anchors.sides}
    started = time.perf_counter()
    fitted = aligner.fit(anchors)
    for side, rows in first.items():
        fitted.represent(side, rows)
    return time.perf_counter() - started, fitted
