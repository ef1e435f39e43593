"""Run an audit: read the pairs, search the neighbourhoods, run each check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np

from asif.aligners.relative import Relative, compute_default_k
from asif.engine import Engine
from asif.errors import InputRefused, UsageError
from asif.evaluate.audit.by_source import count_by_origin
from asif.evaluate.audit.exact_duplicates import (
    find_same_embeddings,
    find_same_images,
    find_same_pairs,
    find_shared_captions,
)
from asif.evaluate.audit.findings import MAX_ENTRIES, AuditFinding
from asif.evaluate.audit.mismatch import find_disagreement
from asif.evaluate.audit.near_duplicates import ExcludedCopies, find_near_duplicates, find_near_pairs
from asif.evaluate.audit.neighbourhoods import SearchSpace, find_anchor_neighbours, find_query_neighbours, find_relative
from asif.evaluate.audit.overlap import PairNeighbourhoods, compute_overlap_k
from asif.evaluate.audit.pair_index import build_pair_index, number_embeddings
from asif.evaluate.audit.probe import Probe
from asif.evaluate.audit.result import AuditMethod, AuditResult
from asif.evaluate.audit.usage import AnchorUsage, count_usage
from asif.evaluate.audit.usage_findings import find_hubs, find_never_used
from asif.kernels import KernelName as Kernel
from asif.modality import find_modality, reword
from asif.vectors import SIDES, Int64, Side

AuditProgress = Callable[[str, int, int], None]
"""Called with the name of a step, the rows done since the last call (0 when it starts), and all its rows."""


@dataclass(frozen=True)
class AuditOptions:
    """Hold the options of an audit; raises UsageError unless `near` is above 0 and below 1.

    Images with a cosine of at least `near` are near duplicates. Of more than `sample` anchors a random sample, drawn
    with `seed`, is compared with all; exact duplicates are found among all in any case.
    """

    near: float = 0.9
    sample: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.near < 1:
            raise UsageError(f"--near is {self.near:g}", "a cosine above 0 and below 1", "pass one such as 0.9")


@dataclass(frozen=True)
class _Steps:
    """Report the progress of one step after another."""

    report: AuditProgress

    def start(self, name: str, total: int) -> Callable[[int], None]:
        """Start a step; call the function that is returned with the rows done since the last call."""
        self.report(name, 0, total)
        return lambda rows: self.report(name, rows, total)


def audit(
    engine: Engine,
    probe: Probe | None = None,
    options: AuditOptions | None = None,
    progress: AuditProgress = lambda step, rows, total: None,
) -> AuditResult:
    """Audit the anchor set of an engine; without a probe each anchor is a query for all others.

    Results are exact: they depend on neither batches, blocks nor threads. Memory: some hundred bytes for each anchor,
    neighbourhoods of at most `options.sample` anchors, and a batch of queries; never all anchors by all anchors.
    Raises InputRefused for fewer than 3 anchors.
    """
    options, anchors, steps = options or AuditOptions(), engine.anchor_set, _Steps(progress)
    if anchors.count < 3:
        raise InputRefused(f"{anchors.ref} has {anchors.count} anchors", "at least 3", "add pairs: asif anchors add")
    index = build_pair_index(anchors, steps.start("reading", anchors.count))
    equal: dict[Side, Int64] = {side: number_embeddings(anchors.blocks(side)) for side in SIDES}
    rows = _sample_rows(anchors.count, options)
    done = steps.start("near images", len(rows))
    near_pairs = find_near_pairs(anchors, rows, options.near, equal["image"], engine.kernel, done)
    copies = ExcludedCopies(rows, equal["image"], near_pairs)

    aligner = engine.role("classify").choice.aligner
    relative = find_relative(aligner)
    k = min((relative or Relative()).k or compute_default_k(anchors.count), anchors.count)
    centre = relative is not None and relative.centre
    spaces = {side: SearchSpace.from_anchors(anchors, side, centre) for side in SIDES}
    overlap_k = compute_overlap_k(anchors.count)
    neighbours: dict[Side, Int64] = {}
    for side, space in spaces.items():
        done = steps.start(f"{find_modality(anchors, side)} neighbours", len(rows))
        neighbours[side] = find_anchor_neighbours(space, max(k, overlap_k), copies, engine.kernel, done)
    if probe is None:
        usage = {side: count_usage(neighbours[side][:, :k], equal[side], k, copies) for side in SIDES}
    else:
        usage = _count_probe_usage(probe, spaces, equal, k, engine.kernel, steps)

    pairs = PairNeighbourhoods(rows, {side: found[:, :overlap_k] for side, found in neighbours.items()}, equal)
    findings = (
        find_disagreement(pairs, spaces, options.seed),
        find_same_pairs(index),
        find_same_images(index),
        find_same_embeddings(index, equal["image"]),
        find_near_duplicates(anchors, near_pairs, equal["image"], options.near),
        find_hubs(usage),
        find_never_used(usage),
        find_shared_captions(index),
    )
    named = sorted({row for finding in findings for entry in finding.entries for row in entry.named_rows})
    return AuditResult(
        anchors=anchors,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        method=_describe_method(options, probe, len(rows) < anchors.count, len(rows), k, aligner.name, relative),
        findings=tuple(_reword_finding(each, find_modality(anchors, "image")) for each in findings),
        records=dict(zip(named, anchors.records(named), strict=True)),
        usage=usage,
        sources=count_by_origin(index.source, index.sources, findings),
        licences=count_by_origin(index.licence, index.licences, findings),
    )


def _reword_finding(finding: AuditFinding, modality: str) -> AuditFinding:
    """Let the texts of a finding speak of what the first half of pairs is."""
    notes = tuple(reword(note, modality) for note in finding.notes)
    return replace(finding, rule=reword(finding.rule, modality), notes=notes)


def _describe_method(
    options: AuditOptions,
    probe: Probe | None,
    sampled: bool,
    queries: int,
    k: int,
    aligner: str,
    relative: Relative | None,
) -> AuditMethod:
    return AuditMethod(
        near=options.near,
        seed=options.seed,
        queries=queries,
        sampled=sampled,
        listed=MAX_ENTRIES,
        k=k,
        aligner=aligner,
        k_from="default" if relative is None or relative.k is None else "profile",
        centre=relative is not None and relative.centre,
        probe=probe.about if probe else None,
    )


def _count_probe_usage(
    probe: Probe, spaces: Mapping[Side, SearchSpace], equal: Mapping[Side, Int64], k: int, kernel: Kernel, steps: _Steps
) -> dict[Side, AnchorUsage]:
    """Count which anchors the queries of a probe use, by side."""
    usage: dict[Side, AnchorUsage] = {}
    for side, vectors in probe.queries.items():
        done = steps.start(f"{side} probe", len(vectors))
        neighbours = find_query_neighbours(spaces[side], vectors, k, kernel, done)
        usage[side] = count_usage(neighbours, equal[side], k)
    return usage


def _sample_rows(count: int, options: AuditOptions) -> Int64:
    """Return the rows that are compared with all, ascending: all rows, or a seeded sample of them."""
    if count <= options.sample:
        return np.arange(count)
    return np.sort(np.random.default_rng(options.seed).choice(count, options.sample, replace=False))
