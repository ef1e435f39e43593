"""The search for a profile: every setting alone, then with hubness corrections, then in fusions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np

from asif.aligners import Anchors, Hubness
from asif.aligners.joined_texts import share_joined_sums
from asif.errors import UsageError
from asif.tuning.criteria import TASKS, Task
from asif.tuning.grid import AlignerSetting, build_grid, default_setting
from asif.tuning.scoring import HeldOutScores, HubnessCorrector, compute_query_scores, fit_and_score
from asif.tuning.splits import (
    CaptionSampler,
    HeldOutQueries,
    choose_runs,
    has_repeated_images,
    has_repeated_texts,
    split_folds,
)
from asif.vectors import Float64

_KEPT_PER_ALIGNER = 2  # best settings of each aligner, which are tried with corrections and in fusions
_WEIGHTS = (0.3, 0.6, 1.0)
_MAX_MEMBERS = 3
_PROOF_ERRORS = 3  # standard errors by which a setting must beat the default
_UNCORRECTED = Hubness("none")
CORRECTIONS = (
    _UNCORRECTED,
    *(Hubness("nnn", k, alpha) for k, alpha in product((8, 32, 128), (0.25, 0.5, 0.75))),
    Hubness("lse"),
)
"""The hubness corrections that are tried."""
CRITERIA = {
    "classify": "chance that the right text comes first among 100, for held-out images, with noise unless texts repeat",
    "search": "mean reciprocal rank of what belongs to a held-out image or text, both ways",
}


@dataclass(frozen=True)
class Trial:
    """Hold one setting that was tried: aligner, correction, score and its standard error."""

    aligner: str
    hubness: Hubness
    score: float
    error: float

    def as_json(self) -> dict[str, Any]:
        """Return the trial as JSON values, rounded."""
        names = {"aligner": self.aligner, "hubness": self.hubness.parameters}
        return {**names, "score": round(self.score, 5), "error": round(self.error, 5)}


@dataclass(frozen=True)
class TuningResult:
    """Hold the choice and its evidence: all trials, highest score first; `complete` is False if time ran out.

    The choice is the trial with the highest score, except that a fusion within one standard error is preferred, and
    the default setting unless the choice is better by three standard errors.
    """

    task: Task
    best: Trial
    trials: tuple[Trial, ...]
    pairs: int
    questions: int
    seed: int
    seconds: float
    complete: bool

    def profile(self) -> dict[str, Any]:
        """Return the profile that is stored with the anchor set."""
        return {
            "aligner": self.best.aligner,
            "hubness": self.best.hubness.parameters,
            "criterion": CRITERIA[self.task],
            "score": round(self.best.score, 5),
            "error": round(self.best.error, 5),
            "pairs": self.pairs,
            "questions": self.questions,
            "seed": self.seed,
            "complete": self.complete,
            "trials": [trial.as_json() for trial in self.trials],
        }


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Hold a fusion of settings under search: each with its weight, and the fused scores on every fold."""

    members: tuple[tuple[AlignerSetting, float], ...]
    scores: tuple[HeldOutScores, ...]

    def name(self, count: int) -> str:
        """Return the name of the aligner for `count` anchors, as `make_aligner` parses it."""
        return "+".join(
            f"{weight:g}*{setting.name(count)}" if weight != 1 or index else setting.name(count)
            for index, (setting, weight) in enumerate(self.members)
        )


