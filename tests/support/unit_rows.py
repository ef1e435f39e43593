"""Unit rows, drawn by a seed."""

from __future__ import annotations

import numpy as np

from asif.vectors import Embeddings, Float32


def unit(count: int, dim: int, seed: int, distinct: int | None = None) -> Float32:
    """Draw unit rows [count, dim]; of `distinct` ones, some repeat."""
    random = np.random.default_rng(seed)
    rows = Embeddings.from_raw(random.standard_normal((distinct or count, dim))).values
    return rows if distinct is None else rows[random.integers(0, distinct, count)]
