"""Assign rows to their nearest centres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.kernels import topk_similarity
from asif.vectors import Float32, Int64


def assign_to_nearest(blocks: Sequence[NDArray[Any]], centres: Float32) -> tuple[Int64, Float32]:
    """Return each row's nearest centre [N], the first of equally similar ones, and its similarity [N].

    >>> near, similarity = assign_to_nearest([np.array([[0.6, 0.8]], np.float32)], np.eye(2, dtype=np.float32))
    >>> near.tolist(), similarity.round(3).tolist()
    ([1], [0.800000011920929])
    """
    found = [topk_similarity(np.asarray(block, np.float32), [centres], 1) for block in blocks]
    return np.concatenate([each.indices[:, 0] for each in found]), np.concatenate([each.scores[:, 0] for each in found])