def tune(
    anchors: Anchors,
    task: Task,
    *,
    seconds: float = 120,
    seed: int = 0,
    captions: CaptionSampler | None = None,
    family: str | None = None,
    words: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TuningResult:
    """Choose aligner, parameters, hubness correction and fusion from held-out anchors alone; no label is used.

    Every setting is fitted to a fold's anchors and scored on its held-out queries. The best two settings of each
    aligner are tried with hubness corrections, then in fusions, as long as the score does not fall. The first step has
    half of `seconds`, the second a third; settings not tried by then are left out, and the result is not `complete`.
    `captions` returns single captions of held-out pairs whose stored texts are means of several. With a `family`, only
    this aligner is tried, and its first setting is the default. `words` tells whether queries will come with their
    texts, as those of encoders do. Raises UsageError for an unknown task, InputRefused for too few pairs.
    """
    if task not in TASKS:
        raise UsageError(f"the task is {task!r}", f"one of {', '.join(TASKS)}", "pass --task classify")
    started = time.perf_counter()
    return ProfileSearch(anchors, task, seed, captions, family, words, started, seconds, progress).run()


def is_proven(gains: Float64) -> bool:
    """Tell whether gains over the usual setting, one for each held-out query, are three standard errors above zero.

    With a few dozen pairs, chance alone makes the best of some hundred trials better by two standard errors.

    >>> is_proven(np.array([0.5, 0.4, 0.6])), is_proven(np.array([1.0, 0.0, 0.0, 0.0]))
    (True, False)
    """
    return bool(gains.mean() > _PROOF_ERRORS * gains.std() / np.sqrt(len(gains)))


class ProfileSearch:
    """Hold the folds of an anchor set, and the trials made on them so far."""

    def __init__(
        self,
        anchors: Anchors,
        task: Task,
        seed: int,
        captions: CaptionSampler | None,
        family: str | None,
        words: bool,
        started: float,
        seconds: float,
        progress: Callable[[int, int], None],
    ) -> None:
        self.task, self.seed, self.started, self.seconds, self.progress = task, seed, started, seconds, progress
        self.count = anchors.count
        self.images_repeat = has_repeated_images(anchors)
        self.texts_repeat = has_repeated_texts(anchors)  # one fold may be too small to show it
        self.folds: Sequence[HeldOutQueries] = tuple(
            queries.add_noise(seed + fold) if task == "classify" and not self.texts_repeat else queries
            for fold, queries in enumerate(split_folds(anchors, seed, captions, words=words))
        )
        for queries in self.folds:
            share_joined_sums(queries.anchors)
        dims = [anchors.blocks("image")[0].shape[1], anchors.blocks("text")[0].shape[1]]
        self.family, self.words = family, words
        grid = build_grid(min(dims), words=words)
        self.settings = [each for each in grid if family is None or (each.family == family and not each.is_lexical)]
        self.trials: dict[tuple[str, Hubness], Trial] = {}
        self.query_scores: dict[tuple[str, Hubness], Float64] = {}
        self.complete = True

    def run(self) -> TuningResult:
        """Try settings, corrections and fusions; return the choice and all trials."""
        corrected: list[tuple[_Candidate, Hubness]] = []
        for setting in self._try_settings():
            if corrected and self._is_late(0.85):
                break
            candidate = self._build_candidate(setting)
            corrected.append((candidate, self._choose_correction(candidate)))
        best, hubness = max(corrected, key=lambda each: self.trials[each[0].name(self.count), each[1]].score)
        candidates = [candidate for candidate, _ in corrected]
        while self.family is None and len(best.members) < _MAX_MEMBERS and not self._is_late(1):
            fusion = self._extend_fusion(best, hubness, candidates)
            if fusion is None:
                break
            best, hubness = fusion, self._choose_correction(fusion)
        name = best.name(self.count)
        return TuningResult(
            task=self.task,
            best=self._choose_proven(name, hubness),
            trials=tuple(sorted(self.trials.values(), key=lambda trial: -trial.score)),
            pairs=len(choose_runs(self.count)),
            questions=len(next(iter(self.query_scores.values()))),
            seed=self.seed,
            seconds=round(time.perf_counter() - self.started, 2),
            complete=self.complete,
        )

    def _try_settings(self) -> list[AlignerSetting]:
        """Try every setting by itself; return the best of each aligner, best first."""
        by_aligner: dict[str, list[tuple[float, AlignerSetting]]] = {}
        for index, setting in enumerate(self.settings):
            if index >= 4 and self._is_late(0.5):
                break
            scores = self._score_setting(setting, bank=False)
            trial = self._evaluate(
                _Candidate(((setting, 1.0),), scores), _UNCORRECTED, [HubnessCorrector(each) for each in scores]
            )
            by_aligner.setdefault(setting.family, []).append((trial.score, setting))
            self.progress(index + 1, len(self.settings))
        best = chain.from_iterable(
            sorted(tried, key=lambda each: -each[0])[:_KEPT_PER_ALIGNER] for tried in by_aligner.values()
        )
        return [setting for _, setting in sorted(best, key=lambda each: -each[0])]

    def _choose_proven(self, best: str, hubness: Hubness) -> Trial:
        """Return the best trial, or the default if the best is not proven better; a family's default is its first."""
        setting, correction = default_setting(
            self.task,
            self.count,
            texts_repeat=self.texts_repeat,
            images_repeat=self.images_repeat,
            words=self.words,
        )
        default = self._build_candidate(setting if self.family is None else self.settings[0])
        trial = self._evaluate(default, correction, [HubnessCorrector(scores) for scores in default.scores])
        gains = self.query_scores[best, hubness] - self.query_scores[trial.aligner, correction]
        return self.trials[best, hubness] if is_proven(gains) else trial

    def _is_late(self, share: float) -> bool:
        """Tell whether this share of the time is over; if so, the search is not complete."""
        late = time.perf_counter() - self.started > share * self.seconds
        self.complete = self.complete and not late
        return late

    def _score_setting(self, setting: AlignerSetting, *, bank: bool) -> tuple[HeldOutScores, ...]:
        """Score a setting on every fold; its k depends on the number of anchors of the fold."""
        return tuple(
            fit_and_score(setting.name(queries.anchors.count), queries, self.task, bank) for queries in self.folds
        )

    def _build_candidate(self, setting: AlignerSetting) -> _Candidate:
        """Score a setting again, with its query bank."""
        return _Candidate(((setting, 1.0),), self._score_setting(setting, bank=True))

    def _choose_correction(self, candidate: _Candidate) -> Hubness:
        """Try every correction; return the best."""
        correctors = [HubnessCorrector(scores) for scores in candidate.scores]
        return max(CORRECTIONS, key=lambda hubness: self._evaluate(candidate, hubness, correctors).score)

    def _extend_fusion(self, best: _Candidate, hubness: Hubness, others: Sequence[_Candidate]) -> _Candidate | None:
        """Add the best setting of another aligner; None if it lowers the score by more than one standard error.

        Held-out anchors cannot represent all other images. A fusion of different aligners within one standard error of
        the best is the safer choice: its members do not fail on the same images.
        """
        families = {setting.family for setting, _ in best.members}
        fusions = [
            self._try_fusion(best, other, weight, hubness)
            for other, weight in product(others, _WEIGHTS)
            if other.members[0][0].family not in families
        ]
        if not fusions:
            return None
        fusion = max(fusions, key=lambda candidate: self.trials[candidate.name(self.count), hubness].score)
        before, after = (self.query_scores[candidate.name(self.count), hubness] for candidate in (best, fusion))
        losses = before - after
        return fusion if losses.mean() <= losses.std() / np.sqrt(len(losses)) else None

    def _try_fusion(self, best: _Candidate, other: _Candidate, weight: float, hubness: Hubness) -> _Candidate:
        """Add a setting with a weight, and evaluate the fusion."""
        scores = tuple(
            mine.add_weighted(theirs, weight) for mine, theirs in zip(best.scores, other.scores, strict=True)
        )
        fusion = _Candidate((*best.members, (other.members[0][0], weight)), scores)
        self._evaluate(fusion, hubness, [HubnessCorrector(each) for each in scores])
        return fusion

    def _evaluate(self, candidate: _Candidate, hubness: Hubness, correctors: Sequence[HubnessCorrector]) -> Trial:
        """Evaluate a candidate with a correction on all folds, and record the trial."""
        scores = np.concatenate(
            [
                compute_query_scores(corrector, hubness, queries.matches, self.task)
                for corrector, queries in zip(correctors, self.folds, strict=True)
            ]
        )
        name = candidate.name(self.count)
        trial = Trial(name, hubness, float(scores.mean()), float(scores.std() / np.sqrt(len(scores))))
        self.trials[name, hubness] = trial
        self.query_scores[name, hubness] = scores
        return trial
