"""Audit an anchor set: copies, near copies, pairs that disagree, anchors that nothing uses or everything does.

>>> from asif.engine import Engine
>>> found = audit(Engine("coco"))  # doctest: +SKIP
>>> {each["kind"]: each["anchors"] for each in found["findings"]}  # doctest: +SKIP
{'disagreement': 150, 'same_pair': 2, ...}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

from asif.aligners.relative import Relative, usual_k
from asif.anchorset import AnchorSet
from asif.engine import Engine
from asif.errors import InputRefused, UsageError
from asif.evaluate.audit.alike import find_alike, near_image
from asif.evaluate.audit.copies import same_embedding, same_image, same_pair, shared_caption
from asif.evaluate.audit.disagreement import Pairing, breadth, disagreement
from asif.evaluate.audit.finding import LISTED, Finding, told
from asif.evaluate.audit.neighbours import Space, left_out, of_queries, relative_of
from asif.evaluate.audit.origins import by_origin
from asif.evaluate.audit.probe import Probe, probe_of
from asif.evaluate.audit.remembered import Remembered, remember, twins
from asif.evaluate.audit.usage import LeftOut, Usage, hub, never_used, usage
from asif.vectors import SIDES, Int64, Side
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

__all__ = ["KINDS", "Audited", "Probe", "Terms", "audit", "probe_of"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many rows of it are done now, and how many there are."""


@dataclass(frozen=True)
class Terms:
    """Say how to audit: from which cosine on images are near duplicates, and how many anchors are asked about.

    Of more than `sample` anchors so many, drawn with `seed`, are asked, each against all; exact copies are always
    looked for among all.
    """

    near: float = 0.9
    sample: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.near < 1:
            raise UsageError(f"--near is {self.near:g}", "a cosine above 0 and below 1", "pass one such as 0.9")


@dataclass
class Steps:
    """Tell a listener how far each step is."""

    listen: Progress

    def of(self, what: str, total: int) -> Callable[[int], None]:
        """Begin a step; call what is returned with the rows that were done since."""
        self.listen(what, 0, total)
        return lambda rows: self.listen(what, rows, total)


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


def audit(
    engine: Engine,
    probe: Probe | None = None,
    terms: Terms | None = None,
    progress: Progress = lambda what, rows, total: None,
) -> Audited:
    """Audit the anchor set that an engine serves.

    Without a probe every anchor is one for all others. Exact: whatever the batch, the blocks and the threads. Memory:
    some hundred bytes for each anchor, neighbourhoods of at most `terms.sample` anchors, and a batch of queries; never
    all anchors by all anchors. Raises InputRefused for fewer than 3 anchors.
    """
    terms, anchors, steps = terms or Terms(), engine.anchors, Steps(progress)
    if anchors.count < 3:
        raise InputRefused(f"{anchors.ref} has {anchors.count} anchors", "at least 3", "add pairs: asif anchors add")
    known = remember(anchors, steps.of("reading", anchors.count))
    equal: dict[Side, Int64] = {side: twins(anchors.blocks(side)) for side in SIDES}
    rows = chosen(anchors.count, terms)
    alike = find_alike(anchors, rows, terms.near, equal["image"], engine.kernel, steps.of("near images", len(rows)))
    relative = relative_of(engine.role("classify").choice.aligner)
    k = min((relative or Relative()).k or usual_k(anchors.count), anchors.count)
    spaces = {side: Space.of(anchors, side, relative is not None and relative.centre) for side in SIDES}
    compared = breadth(anchors.count)
    lists = {
        side: left_out(
            space,
            rows,
            max(k, compared),
            equal["image"],
            alike,
            engine.kernel,
            steps.of(f"{side} neighbours", len(rows)),
        )
        for side, space in spaces.items()
    }
    if probe is None:
        without = LeftOut(rows, equal["image"], alike)
        used = {side: usage(lists[side][:, :k], equal[side], k, without) for side in SIDES}
    else:
        used = {
            side: usage(
                of_queries(spaces[side], vectors, k, engine.kernel, steps.of(f"{side} probe", len(vectors))),
                equal[side],
                k,
            )
            for side, vectors in probe.queries.items()
        }
    pairing = Pairing(rows, {side: found[:, :compared] for side, found in lists.items()}, equal)
    findings = (
        disagreement(pairing, spaces, terms.seed),
        same_pair(known),
        same_image(known),
        same_embedding(known, equal["image"]),
        near_image(anchors, alike, equal["image"], terms.near),
        hub(used),
        never_used(used),
        shared_caption(known),
    )
    how = {
        "near": terms.near,
        "seed": terms.seed,
        "asked": len(rows),
        "sampled": len(rows) < anchors.count,
        "listed": LISTED,
        "k": k,
        "aligner": engine.role("classify").choice.aligner.name,
        "k_from": "default" if relative is None or relative.k is None else "profile",
        "centre": relative is not None and relative.centre,
        "probe": probe.about if probe else None,
    }
    return Audited(anchors, known, findings, used, how)


def chosen(count: int, terms: Terms) -> Int64:
    """Return the rows that are asked about, ascending: all, or a seeded sample."""
    if count <= terms.sample:
        return np.arange(count)
    return np.sort(np.random.default_rng(terms.seed).choice(count, terms.sample, replace=False))
