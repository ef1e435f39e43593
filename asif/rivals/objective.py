"""What training minimises, and what held-out pairs say of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asif.rivals.training_pairs import Pairs
from asif.vectors import Float32, Int64


def mixed(rows: Tensor, share: float) -> Tensor:
    """Mix the first half of rows [2b, d] with the second, one share for all: FuseMix's mixup.

    >>> mixed(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), 0.25).tolist()
    [[0.25, 0.75], [0.0, 1.0]]
    """
    half = len(rows) // 2
    return share * rows[:half] + (1 - share) * rows[half:]


def contrast(logits: Tensor, same: Int64) -> Tensor:
    """Return the symmetric InfoNCE loss of logits [b, b]; texts with equal numbers [b] share what is right.

    >>> round(float(contrast(torch.zeros(2, 2), np.array([0, 1]))), 6)
    0.693147
    >>> round(float(contrast(torch.tensor([[5.0, 5.0], [5.0, 5.0]]), np.array([3, 3]))), 6)
    0.693147
    """
    if len(np.unique(same)) == len(same):
        right = torch.arange(len(same), device=logits.device)
        return (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2
    equal = torch.from_numpy((same[:, None] == same[None, :]).astype(np.float32)).to(logits.device)
    shares = equal / equal.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, shares) + functional.cross_entropy(logits.T, shares)) / 2


def ranked(scores: Float32, held: Pairs) -> tuple[float, float]:
    """Return mean reciprocal rank and recall at 1 of held-out pairs, the mean of both ways; ties count against.

    `scores` [images, texts]. Any text of an image is right for it, and any text that is equal to one of them.
    """
    right = held.right
    found = []
    for table, good in ((scores, right), (scores.T, right.T)):
        best = np.where(good, table, -np.inf).max(axis=1, keepdims=True)
        found.append(1 + ((table >= best) & ~good).sum(axis=1))
    ranks = [(float((1 / each).mean()), float((each == 1).mean())) for each in found]
    return (ranks[0][0] + ranks[1][0]) / 2, (ranks[0][1] + ranks[1][1]) / 2
