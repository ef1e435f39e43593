"""The course of an audit: read, search, look for each fault in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from asif.aligners.relative import Relative, usual_k
from asif.engine import Engine
from asif.errors import InputRefused, UsageError
from asif.evaluate.audit.exact_duplicates import same_embedding, same_image, same_pair, shared_caption
from asif.evaluate.audit.findings import LISTED
from asif.evaluate.audit.mismatch import disagreement
from asif.evaluate.audit.near_duplicates import find_alike, near_image
from asif.evaluate.audit.neighbourhoods import Space, left_out, of_queries, relative_of
from asif.evaluate.audit.overlap import Pairing, breadth
from asif.evaluate.audit.pair_index import remember, twins
from asif.evaluate.audit.probe import Probe
from asif.evaluate.audit.result import Audited
from asif.evaluate.audit.usage import LeftOut, Usage, usage
from asif.evaluate.audit.usage_findings import hub, never_used
from asif.kernels import Engine as Kernel
from asif.vectors import SIDES, Int64, Side

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
    terms, anchors, steps = terms or Terms(), engine.anchor_set, Steps(progress)
    if anchors.count < 3:
        raise InputRefused(f"{anchors.ref} has {anchors.count} anchors", "at least 3", "add pairs: asif anchors add")
    known = remember(anchors, steps.of("reading", anchors.count))
    equal: dict[Side, Int64] = {side: twins(anchors.blocks(side)) for side in SIDES}
    rows = chosen(anchors.count, terms)
    alike = find_alike(anchors, rows, terms.near, equal["image"], engine.kernel, steps.of("near images", len(rows)))
    aligner = engine.role("classify").choice.aligner
    relative = relative_of(aligner)
    k = min((relative or Relative()).k or usual_k(anchors.count), anchors.count)
    spaces = {side: Space.of(anchors, side, relative is not None and relative.centre) for side in SIDES}
    compared = breadth(anchors.count)
    lists: dict[Side, Int64] = {}
    for side, space in spaces.items():
        done = steps.of(f"{side} neighbours", len(rows))
        lists[side] = left_out(space, rows, max(k, compared), equal["image"], alike, engine.kernel, done)
    if probe is None:
        without = LeftOut(rows, equal["image"], alike)
        used = {side: usage(lists[side][:, :k], equal[side], k, without) for side in SIDES}
    else:
        used = used_by(probe, spaces, equal, k, engine.kernel, steps)
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
        "aligner": aligner.name,
        "k_from": "default" if relative is None or relative.k is None else "profile",
        "centre": relative is not None and relative.centre,
        "probe": probe.about if probe else None,
    }
    return Audited(anchors, known, findings, used, how)


def used_by(
    probe: Probe, spaces: Mapping[Side, Space], equal: Mapping[Side, Int64], k: int, kernel: Kernel, steps: Steps
) -> dict[Side, Usage]:
    """Count which anchors the queries of a probe use, by side."""
    used: dict[Side, Usage] = {}
    for side, vectors in probe.queries.items():
        found = of_queries(spaces[side], vectors, k, kernel, steps.of(f"{side} probe", len(vectors)))
        used[side] = usage(found, equal[side], k)
    return used


def chosen(count: int, terms: Terms) -> Int64:
    """Return the rows that are asked about, ascending: all, or a seeded sample."""
    if count <= terms.sample:
        return np.arange(count)
    return np.sort(np.random.default_rng(terms.seed).choice(count, terms.sample, replace=False))
