"""Train one method inside a sample: its settings on folds of the pairs, then the chosen one on all pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from asif.aligners import FittedAligner, Hubness, make_aligner
from asif.aligners.hubness import MAX_BANK_ROWS
from asif.encoders.torch_common import pick_device
from asif.evaluate.comparison.method_run import TrainingSteps, TuningSpent
from asif.evaluate.comparison.peak_memory import peak_memory
from asif.rivals import Projector
from asif.tuning import (
    CORRECTIONS,
    AnchorSubset,
    HeldOutQueries,
    HeldOutScores,
    HubnessCorrector,
    Task,
    compute_query_scores,
    default_setting,
    has_repeated_images,
    has_repeated_texts,
    is_proven,
    score_held_out,
    split_folds,
)
from asif.tuning.scoring import MAX_BANK_ROWS as MAX_HELD_OUT_BANK
from asif.vectors import Embeddings, Float32, Float64, Side

if TYPE_CHECKING:
    from asif.evaluate.comparison.methods import Sample, TrainingData
    from asif.rivals.trainer import TrainingView

_PATIENCE = 8  # looks without improvement for any task, after which a training on a fold ends
_UNCORRECTED = Hubness("none")


@dataclass(frozen=True)
class TrainedFit:
    """Hold a network that was trained on all pairs of a sample, with its cost."""

    fitted: FittedAligner
    steps: TrainingSteps
    seconds: float
    peak_mib: float | None


@dataclass(frozen=True)
class TrainedChoice:
    """Hold what held-out pairs chose for one task: setting, correction, the share of its schedule, and the effort."""

    setting: str
    hubness: Hubness
    share: float
    tuning: TuningSpent


@dataclass(frozen=True)
class _FoldTrial:
    """Hold one setting on one fold: for each task the best share of the schedule, and the queries' scores."""

    shares: Mapping[Task, float]
    scores: Mapping[tuple[Task, Hubness], Float64]
    shortened: float
    seconds: float


@dataclass
class _Watcher:
    """Follow a training on held-out queries: the best step for each task, by the task's own criterion."""

    queries: Mapping[Task, HeldOutQueries]
    data: TrainingData | None = None
    looks: int = 0
    best: dict[Task, tuple[float, int, int]] = field(default_factory=dict)  # score, look, step
    weights: dict[Task, Mapping[str, Float32]] = field(default_factory=dict)

    def __call__(self, view: TrainingView) -> bool:
        """Score the networks for every task; return whether none has improved for long."""
        self.looks += 1
        for task, queries in self.queries.items():
            images, texts = self._project(view, "image", queries.images), self._project(view, "text", queries.texts)
            table = images @ texts.T
            corrector = HubnessCorrector(HeldOutScores(table, ()))
            score = float(compute_query_scores(corrector, _UNCORRECTED, queries.matches, task).mean())
            if task not in self.best or score > self.best[task][0]:
                self.best[task], self.weights[task] = (score, self.looks, view.step), view.copy_weights()
        return all(self.looks - look >= _PATIENCE for _, look, _ in self.best.values())

    def _project(self, view: TrainingView, side: Side, embeddings: Embeddings) -> Float32:
        return view.project(side, embeddings.values) if self.data is None else self.data.project(view, side, embeddings)


