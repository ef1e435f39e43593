"""The result of an audit: findings, how often anchors are used, where they come from, and how it was computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.anchorset import AnchorSet
from asif.evaluate.audit.by_source import OriginCounts
from asif.evaluate.audit.findings import AuditFinding
from asif.evaluate.audit.usage import AnchorUsage
from asif.modality import find_modality
from asif.pairs import PairRecord
from asif.vectors import SIDES, Side
from asif.version import VERSION

FINDING_KINDS = (
    "disagreement",
    "same_pair",
    "same_image",
    "same_embedding",
    "near_image",
    "hub",
    "never_used",
    "shared_caption",
)
"""The checks of an audit, the most harmful finding first."""


@dataclass(frozen=True)
class AuditMethod:
    """Hold how an audit was computed: its options, the sample, and what representations use.

    `queries` anchors were compared with all others, a sample of them if `sampled`. A representation uses the `k`
    nearest anchors, about the mean of each side if `centre`; `k_from` is "profile" or "default". `probe` describes the
    queries by which use is counted; None if these are the anchors.
    """

    near: float
    seed: int
    queries: int
    sampled: bool
    listed: int
    k: int
    aligner: str
    k_from: str
    centre: bool
    probe: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return the method as a JSON object."""
        return {
            "near": self.near,
            "seed": self.seed,
            "asked": self.queries,
            "sampled": self.sampled,
            "listed": self.listed,
            "k": self.k,
            "aligner": self.aligner,
            "k_from": self.k_from,
            "centre": self.centre,
            "probe": None if self.probe is None else dict(self.probe),
        }


@dataclass(frozen=True)
class AuditResult:
    """Hold the result of an audit.

    `findings` are in the order of FINDING_KINDS; `records` has the anchors that their entries name, by row. `usage` is
    by side: both sides, or those of the probe. `command` is the command line, if there was one.
    """

    anchors: AnchorSet
    created: str
    method: AuditMethod
    findings: tuple[AuditFinding, ...]
    records: Mapping[int, PairRecord]
    usage: Mapping[Side, AnchorUsage]
    sources: OriginCounts
    licences: OriginCounts
    command: str | None = None

    @property
    def modality(self) -> str:
        """Return what the first half of the pairs is: image, audio, …."""
        return find_modality(self.anchors, "image")

    def removable_ids(self, finding: AuditFinding) -> list[str]:
        """Return the ids of a finding's removable anchors, in order of importance."""
        rows, positions = np.unique(finding.removable, return_inverse=True)
        ids = [record.id for record in self.anchors.records(rows)]
        return [ids[position] for position in positions]

    def to_json(self) -> dict[str, Any]:
        """Return the object of audit.json; each finding lists its first entries one by one."""
        anchors = self.anchors
        return {
            "anchors": {
                "name": anchors.name,
                "version": anchors.version,
                "digest": anchors.digest,
                "count": anchors.count,
                "encoders": {side: anchors.encoder_spec(side) for side in SIDES},
            },
            "created": self.created,
            "asif": VERSION,
            "how": self.method.to_json(),
            "findings": [finding.to_json(anchors.count, self.records) for finding in self.findings],
            "usage": {side: usage.to_json() for side, usage in self.usage.items()},
            "sources": self.sources.to_json(),
            "licences": self.licences.to_json(),
            **({} if self.command is None else {"command": self.command}),
        }
