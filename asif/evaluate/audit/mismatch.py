"""Pairs whose image and caption disagree: nothing that looks like the image reads like the caption."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asif.aligners.sampling import evenly
from asif.evaluate.audit.findings import LISTED, Entry, Finding
from asif.evaluate.audit.neighbourhoods import NOBODY, Space
from asif.evaluate.audit.overlap import Pairing
from asif.vectors import Int64, Side

SAMPLED = 1_000  # anchors that stand for all where likeness to anybody is measured
NEAREST = 100  # neighbours that likeness is measured by
TYPICAL = 200  # other pairs whose likeness is measured for comparison
SHOWN = 2  # neighbours of either side that are named
TOO_RARE = 0.05  # of random pairs, below which hardly any wrong pair can be found


def disagreement(pairing: Pairing, spaces: dict[Side, Space], seed: int) -> Finding:
    """Find the pairs whose neighbourhoods have nothing in common, and rank them: the least alike first.

    `random_share` is the share of pairs put together at random, by a seeded permutation, that have nothing in common
    either: about as many of the wrong pairs can be found this way, and the others cannot.
    """
    count = len(pairing.rows)
    own = pairing.overlap(np.arange(count))
    random = pairing.overlap(np.random.default_rng(seed).permutation(count))
    judged, k = own >= 0, pairing.lists["image"].shape[1]
    share = float((random == 0).sum() / max(1, (random >= 0).sum()))
    at = np.flatnonzero(own == 0)
    others = np.flatnonzero(own > 0)
    typical = others[evenly(len(others), TYPICAL)] if len(others) else others
    likeness = {side: lift(pairing, spaces, side, np.concatenate([at, typical])) for side in spaces}
    total = np.sum(list(likeness.values()), axis=0)
    order = np.argsort(total[: len(at)], kind="stable")
    entries = [
        Entry(
            [int(pairing.rows[at[place]])],
            {f"{side}_likeness": round(float(values[place]), 4) for side, values in likeness.items()},
            beside={f"near_{side}": nearest(pairing, side, int(at[place])) for side in spaces},
        )
        for place in order[:LISTED]
    ]
    figures = {
        "k": k,
        "judged": int(judged.sum()),
        "shared_on_average": float(own[judged].mean()) if judged.any() else None,
        "random_shared_on_average": float(random[random >= 0].mean()) if judged.any() else None,
        "random_share": share,
        "typical": {
            side: float(np.median(values[len(at) :])) if len(typical) else None for side, values in likeness.items()
        },
    }
    rule = (
        f"None of the {k} anchors that look most like the image is among the {k} that read most like its captions "
        f"(itself and its copies left out). Ranked by likeness, the least alike first."
    )
    rows = np.sort(pairing.rows[at])
    return Finding("disagreement", rule, rows, pairing.rows[at[order]], entries, len(at), figures, remarks(own, share))


def remarks(own: Int64, share: float) -> tuple[str, ...]:
    """Say what was not judged, and how much can be found at all."""
    notes = []
    if (lonely := int((own < 0).sum())) > 0:
        notes.append(f"{lonely:,} of the pairs were not judged: nothing but copies is similar to them.")
    if share < TOO_RARE:
        notes.append("With so few anchors even random pairs have neighbours in common: hardly any wrong pair is found.")
    return tuple(notes)


def lift(pairing: Pairing, spaces: dict[Side, Space], side: Side, at: Int64) -> NDArray[np.float64]:
    """Measure by how many standard deviations a pair's own embedding is nearer to some than to anybody: [m].

    For texts: to the texts of the anchors that look most like the image; for images: to the images of those that read
    most like the captions. About 0 where a pair's image and caption have nothing to do with one another.
    """
    space, lists = spaces[side], pairing.lists["text" if side == "image" else "image"]
    anybody = space.own(evenly(space.count, SAMPLED)).astype(np.float64)
    found = np.empty(len(at))
    for start in range(0, len(at), 64):
        some = at[start : start + 64]
        near = lists[some][:, :NEAREST]
        rows = np.unique(np.concatenate([near[near != NOBODY], pairing.rows[some]]))
        vectors = space.own(rows).astype(np.float64)
        own = vectors[np.searchsorted(rows, pairing.rows[some])]
        similar = np.einsum("qd,qkd->qk", own, vectors[np.searchsorted(rows, np.maximum(near, rows[0]))])
        means = np.nanmean(np.where(near == NOBODY, np.nan, similar), axis=1)
        base = own @ anybody.T
        found[start : start + 64] = (means - base.mean(axis=1)) / np.maximum(base.std(axis=1), 1e-9)
    return found


def nearest(pairing: Pairing, side: Side, at: int) -> list[int]:
    """Return the first neighbours of one side of a pair."""
    rows = pairing.lists[side][at, :SHOWN]
    return [int(row) for row in rows if row != NOBODY]