class MethodTraining:
    """Train one method inside one sample, for all tasks of a comparison at once.

    Folds and held-out queries are those that the training-free methods are tuned on. Every setting is trained on the
    first fold; each further fold is used if all of them can be trained on it in the seconds that are left. A task takes
    the setting, the correction and the number of steps that its own criterion prefers, and its usual setting unless
    another is proven better. Networks are then trained on all pairs; tasks that choose alike share one.
    """

    def __init__(
        self,
        settings: Sequence[str],
        sample: Sample,
        tasks: Sequence[Task],
        seed: int,
        seconds: float,
        on_setting: Callable[[str], None] = lambda setting: None,
    ) -> None:
        self.settings, self.sample, self.tasks, self.seed, self.seconds = settings, sample, tasks, seed, seconds
        self.on_setting = on_setting
        self.started = time.perf_counter()
        self.texts_repeat = has_repeated_texts(sample.anchors)
        self.folds = list(split_folds(sample.anchors, seed, sample.captions, words=sample.reads_words))
        self.rounds: list[dict[str, _FoldTrial]] = []
        for number, queries in enumerate(self.folds):
            found = self._try_settings(number, queries)
            if self.rounds and len(found) < len(self.rounds[0]):
                break
            self.rounds.append(found)
        self.spent = time.perf_counter() - self.started
        self.fits: dict[tuple[str, float], TrainedFit] = {}

    def choose(self, task: Task) -> TrainedChoice:
        """Choose setting, correction and number of steps for a task, from all held-out queries."""

        def join_scores(setting: str, hubness: Hubness) -> Float64:
            return np.concatenate([found[setting].scores[task, hubness] for found in self.rounds])

        usual = (self.settings[0], choose_usual_correction(self.sample.anchors, task))
        tried = [(setting, hubness) for setting in self.rounds[0] for hubness in CORRECTIONS]
        best = max(tried, key=lambda each: float(join_scores(*each).mean()))
        setting, hubness = best if is_proven(join_scores(*best) - join_scores(*usual)) else usual
        share = median(found[setting].shares[task] for found in self.rounds)
        return TrainedChoice(setting, hubness, share, self._describe_effort(len(join_scores(*usual))))

    def fit(self, choice: TrainedChoice) -> TrainedFit:
        """Train the chosen setting on all pairs of the sample, for the share of its schedule that was found."""
        key = (choice.setting, choice.share)
        if key not in self.fits:
            self.fits[key] = self._train_on_all(choice)
        return self.fits[key]

    def _describe_effort(self, questions: int) -> TuningSpent:
        """Return what the choice has cost."""
        tried = self.rounds[0]
        whole = len(tried) == len(self.settings) and len(self.rounds) == len(self.folds)
        complete = whole and all(trial.shortened == 1 for found in self.rounds for trial in found.values())
        over = max(0.0, self.spent - self.seconds)
        return TuningSpent(len(tried), round(self.spent, 2), complete, questions, round(over, 2))

    def _try_settings(self, fold: int, queries: HeldOutQueries) -> dict[str, _FoldTrial]:
        """Train the settings on one fold, each if it is expected to end in time; the first one in any case."""
        found: dict[str, _FoldTrial] = {}
        for setting in self.rounds[0] if self.rounds else self.settings:
            left = self.seconds - (time.perf_counter() - self.started)
            known = [trial.seconds for trial in found.values()]
            expected = self.rounds[0][setting].seconds if self.rounds else np.mean(known) if known else 0.0
            if expected > left and (found or self.rounds):
                break
            self.on_setting(setting)
            found[setting] = self._train_on_fold(setting, fold, queries, left)
        return found

    def _train_on_fold(self, setting: str, fold: int, queries: HeldOutQueries, seconds: float) -> _FoldTrial:
        """Train one setting on one fold; score its held-out queries with every correction."""
        started = time.perf_counter()
        assert queries.anchors.rows is not None  # folds are subsets of the sample
        projector = self._make_projector(setting)
        data = self.sample.prepare_data(projector, queries.anchors.rows)
        pairs = data.pairs
        by_task = {task: self._prepare_queries(task, fold, queries) for task in self.tasks}
        watcher = _Watcher(by_task, data)
        schedule = projector.train_watched(pairs, seconds, watcher, pick_device("auto"))
        scores: dict[tuple[Task, Hubness], Float64] = {}
        for task, held_out in by_task.items():
            trained = projector.resolve(len(pairs)).build_fitted(pairs.dims, watcher.weights[task])
            fitted = data.complete(trained, MAX_HELD_OUT_BANK)
            corrector = HubnessCorrector(score_held_out(fitted, held_out, task, bank=True))
            usual = choose_usual_correction(self.sample.anchors, task)
            for hubness in dict.fromkeys((*CORRECTIONS, usual)):
                scores[task, hubness] = compute_query_scores(corrector, hubness, held_out.matches, task)
        shares = {task: step / schedule.steps for task, (_, _, step) in watcher.best.items()}
        shortened = schedule.steps / projector.resolve(len(pairs)).build_schedule(len(pairs)).steps
        return _FoldTrial(shares, scores, shortened, time.perf_counter() - started)

    def _prepare_queries(self, task: Task, fold: int, queries: HeldOutQueries) -> HeldOutQueries:
        """Add noise to the images of a labels task unless texts repeat, as tuning does for the other methods."""
        if task != "classify" or self.texts_repeat:
            return queries
        noisy = queries.add_noise(self.seed + fold)
        if self.sample.tokens is not None:
            self.sample.tokens.name_noisy(queries, noisy, self.seed + fold)
        return noisy

    def _train_on_all(self, choice: TrainedChoice) -> TrainedFit:
        """Train on all pairs: the schedule is shortened as much as it was on the folds."""
        projector = self._make_projector(choice.setting)
        data = self.sample.prepare_data(projector)
        pairs = data.pairs
        schedule = projector.resolve(len(pairs)).build_schedule(len(pairs))
        shortened = min(found[choice.setting].shortened for found in self.rounds)
        planned = schedule.shorten(max(1, round(shortened * schedule.steps)))
        steps = max(1, round(choice.share * planned.steps))
        started = time.perf_counter()
        with peak_memory() as peak:
            fitted = projector.train_steps(pairs, planned, steps, pick_device("auto"))
        training = TrainingSteps(steps, planned.steps, schedule.steps)
        return TrainedFit(data.complete(fitted, MAX_BANK_ROWS), training, time.perf_counter() - started, peak.mib)

    def _make_projector(self, setting: str) -> Projector:
        """Make the projector of a setting, with the seed of the sample."""
        projector = make_aligner(setting)
        assert isinstance(projector, Projector)
        return replace(projector, seed=self.seed)


def choose_usual_correction(anchors: AnchorSubset, task: Task) -> Hubness:
    """Return the hubness correction that every method keeps unless another is proven better."""
    repeats = {"texts_repeat": has_repeated_texts(anchors), "images_repeat": has_repeated_images(anchors)}
    return default_setting(task, anchors.count, **repeats)[1]
