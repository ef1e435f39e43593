"""An evaluation's result, as CLIP_benchmark writes it, with what is needed to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from asif.evaluate.label_sample import RowSample
from asif.evaluate.provenance import DataUsed, EngineUsed, PromptsUsed, read_library_versions

Benchmark = Literal["zeroshot_classification", "zeroshot_retrieval"]
Metrics = Mapping[str, float | None]
"""Figures by name: shares of 1, or ranks; None if one is not defined."""


@dataclass(frozen=True)
class BenchmarkRecord:
    """Hold one result with exactly CLIP_benchmark's six keys, in its order."""

    dataset: str
    model: str
    pretrained: str
    task: Benchmark
    metrics: Metrics
    language: str = "en"


@dataclass(frozen=True)
class Evaluation:
    """Hold one evaluation: the figures, the counts of rows and images, how prompts were made, seconds by step.

    `metrics` are CLIP_benchmark's own, `further` are ours. `shared` are the figures of a retrieval in which a caption
    that several images share is relevant for each of them; None for a classification. `sample` tells which rows were
    evaluated, None if all were.
    """

    task: Benchmark
    dataset: str
    metrics: Metrics
    further: Metrics
    shared: Metrics | None
    counts: Mapping[str, int]
    prompts: PromptsUsed | None
    engine: EngineUsed
    data: DataUsed
    seconds: Mapping[str, float]
    sample: RowSample | None = None

    @property
    def record(self) -> BenchmarkRecord:
        """Return what CLIP_benchmark would write."""
        model, pretrained = self.engine.origin.model, self.engine.pretrained
        return BenchmarkRecord(self.dataset, model, pretrained, self.task, self.metrics)

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """Return the JSON object: CLIP_benchmark's six keys first, in its order, then their provenance."""
        shared = {} if self.shared is None else {"shared_captions_right": self.shared}
        return {
            **asdict(self.record),
            "language": language,
            "further_metrics": {**self.further, **shared},
            "counts": self.counts,
            **({} if self.sample is None else {"sample": asdict(self.sample)}),
            **self.engine.to_json(),
            **({} if self.prompts is None else self.prompts.to_json()),
            "data": asdict(self.data),
            "seed": None,
            "versions": read_library_versions(),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "timings_s": {step: round(seconds, 3) for step, seconds in self.seconds.items()},
        }
