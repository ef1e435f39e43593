"""Select anchors at random: the baseline of the other methods."""

from __future__ import annotations

import numpy as np

from asif.vectors import Int64


def choose_at_random(count: int, size: int, seed: int = 0) -> Int64:
    """Draw `size` of `count` rows uniformly; with the same seed, a smaller selection is a subset of a larger one.

    >>> choose_at_random(10, 3).tolist(), choose_at_random(10, 4).tolist()
    ([2, 4, 6], [2, 4, 6, 7])
    """
    return np.sort(np.random.default_rng(seed).permutation(count)[:size])
