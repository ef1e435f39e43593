"""The plan of a comparison: which methods, on how many pairs, with which seeds and budget."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from asif.building.recipe import Recipe
from asif.evaluate.evaluation import Benchmark
from asif.tuning import Task

BENCHMARKS: dict[Task, Benchmark] = {"search": "zeroshot_retrieval", "classify": "zeroshot_classification"}


@dataclass(frozen=True)
class ComparisonPlan:
    """Hold what is compared: methods, numbers of pairs, seeds, and the seconds that each method may be tuned.

    A `recipe` fixes the setting of its method, and brings published figures.
    """

    methods: tuple[str, ...]
    counts: tuple[int, ...]
    seeds: tuple[int, ...]
    seconds: float
    recipe: Recipe | None = None

    def fixed_setting(self, method: str) -> str | None:
        """Return the setting that the recipe fixes for a method."""
        aligner = self.recipe.aligner if self.recipe else None
        return aligner if aligner and aligner.partition("(")[0] == method else None

    def steps(self) -> list[tuple[int, int, str]]:
        """List pairs, seed and method of the runs; few pairs first, so that some results come early."""
        return list(product(self.counts, self.seeds, self.methods))
