"""The training loss, and the ranking of held-out pairs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asif.rivals.training_pairs import PairFeatures
from asif.vectors import Float32, Int64


def mix_halves(rows: Tensor, share: float) -> Tensor:
    """Mix the first half of rows [2b, d] with the second, with one share for all: FuseMix's mixup.

    >>> mix_halves(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), 0.25).tolist()
    [[0.25, 0.75], [0.0, 1.0]]
    """
    half = len(rows) // 2
    return share * rows[:half] + (1 - share) * rows[half:]


def compute_infonce_loss(logits: Tensor, text_groups: Int64) -> Tensor:
    """Return the symmetric InfoNCE loss of logits [b, b]; equal texts, of one group [b], share the target.

    >>> round(float(compute_infonce_loss(torch.zeros(2, 2), np.array([0, 1]))), 6)
    0.693147
    >>> round(float(compute_infonce_loss(torch.tensor([[5.0, 5.0], [5.0, 5.0]]), np.array([3, 3]))), 6)
    0.693147
    """
    if len(np.unique(text_groups)) == len(text_groups):
        targets = torch.arange(len(text_groups), device=logits.device)
        return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2
    equal = torch.from_numpy((text_groups[:, None] == text_groups[None, :]).astype(np.float32)).to(logits.device)
    shares = equal / equal.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, shares) + functional.cross_entropy(logits.T, shares)) / 2


def rank_held_out_pairs(scores: Float32, held_out: PairFeatures) -> tuple[float, float]:
    """Return mean reciprocal rank and recall at 1 of held-out pairs, the mean of both directions; ties count against.

    `scores` [images, texts]. The true texts of an image are its own and those equal to one of its own.
    """
    matches = held_out.matches
    metrics = []
    for table, true in ((scores, matches), (scores.T, matches.T)):
        best = np.where(true, table, -np.inf).max(axis=1, keepdims=True)
        ranks = 1 + ((table >= best) & ~true).sum(axis=1)
        metrics.append((float((1 / ranks).mean()), float((ranks == 1).mean())))
    return (metrics[0][0] + metrics[1][0]) / 2, (metrics[0][1] + metrics[1][1]) / 2
