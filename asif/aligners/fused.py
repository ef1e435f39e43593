"""Fusion: a weighted sum of the standardised scores of several aligners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asif.aligners.linear import Linear
from asif.aligners.neighbours import Neighbours
from asif.aligners.protocol import Aligner, Anchors, FittedAligner, TemplateMode, uses_texts
from asif.aligners.relative import FittedRelative
from asif.aligners.sampling import compute_spread
from asif.errors import UsageError
from asif.kernels import KernelName
from asif.vectors import AnchorContributions, Embeddings, FitArrays, FusedRows, Rows, Side, scale_rows


@dataclass(frozen=True)
class FusedMember:
    """Hold one aligner of a fusion and the weight of its standardised scores."""

    aligner: Aligner
    weight: float


@dataclass(frozen=True)
class Fused:
    """Add up the scores of several aligners, each divided by its spread and multiplied by its weight.

    The spread is the standard deviation of an aligner's scores between images and texts of different anchors, at most
    512 of each side, so a score does not depend on the other queries. With s_j an aligner's score, σ_j its spread and
    w_j its weight, the fused score is Σ (w_j/σ_j) s_j / Σ (w_j/σ_j): a weighted mean of cosines, and the inner product
    of the members' concatenated rows. Raises UsageError for fewer than two members, for a weight that is not above
    zero, and for members whose image rows are not of unit length.
    """

    members: tuple[FusedMember, ...]
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

    def restore(self, anchors: Anchors, arrays: FitArrays) -> FittedFused:
        """Restore every member from the arrays of an earlier fit."""
        fitted = []
        for index, member in enumerate(self.members):
            member_arrays = {
                name.partition(".")[2]: values for name, values in arrays.items() if name.startswith(f"{index}.")
            }
            fitted.append(member.aligner.restore(anchors, member_arrays))
        return FittedFused(self, anchors, tuple(fitted), tuple(arrays["shares"].tolist()))


@dataclass(frozen=True)
class FittedFused:
    """A fusion fitted to one anchor set; `restored` are the shares of an earlier fit."""

    aligner: Fused
    anchors: Anchors
    fitted: tuple[FittedAligner, ...]
    restored: tuple[float, ...] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        members = zip(self.aligner.parameters["members"], self.fitted, strict=True)
        return {"members": [{**member, "parameters": fitted.parameters} for member, fitted in members]}

    @property
    def uses_texts(self) -> bool:
        """Tell whether a member compares words."""
        return any(map(uses_texts, self.fitted))

    @cached_property
    def shares(self) -> list[float]:
        """The members' shares of the fused score, with sum 1; a member whose scores never vary gets 0."""
        if self.restored is not None:
            return list(self.restored)
        spreads = [compute_spread(fitted, self.anchors) for fitted in self.fitted]
        return _compute_shares([member.weight for member in self.aligner.members], spreads)

    def arrays(self) -> FitArrays:
        """Return the members' arrays, prefixed with their index, and the shares."""
        numbered = {
            f"{index}.{name}": values
            for index, fitted in enumerate(self.fitted)
            for name, values in fitted.arrays().items()
        }
        return {**numbered, "shares": np.array(self.shares)}

    def represent(self, side: Side, embeddings: Embeddings, engine: KernelName = "auto") -> FusedRows:
        """Represent embeddings [n, d] by every member, its rows multiplied by the square root of its share."""
        return self._fuse([fitted.represent(side, embeddings, engine) for fitted in self.fitted])

    def represent_neighbours(
        self, side: Side, embeddings: Embeddings, near: Neighbours, engine: KernelName = "auto"
    ) -> FusedRows:
        """Represent embeddings [n, d], whose neighbours for `find_relative` are known, as `represent` does."""
        relative = find_relative(self)
        return self._fuse(
            [
                relative.represent_neighbours(side, embeddings, near, engine)
                if relative is not None and fitted is relative
                else fitted.represent(side, embeddings, engine)
                for fitted in self.fitted
            ]
        )

    def _fuse(self, members: Sequence[Rows]) -> FusedRows:
        parts = []
        for rows, share in zip(members, self.shares, strict=True):
            assert not isinstance(rows, FusedRows)  # members are plain aligners
            parts.append(scale_rows(rows, float(np.sqrt(share))))
        return FusedRows(tuple(parts))

    def split_score(self, image: FusedRows, text: FusedRows) -> AnchorContributions:
        """Split a score into anchor contributions: the sums of those to the members' scores."""
        return AnchorContributions.add(
            [fitted.split_score(x, y) for fitted, x, y in zip(self.fitted, image.parts, text.parts, strict=True)]
        )


def find_relative(fitted: FittedAligner) -> FittedRelative | None:
    """Return the relative aligner, or the only relative member of a fusion, whose neighbours can be kept; else None."""
    members = fitted.fitted if isinstance(fitted, FittedFused) else (fitted,)
    relatives = [each for each in members if isinstance(each, FittedRelative)]
    return relatives[0] if len(relatives) == 1 and relatives[0].has_neighbours else None


def _compute_shares(weights: Sequence[float], spreads: Sequence[float]) -> list[float]:
    """Return w_j/σ_j over their sum: 0 for a member without spread, equal shares if no member has any.

    >>> _compute_shares([1.0, 0.5], [0.1, 0.2])
    [0.8, 0.2]
    """
    scaled = [weight / spread if spread > 0 else 0.0 for weight, spread in zip(weights, spreads, strict=True)]
    total = sum(scaled)
    return [each / total for each in scaled] if total else [1 / len(scaled)] * len(scaled)


def is_linear(aligner: Aligner) -> bool:
    """Tell whether an aligner, or a member of a fusion, is a closed-form linear map, solved from second moments."""
    if isinstance(aligner, Fused):
        return any(is_linear(member.aligner) for member in aligner.members)
    return isinstance(aligner, Linear)
