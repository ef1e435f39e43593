"""Use of anchors: in how many queries' representations each anchor is one of the k nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.evaluate.audit.near_duplicates import ExcludedCopies, NearPairs
from asif.evaluate.audit.neighbourhoods import NO_NEIGHBOUR, is_in_sorted
from asif.vectors import Int64

HUB_TIMES_MEAN = 5.0
"""A hub is used this many times as often as the mean anchor."""

HUB_MIN_QUERIES = 10
"""A hub is used by this many queries at least."""

HUB_QUERY_SHARE = 0.9
"""An anchor that this share of the queries uses is a hub, however high the mean is."""

_BATCH = 1024
_MAX_SHARE_PER_QUERY = 0.5  # share of the anchors that a query uses, above which use is inconclusive
_MAX_UNUSED_BY_CHANCE = 0.01  # share of the anchors unused with even use, above which queries are too few


@dataclass(frozen=True)
class AnchorUsage:
    """Hold how many of `queries` use each anchor (`counts` [n]); each query uses its `k` nearest."""

    counts: Int64
    queries: int
    k: int

    @property
    def mean(self) -> float:
        """Return the mean number of queries that use an anchor."""
        return float(self.counts.mean())

    @property
    def median(self) -> float:
        """Return the median number of queries that use an anchor."""
        return float(np.median(self.counts))

    @property
    def most(self) -> int:
        """Return the number of queries that use the most used anchor."""
        return int(self.counts.max())

    @property
    def unused(self) -> int:
        """Return the number of anchors that no query uses."""
        return int((self.counts == 0).sum())

    @property
    def skewness(self) -> float:
        """Return the skewness of the counts: E(N - μ)³ / σ³, 0 if all anchors are used equally often.

        The skewness of k-occurrences is the measure of hubness of Radovanović et al. (JMLR 11, 2010): if it is high,
        a few anchors are among the neighbours of most queries.
        """
        deviations = self.counts - self.counts.mean()
        spread = float(np.sqrt(np.mean(deviations**2)))
        return float(np.mean(deviations**3)) / spread**3 if spread > 0 else 0.0

    @property
    def unused_by_chance(self) -> float:
        """Return how many anchors would be unused if the same uses were spread evenly: n (1 - μ/q)^q."""
        share = self.mean / self.queries if self.queries else 0.0
        return float(len(self.counts) * (1 - min(share, 1.0)) ** self.queries)

    @property
    def inconclusive_because(self) -> str | None:
        """Return why nothing can be concluded from these counts; None if it can."""
        if not self.queries or self.mean > _MAX_SHARE_PER_QUERY * self.queries:
            return f"each query uses {self.k:,} of {len(self.counts):,} anchors, so use tells little apart"
        if self.unused_by_chance > _MAX_UNUSED_BY_CHANCE * len(self.counts):
            return (
                f"{self.queries:,} queries are too few: with even use {self.unused_by_chance:,.0f} of "
                f"{len(self.counts):,} anchors would be unused by chance"
            )
        return None

    @property
    def hub_from(self) -> int:
        """Return the number of queries from which an anchor is a hub."""
        return int(np.ceil(min(max(HUB_MIN_QUERIES, HUB_TIMES_MEAN * self.mean), HUB_QUERY_SHARE * self.queries)))

    @property
    def histogram(self) -> list[list[int]]:
        """Count anchors by their use, in rows [from, to, anchors]: never, once, 2 to 3, 4 to 7, each twice as wide.

        >>> AnchorUsage(np.array([0, 1, 3, 2, 9]), queries=10, k=2).histogram
        [[0, 0, 1], [1, 1, 1], [2, 3, 2], [4, 7, 0], [8, 15, 1]]
        """
        bins = np.where(self.counts > 0, np.frexp(self.counts.astype(np.float64))[1], 0)
        return [[2 ** (at - 1) if at else 0, 2**at - 1, int(anchors)] for at, anchors in enumerate(np.bincount(bins))]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {
            "queries": self.queries,
            "k": self.k,
            "mean": self.mean,
            "median": self.median,
            "most": self.most,
            "skewness": self.skewness,
            "unused": self.unused,
            "unused_by_chance": self.unused_by_chance,
            "hub_from": self.hub_from,
            "histogram": self.histogram,
        }


def count_usage(neighbours: Int64, equal: Int64, k: int, copies: ExcludedCopies | None = None) -> AnchorUsage:
    """Count in how many neighbourhoods [q, k] each anchor is.

    Anchors whose embeddings of this side are equal, those with one number in `equal` [n], are used together: a query
    that is as similar to all of them as to its k-th neighbour uses them all, except its own `copies`.
    """
    count, groups = len(equal), int(equal.max()) + 1
    by_group, by_near_copy = np.zeros(groups, np.int64), np.zeros(count, np.int64)
    own = equal if copies is None else copies.equal * groups + equal
    known, positions = np.unique(own, return_inverse=True)
    by_equal_copy = np.zeros(len(known), np.int64)
    for start in range(0, len(neighbours), _BATCH):
        batch = neighbours[start : start + _BATCH]
        keys = equal[batch] + groups * np.arange(len(batch))[:, None]
        used = np.unique(keys[batch != NO_NEIGHBOUR])  # a group counts once for each query
        query, group = used // groups, used % groups
        by_group += np.bincount(group, minlength=groups)
        if copies is not None:
            rows = copies.rows[start : start + _BATCH]
            pairs = copies.equal[rows[query]] * groups + group
            pairs = pairs[is_in_sorted(pairs, known)]
            by_equal_copy += np.bincount(np.searchsorted(known, pairs), minlength=len(known))
            by_near_copy += _count_used_near_duplicates(copies.near_pairs, rows, equal, used)
    counts = by_group[equal] - by_near_copy
    return AnchorUsage(counts if copies is None else counts - by_equal_copy[positions], len(neighbours), k)


def _count_used_near_duplicates(near_pairs: NearPairs, rows: Int64, equal: Int64, used: Int64) -> Int64:
    """Count for each anchor the queries at `rows` that it is a near duplicate of and whose used groups it is in: [n].

    `used` holds, ascending, query · groups + group.
    """
    edges = is_in_sorted(near_pairs.left, rows)
    query, anchor = np.searchsorted(rows, near_pairs.left[edges]), near_pairs.right[edges]
    groups = int(equal.max()) + 1
    counts: Int64 = np.bincount(anchor[is_in_sorted(query * groups + equal[anchor], used)], minlength=len(equal))
    return counts
