"""Recipes of anchor sets: declarative files, of a classifier's head or of pairs that the user brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from asif.building.pair_records import Captions
from asif.vectors import Side

METHODS = ("random", "kmeans", "kdpp", "concepts")
"""How anchors are chosen among pairs."""
MARKS = ("paper", "code", "2nd")
"""Where a figure was read: the publication, the authors' code, another's account. One only recalled has no mark."""


@dataclass(frozen=True)
class Expected:
    """A published figure: what is measured, as `asif eval` calls it and in the same units, and where it was read."""

    dataset: str
    metric: str
    value: float
    source: str
    mark: str

    def __str__(self) -> str:
        return f"{self.dataset} {self.metric} {self.value:g} [{self.mark}: {self.source}]"


@dataclass(frozen=True)
class Selection:
    """How anchors are chosen among the pairs: a method of METHODS, how many, and which `concepts` are balanced."""

    method: str
    size: int
    concepts: str | None = None

    def __str__(self) -> str:
        return f"{self.size:,} by {self.method}" + (f" over {self.concepts}" if self.concepts else "")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What recipes of both kinds say; `sha256` is that of the file, None where there is none."""

    kind: ClassVar[Literal["head", "pairs"]]
    name: str
    about: str
    encoders: Mapping[Side, str]
    licence: str = ""
    status: str = "built on first use"
    aligner: str | None = None
    expected: tuple[Expected, ...] = ()
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class HeadRecipe(Recipe):
    """Say how an anchor set is made from the head of the image encoder: `captions` are templates for its classes."""

    kind = "head"
    captions: tuple[str, ...]
    profiles: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PairsRecipe(Recipe):
    """Say how pairs that the user brings become an anchor set, and what it is for.

    `origin` says where pairs come from, `columns` {role: column} how their columns are called, `captions` which are
    used, `limit` how many rows. `selection` and `aligner` are what comes after the build: they are told, not done.
    `assumed` says what the publication leaves open and was filled in here.
    """

    kind = "pairs"
    origin: str
    columns: Mapping[str, str]
    captions: Captions
    limit: int | None = None
    selection: Selection | None = None
    assumed: str | None = None

    def describe(self) -> str:
        """Say in lines what follows from the recipe, and what is left to do after a build."""
        lines = {
            "assumed": self.assumed,
            "left to do: selection": self.selection,
            "left to do: aligner": self.aligner,
        }
        told = [f"  {what}: {value}" for what, value in lines.items() if value is not None]
        return "\n".join([f"recipe {self.name}: {self.status}", *told])
