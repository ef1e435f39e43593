"""How often anchors are used: in how many queries' representations each stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.evaluate.audit.near_duplicates import Alike
from asif.evaluate.audit.neighbourhoods import NOBODY, among
from asif.vectors import Int64

BATCH = 1024
TIMES = 5.0  # the mean, from which on an anchor is a hub
FEWEST = 10  # queries that a hub is used by, at least
NEARLY_ALL = 0.9  # of the queries: a hub, whatever the mean
MOST_USED = 0.5  # of the anchors by each query, above which use says nothing
BY_CHANCE = 0.01  # of the anchors unused with even use, above which the queries are too few


@dataclass(frozen=True)
class Usage:
    """Hold in how many of `queries` representations each anchor stands [n], of `k` anchors each."""

    counts: Int64
    queries: int
    k: int

    @property
    def mean(self) -> float:
        """Return how often an anchor is used on average."""
        return float(self.counts.mean())

    @property
    def skewness(self) -> float:
        """Return the skewness of the counts: E(N - μ)³ / σ³, 0 where all are used alike.

        That of k-occurrences, by which Radovanović et al. measure hubness (JMLR 11, 2010): a few anchors are
        everyone's neighbours where it is high.
        """
        away = self.counts - self.counts.mean()
        spread = float(np.sqrt(np.mean(away**2)))
        return float(np.mean(away**3)) / spread**3 if spread > 0 else 0.0

    @property
    def unused_by_chance(self) -> float:
        """Return how many anchors would be unused if each query used as many as now, evenly: n (1 - μ/q)^q."""
        share = self.mean / self.queries if self.queries else 0.0
        return float(len(self.counts) * (1 - min(share, 1.0)) ** self.queries)

    @property
    def says_nothing(self) -> str | None:
        """Say why use cannot be judged; None where it can."""
        if not self.queries or self.mean > MOST_USED * self.queries:
            return f"each query uses {self.k:,} of {len(self.counts):,} anchors, so use tells little apart"
        if self.unused_by_chance > BY_CHANCE * len(self.counts):
            return (
                f"{self.queries:,} queries are too few: with even use {self.unused_by_chance:,.0f} of "
                f"{len(self.counts):,} anchors would be unused by chance"
            )
        return None

    @property
    def hub_from(self) -> int:
        """Return the number of queries from which on an anchor is a hub."""
        return int(np.ceil(min(max(FEWEST, TIMES * self.mean), NEARLY_ALL * self.queries)))

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON keeps; `histogram` has [from, to, anchors]."""
        return {
            "queries": self.queries,
            "k": self.k,
            "mean": self.mean,
            "median": float(np.median(self.counts)),
            "most": int(self.counts.max()),
            "skewness": self.skewness,
            "unused": int((self.counts == 0).sum()),
            "unused_by_chance": self.unused_by_chance,
            "hub_from": self.hub_from,
            "histogram": histogram(self.counts),
        }


@dataclass(frozen=True)
class LeftOut:
    """Hold which anchors were left out of the neighbourhoods of the anchors at `rows` [q], ascending.

    Those with the same number in `copies` [n], itself among them, and near duplicates.
    """

    rows: Int64
    copies: Int64
    alike: Alike


def usage(lists: Int64, twins: Int64, k: int, without: LeftOut | None = None) -> Usage:
    """Count in how many neighbourhoods [q, k] each anchor stands.

    Anchors whose embeddings of this side are equal, by `twins` [n], are used together: an input that is as similar to
    all of them as to its k-th keeps them all, but for those that were left out of its neighbourhood.
    """
    count, groups = len(twins), int(twins.max()) + 1
    hits, near = np.zeros(groups, np.int64), np.zeros(count, np.int64)
    own = twins if without is None else without.copies * groups + twins
    every, place = np.unique(own, return_inverse=True)
    back = np.zeros(len(every), np.int64)
    for start in range(0, len(lists), BATCH):
        some = lists[start : start + BATCH]
        keys = twins[some] + groups * np.arange(len(some))[:, None]
        used = np.unique(keys[some != NOBODY])  # a group counts once for each query
        query, group = used // groups, used % groups
        hits += np.bincount(group, minlength=groups)
        if without is not None:
            rows = without.rows[start : start + BATCH]
            pairs = without.copies[rows[query]] * groups + group
            pairs = pairs[among(pairs, every)]
            back += np.bincount(np.searchsorted(every, pairs), minlength=len(every))
            near += near_and_used(without.alike, rows, twins, used)
    counts = hits[twins] - near
    return Usage(counts if without is None else counts - back[place], len(lists), k)


def near_and_used(alike: Alike, rows: Int64, twins: Int64, used: Int64) -> Int64:
    """Count near duplicates of the queries at `rows` that are equal to an anchor that the query uses: [n]."""
    edges = among(alike.left, rows)
    query, anchor = np.searchsorted(rows, alike.left[edges]), alike.right[edges]
    groups = int(twins.max()) + 1
    counts: Int64 = np.bincount(anchor[among(query * groups + twins[anchor], used)], minlength=len(twins))
    return counts


def histogram(counts: Int64) -> list[list[int]]:
    """Count anchors by how often they are used: never, once, 2 to 3, 4 to 7, and so on, each twice as wide.

    >>> histogram(np.array([0, 1, 3, 2, 9]))
    [[0, 0, 1], [1, 1, 1], [2, 3, 2], [4, 7, 0], [8, 15, 1]]
    """
    bins = np.where(counts > 0, np.frexp(counts.astype(np.float64))[1], 0)
    found = np.bincount(bins)
    return [[2 ** (at - 1) if at else 0, 2**at - 1, int(anchors)] for at, anchors in enumerate(found)]
