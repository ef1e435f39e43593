"""The search for a profile: every setting alone, then corrected for hubness, then added up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np

from asif.aligners import Anchors, Fitted, Hubness
from asif.errors import UsageError
from asif.tuning.criteria import TASKS, Float64, Task
from asif.tuning.grid import Setting, grid, usual
from asif.tuning.scoring import Corrector, Scores, answers, asked, judged
from asif.tuning.splits import Captions, Questions, divisions, looked_at, texts_repeat

KEPT = 2  # settings of each aligner that go on to be corrected and added up
WEIGHTS = (0.3, 0.6, 1.0)
MEMBERS = 3
PROOF = 3  # standard errors
NONE = Hubness("none")
CORRECTIONS = (NONE, *(Hubness("nnn", k, alpha) for k, alpha in product((8, 32, 128), (0.25, 0.5, 0.75))))
CRITERIA = {
    "classify": "chance that the right text comes first among 100, for held-out images, with noise unless texts repeat",
    "search": "mean reciprocal rank of what belongs to a held-out image or text, both ways",
}


@dataclass(frozen=True)
class Trial:
    """One setting that was tried: the aligner, the correction, its worth and the standard error of that."""

    aligner: str
    hubness: Hubness
    score: float
    error: float

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON keeps it."""
        found = {"aligner": self.aligner, "hubness": self.hubness.parameters}
        return {**found, "score": round(self.score, 5), "error": round(self.error, 5)}


