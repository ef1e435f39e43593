"""Fusion: several aligners' scores, standardised and weighed, added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asif.aligners.protocol import Aligner, Anchors, Arrays, Fitted, TemplateMode
from asif.aligners.sampling import strangers
from asif.errors import UsageError
from asif.kernels import Engine, similarity
from asif.vectors import SIDES, Embeddings, FusedRows, Parts, Side, scaled

SAMPLED = 512  # anchors of either side that tell how far scores spread


@dataclass(frozen=True)
class Member:
    """One aligner of a fusion, and how much its standardised scores count."""

    aligner: Aligner
    weight: float


@dataclass(frozen=True)
class Fused:
    """Add up the scores of several aligners, each divided by its spread and multiplied by its weight.

    The spread is the standard deviation of an aligner's scores between images and texts of different anchors, at most
    512 of either, so a score does not depend on what else is asked. With s_j an aligner's score, σ_j its spread and
    w_j its weight, the fused score is Σ (w_j/σ_j) s_j / Σ (w_j/σ_j): a mean of cosines, and the inner product of rows
    that stand side by side. Raises UsageError for fewer than two members, for a weight that is not above zero, and for
    members whose image rows are not of unit length.
    """

    members: tuple[Member, ...]
    name: str = "fused"

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise UsageError(f"a fusion of {len(self.members)} aligners", "at least two", "add one: cca+0.5*asif")
        for member in self.members:
            if not 0 < member.weight < np.inf:
                raise UsageError(
                    f"the weight {member.weight:g}", "a number above zero", "write for example cca+0.5*asif"
                )
            if isinstance(member.aligner, Fused):
                raise UsageError("a fusion within a fusion", "plain aligners", "add their members up instead")
            if member.aligner.template_mode != "mean":
                raise UsageError(
                    f"{member.aligner.name} in a fusion, whose scores cannot be compared between images",
                    "aligners that bring both sides to unit length",
                    "use asif instead",
                )

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "members": [
                {"aligner": member.aligner.name, "weight": member.weight, "parameters": member.aligner.parameters}
                for member in self.members
            ]
        }

    @property
    def template_mode(self) -> TemplateMode:
        """Average the prompts."""
        return "mean"

    def fit(self, anchors: Anchors) -> FittedFused:
        """Bind every member to the anchor set."""
        return FittedFused(self, anchors, tuple(member.aligner.fit(anchors) for member in self.members))

    def restore(self, anchors: Anchors, arrays: Arrays) -> FittedFused:
        """Bind every member to the anchor set as it was fitted before."""
        fitted = []
        for at, member in enumerate(self.members):
            own = {name.partition(".")[2]: values for name, values in arrays.items() if name.startswith(f"{at}.")}
            fitted.append(member.aligner.restore(anchors, own))
        return FittedFused(self, anchors, tuple(fitted), tuple(arrays["shares"].tolist()))


@dataclass(frozen=True)
class FittedFused:
    """A fusion over one anchor set."""

    aligner: Fused
    anchors: Anchors
    fitted: tuple[Fitted, ...]
    known: tuple[float, ...] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        members = zip(self.aligner.parameters["members"], self.fitted, strict=True)
        return {"members": [{**member, "parameters": fitted.parameters} for member, fitted in members]}

    @cached_property
    def shares(self) -> list[float]:
        """What each member's score counts for; together 1. A member whose scores never differ counts for nothing."""
        if self.known is not None:
            return list(self.known)
        spreads = [spread(fitted, self.anchors) for fitted in self.fitted]
        return shares([member.weight for member in self.aligner.members], spreads)

    def arrays(self) -> Arrays:
        """Return the members' arrays, numbered, and the shares."""
        found = {
            f"{at}.{name}": each for at, fitted in enumerate(self.fitted) for name, each in fitted.arrays().items()
        }
        return {**found, "shares": np.array(self.shares)}

    def represent(self, side: Side, embeddings: Embeddings, engine: Engine = "auto") -> FusedRows:
        """Represent embeddings [n, d] by every member, each part as long as the root of its share."""
        parts = []
        for fitted, share in zip(self.fitted, self.shares, strict=True):
            rows = fitted.represent(side, embeddings, engine)
            assert not isinstance(rows, FusedRows)  # members are plain aligners
            parts.append(scaled(rows, float(np.sqrt(share))))
        return FusedRows(tuple(parts))

    def parts(self, image: FusedRows, text: FusedRows) -> Parts:
        """Take a score apart: what an anchor adds to the members' scores, added up."""
        each = [fitted.parts(x, y) for fitted, x, y in zip(self.fitted, image.parts, text.parts, strict=True)]
        anchors, where = np.unique(np.concatenate([parts.anchors for parts in each]), return_inverse=True)
        values = np.zeros(len(anchors))
        np.add.at(values, where, np.concatenate([parts.values for parts in each]))
        return Parts(anchors, values)


def shares(weights: Sequence[float], spreads: Sequence[float]) -> list[float]:
    """Return w_j/σ_j over their sum; a member without spread gets 0, and if none has any all count the same.

    >>> shares([1.0, 0.5], [0.1, 0.2])
    [0.8, 0.2]
    """
    counts = [weight / spread if spread > 0 else 0.0 for weight, spread in zip(weights, spreads, strict=True)]
    total = sum(counts)
    return [count / total for count in counts] if total else [1 / len(counts)] * len(counts)


def spread(fitted: Fitted, anchors: Anchors, engine: Engine = "auto") -> float:
    """Return the standard deviation of an aligner's scores between images and texts of different anchors."""
    images, texts = (strangers(fitted, anchors, side, SAMPLED, engine) for side in SIDES)
    every = similarity(images, texts, engine=engine).astype(np.float64)
    different = every[~np.eye(len(every), dtype=bool)]
    return float(different.std()) if len(different) else 0.0
