"""Anchors as they are served: with an aligner for each task, the last questions, and the last views of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np

from asif.aligners import FittedAligner
from asif.aligners.hubness import build_query_bank
from asif.anchorset import AnchorSet, OpenAnchors, PairFilter, View
from asif.classify import Labels
from asif.compare import Candidates
from asif.engine.aligner_choice import Choice
from asif.engine.cached_fit import fit
from asif.engine.recent import Recent
from asif.kernels import KernelName as Kernel
from asif.kernels.api import resolve_kernel
from asif.tuning import Task
from asif.vectors import SIDES, Embeddings, Rows, Side

KEPT_LABELS = 8
KEPT_VIEWS = 4


@dataclass(frozen=True)
class Role:
    """An aligner for one task, fitted to the served anchors when first needed; the banks of its hubness correction."""

    choice: Choice
    anchors: OpenAnchors
    kernel: Kernel = "auto"
    banks: dict[Side, Rows] = field(default_factory=dict)

    @cached_property
    def fitted(self) -> FittedAligner:
        return fit(self.choice.aligner, self.anchors, self.kernel)

    @property
    def asked(self) -> bool:
        """Tell whether anybody has needed it."""
        return "fitted" in self.__dict__

    def bank(self, side: Side) -> Rows:
        """Return what candidates for queries of one side are held against."""
        if side not in self.banks:
            self.banks[side] = build_query_bank(self.fitted, self.anchors, side, self.kernel)
        return self.banks[side]

    def warm(self) -> None:
        """Do what a first question would wait for: fit, and bring all anchors to the device where they are searched.

        On the CPU they are searched where they are mapped: a search in advance would take as long as the first one.
        """
        fitted = self.fitted
        if resolve_kernel(self.kernel) == "cuda":
            for side in SIDES:
                own = Embeddings(np.asarray(self.anchors.blocks(side)[0][:1], np.float32))
                fitted.represent(side, own, self.kernel)


@dataclass(frozen=True)
class Serving:
    """Anchors as they are served; a call keeps those it began with to its end.

    `exactly` are the versions that they are of, as references that cannot move. Views of them, and other sets that
    calls named, are kept here: they go when the served anchors do.
    """

    anchors: OpenAnchors
    exactly: tuple[str, ...]
    mask: PairFilter
    roles: Mapping[Task, Role]
    labels: Recent[Labels, Candidates] = field(default_factory=lambda: Recent(KEPT_LABELS))
    views: Recent[tuple[str | None, PairFilter], Serving] = field(default_factory=lambda: Recent(KEPT_VIEWS))
    opening: Lock = field(default_factory=Lock)

    @property
    def members(self) -> tuple[AnchorSet, ...]:
        """Return the sets that the anchors are of."""
        if isinstance(self.anchors, View):
            return self.anchors.members
        assert isinstance(self.anchors, AnchorSet)
        return (self.anchors,)

    def uses(self, side: Side, spec: str) -> bool:
        """Tell whether these anchors, or those of a call that is remembered, were made by this encoder."""
        return any(each.anchors.encoder_spec(side) == spec for each in (self, *self.views.values()))
