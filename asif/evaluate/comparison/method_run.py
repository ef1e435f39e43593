"""One run of a comparison: a method on one sample of pairs, with its costs and its figures by data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from asif.evaluate.evaluation import Benchmark, Metrics
from asif.vectors import Int64


@dataclass(frozen=True)
class TuningSpent:
    """Hold how many settings of a method were tried, in how many seconds, and whether these were all.

    `questions` is the number of held-out queries that chose among them, None if it is not known; `over_seconds` those
    that were spent beyond what was allowed.
    """

    trials: int
    seconds: float
    complete: bool
    questions: int | None = None
    over_seconds: float = 0.0


@dataclass(frozen=True)
class TrainingSteps:
    """Hold the steps that the final network was trained for, those of its schedule, and of the whole schedule.

    The schedule is shorter than the whole one where the seconds for tuning did not allow for it.
    """

    taken: int
    schedule: int
    whole_schedule: int


@dataclass(frozen=True)
class DeletionCost:
    """Hold how long it takes until one pair has no influence any more, and what is done for it."""

    seconds: float
    how: str


@dataclass(frozen=True)
class DatasetResult:
    """Hold a fitted method's figures on one data set with one hubness correction, `none` for without.

    `ranks` [queries] are those of `QueryScores`; stored in the journal of runs, not in results.json.
    """

    dataset: str
    hubness: str
    metrics: Metrics
    ranks: Int64 | None = None

    @property
    def corrected(self) -> bool:
        return self.hubness != "none"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, with ranks if there are any."""
        ranks = {} if self.ranks is None else {"ranks": self.ranks.tolist()}
        return {"dataset": self.dataset, "hubness": self.hubness, "metrics": self.metrics, **ranks}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DatasetResult:
        """Read the JSON object."""
        ranks = np.array(value["ranks"], np.int64) if "ranks" in value else None
        return cls(value["dataset"], value["hubness"], value["metrics"], ranks)


@dataclass(frozen=True)
class MethodRun:
    """Hold one method, tuned and fitted on one sample of pairs: its setting, its costs, and its figures by data set.

    `training` is None for what is not trained; `reads_words` tells whether it reads the words of captions.
    """

    method: str
    pairs: int
    seed: int
    task: Benchmark
    setting: str
    parameters: Mapping[str, Any]
    tuning: TuningSpent | None
    fit_seconds: float | None
    peak_mib: float | None
    trained_parameters: int | None
    deletion: DeletionCost | None
    results: tuple[DatasetResult, ...]
    training: TrainingSteps | None = None
    reads_words: bool = False

    def result_on(self, dataset: str, corrected: bool = True) -> DatasetResult | None:
        """Return the result on a data set: the corrected one, if there is one.

        With `corrected` false the one without correction, or None.
        """
        found = {result.corrected: result for result in self.results if result.dataset == dataset}
        return found.get(True, found.get(False)) if corrected else found.get(False)

    def without_ranks(self) -> MethodRun:
        """Return the run as results.json has it."""
        return replace(self, results=tuple(replace(result, ranks=None) for result in self.results))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {**asdict(replace(self, results=())), "results": [result.to_json() for result in self.results]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MethodRun:
        """Read the JSON object."""
        parts = {
            "tuning": None if value["tuning"] is None else TuningSpent(**value["tuning"]),
            "deletion": None if value["deletion"] is None else DeletionCost(**value["deletion"]),
            "results": tuple(map(DatasetResult.from_json, value["results"])),
            "training": TrainingSteps(**value["training"]) if value.get("training") else None,
        }
        return cls(**{**value, **parts})
