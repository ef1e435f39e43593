"""Accuracy, recall and ranks from predictions and scores: plain numpy, None if a figure is not defined.

Figures are those of CLIP_benchmark (its metrics/zeroshot_classification.py and metrics/zeroshot_retrieval.py), which
writes NaN or fails in the cases that are None here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asif.vectors import Float32, Int64


def accuracy(predicted: Int64, truth: Int64, k: int, classes: int) -> float | None:
    """Return the share of rows whose class is among the first k predicted.

    `predicted` [n, at least k] are classes, best first, `truth` [n]. None without rows, and for fewer than k classes.

    >>> accuracy(np.array([[0, 1], [2, 1]]), np.array([0, 1]), 1, classes=3)
    0.5
    """
    if not len(truth) or classes < k:
        return None
    return float((predicted[:, :k] == truth[:, None]).any(axis=1).mean())


def mean_per_class_recall(predicted: Int64, truth: Int64) -> float | None:
    """Return the recall of each class in `truth` [n], averaged over these classes; `predicted` [n] are the best ones.

    Classes of which there is no row do not count, as in scikit-learn's balanced_accuracy_score. None without rows.

    >>> mean_per_class_recall(np.array([0, 0, 0, 5]), np.array([0, 0, 1, 5]))
    0.6666666666666666
    """
    if not len(truth):
        return None
    _, owners = np.unique(truth, return_inverse=True)
    return float((np.bincount(owners, predicted == truth) / np.bincount(owners)).mean())


def best_ranks(scores: Float32, relevant: Sequence[Int64]) -> Int64:
    """Return the rank, from 0, of each query's best relevant candidate; of equal scores the earlier candidate is first.

    `scores` [q, c]; `relevant` are the relevant candidates of each query, at least one.

    >>> best_ranks(np.array([[0.9, 0.5, 0.5], [0.1, 0.2, 0.3]], np.float32), [np.array([2]), np.array([1, 2])]).tolist()
    [2, 0]
    """
    sizes = np.array([len(some) for some in relevant], np.int64)
    assert len(sizes) == len(scores)
    assert sizes.all()
    if not len(sizes):
        return sizes
    queries, candidates = np.repeat(np.arange(len(sizes)), sizes), np.concatenate(relevant)
    starts = np.cumsum(sizes) - sizes
    values = scores[queries, candidates]
    best = np.maximum.reduceat(values, starts)
    place = np.minimum.reduceat(np.where(values == best[queries], candidates, scores.shape[1]), starts)
    earlier = np.arange(scores.shape[1]) < place[:, None]
    ahead: Int64 = ((scores > best[:, None]) | ((scores == best[:, None]) & earlier)).sum(axis=1)
    return ahead


def recall_at(ranks: Int64, k: int, candidates: int) -> float | None:
    """Return the share of queries with a relevant candidate among the first k: a hit rate, however many are relevant.

    None without queries, and for fewer than k candidates.

    >>> recall_at(np.array([0, 4, 7]), 5, candidates=10)
    0.6666666666666666
    """
    return float((ranks < k).mean()) if len(ranks) and candidates >= k else None


def median_rank(ranks: Int64) -> float | None:
    """Return the median rank of the best relevant candidate, counted from 1.

    >>> median_rank(np.array([0, 4, 7]))
    5.0
    """
    return float(np.median(ranks)) + 1 if len(ranks) else None