@dataclass(frozen=True)
class Tuned:
    """Hold the choice and its evidence: all trials, highest score first; `complete` unless time ran out before the end.

    The choice is the highest, but for sums of unlike aligners that are as good within a standard error, and for the
    usual choice where nothing is better by three.
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
        """Return what is kept with the anchor set."""
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
class Candidate:
    """A sum of settings on its way: each with its weight, and its scores on every division."""

    members: tuple[tuple[Setting, float], ...]
    scores: tuple[Scores, ...]

    def name(self, count: int) -> str:
        """Return what the aligner is called, as `make_aligner` reads it."""
        return "+".join(
            f"{weight:g}*{setting.name(count)}" if weight != 1 or at else setting.name(count)
            for at, (setting, weight) in enumerate(self.members)
        )


def tune(
    anchors: Anchors,
    task: Task,
    *,
    seconds: float = 120,
    seed: int = 0,
    captions: Captions | None = None,
    family: str | None = None,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Tuned:
    """Choose aligner, parameters, hubness correction and fusion from held-out anchors alone; no label is used.

    Every setting is fitted to the rest and asked about the held-out pairs; the best two of each aligner are tried with
    corrections for hubness, then added up, as long as that is not worse. Half of `seconds` is for the first step, a
    third for the second; what has not been tried by then is left out, and the result says so. `captions` gives single
    captions of held-out pairs, where what is stored is made of several. With a `family`, it is the one aligner that is
    tried, and what scores highest is chosen. Raises UsageError for an unknown task, InputRefused for too few pairs.
    """
    if task not in TASKS:
        raise UsageError(f"the task is {task!r}", f"one of {', '.join(TASKS)}", "pass --task classify")
    started = time.perf_counter()
    return Search(anchors, task, seed, captions, family, started, seconds, progress).run()


def best_correction(fitted: Fitted, questions: Questions, task: Task) -> Hubness:
    """Choose the hubness correction of an aligner that is fitted already, as `tune` does, from held-out pairs."""
    corrector = Corrector(asked(fitted, questions, task, bank=True))
    return max(CORRECTIONS, key=lambda each: float(judged(corrector, each, questions.right, task).mean()))


class Search:
    """Hold what the steps of a search share."""

    def __init__(
        self,
        anchors: Anchors,
        task: Task,
        seed: int,
        captions: Captions | None,
        family: str | None,
        started: float,
        seconds: float,
        progress: Callable[[int, int], None],
    ) -> None:
        self.task, self.seed, self.started, self.seconds, self.progress = task, seed, started, seconds, progress
        self.count = anchors.count
        self.texts_repeat = texts_repeat(anchors)  # one division may be too small to show it
        divided = enumerate(divisions(anchors, seed, captions))
        self.divisions: Sequence[Questions] = tuple(
            questions.blurred(seed + at) if task == "classify" and not self.texts_repeat else questions
            for at, questions in divided
        )
        dims = [anchors.blocks("image")[0].shape[1], anchors.blocks("text")[0].shape[1]]
        self.family = family
        self.settings = [setting for setting in grid(min(dims)) if family in (None, setting.family)]
        self.trials: dict[tuple[str, Hubness], Trial] = {}
        self.worth: dict[tuple[str, Hubness], Float64] = {}
        self.complete = True

    def run(self) -> Tuned:
        """Take the steps."""
        corrected: list[tuple[Candidate, Hubness]] = []
        for setting in self.alone():
            if corrected and self.late(0.85):
                break
            candidate = self.candidate(setting)
            corrected.append((candidate, self.correct(candidate)))
        best, hubness = max(corrected, key=lambda found: self.trials[found[0].name(self.count), found[1]].score)
        kept = [candidate for candidate, _ in corrected]
        while self.family is None and len(best.members) < MEMBERS and not self.late(1):
            taller = self.taller(best, hubness, kept)
            if taller is None:
                break
            best, hubness = taller, self.correct(taller)
        name = best.name(self.count)
        chosen = self.proven(name, hubness) if self.family is None else self.trials[name, hubness]
        others = sorted(self.trials.values(), key=lambda trial: -trial.score)
        count = len(next(iter(self.worth.values())))
        pairs = len(looked_at(self.count))
        spent = time.perf_counter() - self.started
        return Tuned(self.task, chosen, tuple(others), pairs, count, self.seed, round(spent, 2), self.complete)

    def alone(self) -> list[Setting]:
        """Try every setting by itself; return the best of each aligner, best first."""
        found: dict[str, list[tuple[float, Setting]]] = {}
        for at, setting in enumerate(self.settings):
            if at >= 4 and self.late(0.5):
                break
            scores = self.asked(setting, bank=False)
            trial = self.tried(Candidate(((setting, 1.0),), scores), NONE, [Corrector(each) for each in scores])
            found.setdefault(setting.family, []).append((trial.score, setting))
            self.progress(at + 1, len(self.settings))
        best = chain.from_iterable(sorted(tried, key=lambda each: -each[0])[:KEPT] for tried in found.values())
        return [setting for _, setting in sorted(best, key=lambda each: -each[0])]

    def proven(self, best: str, hubness: Hubness) -> Trial:
        """Return the best, or the usual choice where the best is not better by three standard errors of the difference.

        With a few dozen pairs the best of some hundred trials is a matter of luck, which brings two of them.
        """
        setting, correction = usual(self.task, texts_repeat=self.texts_repeat)
        safe = self.candidate(setting)
        trial = self.tried(safe, correction, [Corrector(scores) for scores in safe.scores])
        gained = self.worth[best, hubness] - self.worth[trial.aligner, correction]
        if gained.mean() <= PROOF * gained.std() / np.sqrt(len(gained)):
            return trial
        return self.trials[best, hubness]

    def late(self, share: float) -> bool:
        """Tell whether this share of the time is over; what is left out for it makes the search incomplete."""
        late = time.perf_counter() - self.started > share * self.seconds
        self.complete = self.complete and not late
        return late

    def asked(self, setting: Setting, *, bank: bool) -> tuple[Scores, ...]:
        """Ask a setting on every division; k follows the number of anchors that are left."""
        return tuple(
            answers(setting.name(questions.fitted.count), questions, self.task, bank) for questions in self.divisions
        )

    def candidate(self, setting: Setting) -> Candidate:
        """Take a setting up again, with its bank."""
        return Candidate(((setting, 1.0),), self.asked(setting, bank=True))

    def correct(self, candidate: Candidate) -> Hubness:
        """Try every correction; return the best."""
        correctors = [Corrector(scores) for scores in candidate.scores]
        return max(CORRECTIONS, key=lambda hubness: self.tried(candidate, hubness, correctors).score)

    def taller(self, best: Candidate, hubness: Hubness, kept: Sequence[Candidate]) -> Candidate | None:
        """Add the setting of another aligner that does best with it; None where that is worse beyond doubt.

        Held-out anchors cannot tell what other images are like. Where a sum of unlike aligners is within a standard
        error of the best, it is the safer choice: they do not fail on the same images.
        """
        families = {setting.family for setting, _ in best.members}
        grown = [
            self.grown(best, other, weight, hubness)
            for other, weight in product(kept, WEIGHTS)
            if other.members[0][0].family not in families
        ]
        if not grown:
            return None
        taller = max(grown, key=lambda candidate: self.trials[candidate.name(self.count), hubness].score)
        before, after = (self.worth[candidate.name(self.count), hubness] for candidate in (best, taller))
        lost = before - after
        return taller if lost.mean() <= lost.std() / np.sqrt(len(lost)) else None

    def grown(self, best: Candidate, other: Candidate, weight: float, hubness: Hubness) -> Candidate:
        """Add a setting with a weight, and judge the sum."""
        scores = tuple(mine.plus(theirs, weight) for mine, theirs in zip(best.scores, other.scores, strict=True))
        grown = Candidate((*best.members, (other.members[0][0], weight)), scores)
        self.tried(grown, hubness, [Corrector(each) for each in scores])
        return grown

    def tried(self, candidate: Candidate, hubness: Hubness, correctors: Sequence[Corrector]) -> Trial:
        """Judge a candidate with a correction on all divisions, and remember it."""
        worth = np.concatenate(
            [
                judged(corrector, hubness, questions.right, self.task)
                for corrector, questions in zip(correctors, self.divisions, strict=True)
            ]
        )
        name = candidate.name(self.count)
        trial = Trial(name, hubness, float(worth.mean()), float(worth.std() / np.sqrt(len(worth))))
        self.trials[name, hubness] = trial
        self.worth[name, hubness] = worth
        return trial
