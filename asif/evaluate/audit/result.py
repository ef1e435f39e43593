"""What an audit came to: findings, use, and where anchors come from, as JSON keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

from asif.anchorset import AnchorSet
from asif.evaluate.audit.by_source import by_origin
from asif.evaluate.audit.findings import Finding, told
from asif.evaluate.audit.pair_index import Remembered
from asif.evaluate.audit.usage import Usage
from asif.vectors import SIDES, Side
from asif.version import VERSION

KINDS = (
    "disagreement",
    "same_pair",
    "same_image",
    "same_embedding",
    "near_image",
    "hub",
    "never_used",
    "shared_caption",
)
"""What is looked for, the most harmful first."""


@dataclass(frozen=True)
class Audited:
    """Hold the findings of an audit, in the order of KINDS, how anchors are used, and how it was done."""

    anchors: AnchorSet
    known: Remembered
    findings: tuple[Finding, ...]
    used: dict[Side, Usage]
    how: dict[str, Any] = field(default_factory=dict)

    def ids(self, finding: Finding) -> list[str]:
        """Return the ids that may go, in the order of their importance."""
        rows, back = np.unique(finding.removable, return_inverse=True)
        names = [record.id for record in self.anchors.records(rows)]
        return [names[at] for at in back]

    def as_dict(self) -> dict[str, Any]:
        """Return all that was found, as JSON keeps it; of each finding at most LISTED entries one by one.

        `ids_file` and `command` are for whoever writes the ids to a file.
        """
        anchors = self.anchors
        return {
            "anchors": {
                "name": anchors.name,
                "version": anchors.version,
                "digest": anchors.digest,
                "count": anchors.count,
                "encoders": {side: anchors.encoder_spec(side) for side in SIDES},
            },
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "asif": VERSION,
            "how": self.how,
            "findings": [
                {
                    "kind": each.kind,
                    "rule": each.rule,
                    "anchors": len(each.rows),
                    "share": len(each.rows) / anchors.count,
                    "removable": len(each.removable),
                    "entries": each.total,
                    **each.figures,
                    "notes": list(each.notes),
                    "ids_file": None,
                    "command": None,
                    "listed": told(each, anchors),
                }
                for each in self.findings
            ],
            "usage": {side: each.as_dict() for side, each in self.used.items()},
            "sources": by_origin(self.known.source, self.known.sources, self.findings),
            "licences": by_origin(self.known.licence, self.known.licences, self.findings),
        }
