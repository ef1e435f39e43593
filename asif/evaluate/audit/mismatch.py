"""Pairs whose image and captions disagree: no anchor is a neighbour of both the image and the captions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asif.aligners.sampling import choose_evenly_spaced
from asif.evaluate.audit.findings import MAX_ENTRIES, AuditFinding, DisagreementFigures, FindingEntry
from asif.evaluate.audit.neighbourhoods import NO_NEIGHBOUR, SearchSpace
from asif.evaluate.audit.overlap import PairNeighbourhoods
from asif.vectors import Int64, Side

_BATCH = 64
_BASELINE_ANCHORS = 1_000  # sampled for the baseline of the likeness
_LIKENESS_NEIGHBOURS = 100  # to which the likeness is measured
_TYPICAL_PAIRS = 200  # pairs that agree, whose likeness is measured for comparison
_LISTED_NEIGHBOURS = 2  # of either side in an entry
_LOW_RANDOM_SHARE = 0.05  # of random pairs without common neighbours, below which hardly any wrong pair is found


def find_disagreement(pairs: PairNeighbourhoods, spaces: dict[Side, SearchSpace], seed: int) -> AuditFinding:
    """Find the pairs whose neighbourhoods have nothing in common, ranked by likeness, the lowest first.

    `random_share` of the figures is the share of randomly permuted pairs that have nothing in common: it estimates the
    share of wrong pairs that are found.
    """
    count, k = len(pairs.rows), pairs.neighbours["image"].shape[1]
    overlap = pairs.count_overlap(np.arange(count))
    random = pairs.count_overlap(np.random.default_rng(seed).permutation(count))
    found, agreeing = np.flatnonzero(overlap == 0), np.flatnonzero(overlap > 0)
    typical = agreeing[choose_evenly_spaced(len(agreeing), _TYPICAL_PAIRS)] if len(agreeing) else agreeing
    likeness = {side: _measure_likeness(pairs, spaces, side, np.concatenate([found, typical])) for side in spaces}
    total = np.sum(list(likeness.values()), axis=0)
    order = np.argsort(total[: len(found)], kind="stable")
    entries = [
        FindingEntry(
            [int(pairs.rows[found[at]])],
            likeness={side: round(float(values[at]), 4) for side, values in likeness.items()},
            neighbours={side: _list_neighbours(pairs, side, int(found[at])) for side in spaces},
        )
        for at in order[:MAX_ENTRIES]
    ]
    judged = overlap >= 0
    figures = DisagreementFigures(
        k=k,
        judged=int(judged.sum()),
        shared_on_average=float(overlap[judged].mean()) if judged.any() else None,
        random_shared_on_average=float(random[random >= 0].mean()) if judged.any() else None,
        random_share=float((random == 0).sum() / max(1, (random >= 0).sum())),
        typical={
            side: float(np.median(values[len(found) :])) if len(typical) else None for side, values in likeness.items()
        },
    )
    rule = (
        f"None of the {k} anchors that look most like the image is among the {k} whose captions are most similar to "
        f"its own (the pair and its copies left out). Ranked by likeness, the least alike first."
    )
    rows, ranked = np.sort(pairs.rows[found]), pairs.rows[found[order]]
    notes = _build_notes(int((~judged).sum()), figures.random_share)
    return AuditFinding("disagreement", rule, rows, ranked, entries, len(found), figures, notes)


def _build_notes(not_judged: int, random_share: float) -> tuple[str, ...]:
    """Write how many pairs were not judged, and whether wrong pairs can be found at all."""
    notes = []
    if not_judged:
        notes.append(f"{not_judged:,} of the pairs were not judged: only copies are similar to them.")
    if random_share < _LOW_RANDOM_SHARE:
        notes.append("With so few anchors even random pairs have neighbours in common: hardly any wrong pair is found.")
    return tuple(notes)


def _measure_likeness(
    pairs: PairNeighbourhoods, spaces: dict[Side, SearchSpace], side: Side, at: Int64
) -> NDArray[np.float64]:
    """Measure the likeness of one side of the pairs `at` [m] to the neighbours of the other, in standard deviations.

    For texts: the mean cosine to the texts of the anchors that look most like the image, standardised by the cosines to
    a sample of all anchors; for images likewise. About 0 if image and captions are unrelated.
    """
    space, neighbours = spaces[side], pairs.neighbours["text" if side == "image" else "image"]
    baseline = space.transform_anchors(choose_evenly_spaced(space.count, _BASELINE_ANCHORS)).astype(np.float64)
    likeness = np.empty(len(at))
    for start in range(0, len(at), _BATCH):
        batch = at[start : start + _BATCH]
        near = neighbours[batch][:, :_LIKENESS_NEIGHBOURS]
        rows = np.unique(np.concatenate([near[near != NO_NEIGHBOUR], pairs.rows[batch]]))
        vectors = space.transform_anchors(rows).astype(np.float64)
        own = vectors[np.searchsorted(rows, pairs.rows[batch])]
        cosines = np.einsum("qd,qkd->qk", own, vectors[np.searchsorted(rows, np.maximum(near, rows[0]))])
        means = np.nanmean(np.where(near == NO_NEIGHBOUR, np.nan, cosines), axis=1)
        to_baseline = own @ baseline.T
        deviations = np.maximum(to_baseline.std(axis=1), 1e-9)
        likeness[start : start + _BATCH] = (means - to_baseline.mean(axis=1)) / deviations
    return likeness


def _list_neighbours(pairs: PairNeighbourhoods, side: Side, at: int) -> list[int]:
    """Return the rows of the nearest neighbours of one side of a pair."""
    rows = pairs.neighbours[side][at, :_LISTED_NEIGHBOURS]
    return [int(row) for row in rows if row != NO_NEIGHBOUR]
