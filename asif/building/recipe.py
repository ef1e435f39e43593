"""Recipes of anchor sets: declarative files, of a classifier's head or of pairs that the user brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from asif.building.pair_records import CaptionMode
from asif.vectors import Side

SELECTION_METHODS = ("random", "kmeans", "kdpp", "concepts", "concept-lists")
"""The methods that select anchors among pairs."""
SOURCE_MARKS = ("paper", "code", "2nd")
"""Where a figure was read: in the paper, the authors' code, or a secondary source."""


@dataclass(frozen=True)
class PublishedFigure:
    """Hold a published figure: dataset and metric as `asif eval` names them, in its units, and where it was read."""

    dataset: str
    metric: str
    value: float
    source: str
    mark: str

    def __str__(self) -> str:
        return f"{self.dataset} {self.metric} {self.value:g} [{self.mark}: {self.source}]"


@dataclass(frozen=True)
class RecipeSelection:
    """Hold how anchors are selected: a method of SELECTION_METHODS, the number, and the `concepts` to balance."""

    method: str
    size: int
    concepts: str | None = None

    def __str__(self) -> str:
        return f"{self.size:,} by {self.method}" + (f" over {self.concepts}" if self.concepts else "")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hold the fields of both kinds of recipe; `sha256` is that of its file, if there is one."""

    kind: ClassVar[Literal["head", "pairs"]]
    name: str
    about: str
    encoders: Mapping[Side, str]
    licence: str = ""
    status: str = "built on first use"
    aligner: str | None = None
    expected: tuple[PublishedFigure, ...] = ()
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class HeadRecipe(Recipe):
    """Describe an anchor set made from the image encoder's head; `captions` are templates for its classes."""

    kind = "head"
    captions: tuple[str, ...]
    profiles: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PairsRecipe(Recipe):
    """Describe an anchor set made from pairs that the user provides.

    `origin` says where to get the pairs; `columns` {role: column}, `captions` and `limit` (rows) are build options.
    `selection` and `aligner` are steps after the build: they are printed, not run. `assumed` lists the choices that the
    publication leaves open.
    """

    kind = "pairs"
    origin: str
    columns: Mapping[str, str]
    captions: CaptionMode
    limit: int | None = None
    selection: RecipeSelection | None = None
    assumed: str | None = None

    def describe(self) -> str:
        """Return lines for the terminal: the status, the assumptions, and the steps after a build."""
        lines = {
            "assumed": self.assumed,
            "left to do: selection": self.selection,
            "left to do: aligner": self.aligner,
        }
        steps = [f"  {what}: {value}" for what, value in lines.items() if value is not None]
        return "\n".join([f"recipe {self.name}: {self.status}", *steps])
