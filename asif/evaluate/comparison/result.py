"""The result of a comparison, read from and written to results.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from asif.evaluate.comparison.method_run import MethodRun
from asif.evaluate.comparison.wins import Wins
from asif.evaluate.evaluation import Benchmark, BenchmarkRecord
from asif.evaluate.label_sample import RowSample
from asif.evaluate.provenance import AnchorOrigin, DataUsed
from asif.evaluate.titles import shorten_names

MethodKind = Literal["training-free", "published", "trained"]


@dataclass(frozen=True)
class DatasetDescription:
    """Hold what was counted in a data set, the templates of its prompts, and what identifies it.

    `sample` tells which of its rows were evaluated, None if all were.
    """

    counts: Mapping[str, int]
    templates: tuple[str, ...]
    data: DataUsed
    sample: RowSample | None = None


@dataclass(frozen=True)
class ComparedDataset:
    """Name a data set of a comparison, its benchmark, and the figure by which methods are ranked on it."""

    name: str
    task: Benchmark
    primary: str
    description: DatasetDescription

    @property
    def among_anchors(self) -> int:
        """Return how many of its images are anchors, too."""
        return self.description.counts.get("images_among_anchors", 0)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; the fields of the description are among its keys."""
        own = {"name": self.name, "task": self.task, "primary": self.primary}
        described = asdict(self.description)
        return own | {name: value for name, value in described.items() if name != "sample" or value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ComparedDataset:
        """Read the JSON object."""
        sample = RowSample(**value["sample"]) if value.get("sample") else None
        data = DataUsed(**value["data"])
        description = DatasetDescription(value["counts"], tuple(value["templates"]), data, sample)
        return cls(value["name"], value["task"], value["primary"], description)


@dataclass(frozen=True)
class ComparedMethod:
    """Name a method of a comparison, whether it is trained, and what it does."""

    name: str
    kind: MethodKind
    about: str


@dataclass(frozen=True)
class ExpectedFigure:
    """Hold a published figure, what it measures, and its source."""

    what: str
    figure: float | str
    source: str


@dataclass(frozen=True)
class Machine:
    """Name what a comparison ran on."""

    cpu: str
    cores: int | None
    device: str


@dataclass(frozen=True)
class TuningBudget:
    """Hold the seconds that each method may be tuned, and the rule in words."""

    tuning_seconds: float
    what: str


@dataclass(frozen=True)
class Comparison:
    """Hold a comparison: how it was done, every run, the wins of either camp, published figures.

    `command` is the command line that made it, None if it was not made by one.
    """

    created: str
    asif: str
    versions: Mapping[str, str]
    machine: Machine
    origin: AnchorOrigin
    budget: TuningBudget
    seeds: tuple[int, ...]
    counts: tuple[int, ...]
    datasets: tuple[ComparedDataset, ...]
    methods: tuple[ComparedMethod, ...]
    runs: tuple[MethodRun, ...]
    wins: tuple[Wins, ...]
    expected: tuple[ExpectedFigure, ...] | None
    clip_benchmark: tuple[BenchmarkRecord, ...]
    command: str | None = None

    def runs_of(self, method: str, pairs: int) -> list[MethodRun]:
        """Return a method's runs from one number of pairs, one for each seed and task."""
        return [run for run in self.runs if (run.method, run.pairs) == (method, pairs)]

    def title_of(self, dataset: ComparedDataset) -> str:
        """Return the short title of one of the data sets, for headings."""
        return shorten_names([each.name for each in self.datasets])[dataset.name]

    def to_json(self) -> dict[str, Any]:
        """Return the object of results.json, format 1."""
        return {
            "format": 1,
            "created": self.created,
            "asif": self.asif,
            "versions": self.versions,
            "machine": asdict(self.machine),
            **self.origin.to_json(),
            "budget": asdict(self.budget),
            "seeds": list(self.seeds),
            "counts": list(self.counts),
            "datasets": [dataset.to_json() for dataset in self.datasets],
            "methods": [asdict(method) for method in self.methods],
            "runs": [run.to_json() for run in self.runs],
            "wins": [asdict(win) for win in self.wins],
            "expected": None if self.expected is None else [asdict(figure) for figure in self.expected],
            "clip_benchmark": [asdict(record) for record in self.clip_benchmark],
            **({} if self.command is None else {"command": self.command}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Comparison:
        """Read the object of results.json."""
        expected = value["expected"]
        return cls(
            created=value["created"],
            asif=value["asif"],
            versions=value["versions"],
            machine=Machine(**value["machine"]),
            origin=AnchorOrigin.from_json(value),
            budget=TuningBudget(**value["budget"]),
            seeds=tuple(value["seeds"]),
            counts=tuple(value["counts"]),
            datasets=tuple(map(ComparedDataset.from_json, value["datasets"])),
            methods=tuple(ComparedMethod(**each) for each in value["methods"]),
            runs=tuple(map(MethodRun.from_json, value["runs"])),
            wins=tuple(map(Wins.from_json, value["wins"])),
            expected=None if expected is None else tuple(ExpectedFigure(**each) for each in expected),
            clip_benchmark=tuple(BenchmarkRecord(**each) for each in value["clip_benchmark"]),
            command=value.get("command"),
        )
