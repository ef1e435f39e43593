"""Small rows of every form, with many ties."""

from __future__ import annotations

import numpy as np

from asif.vectors import DenseRows, FusedRows, Rows, SparseRows


def make_rows(form: str, count: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, (count, 6)).astype(np.float32) / 8  # many ties
    dense = DenseRows(values)
    indices = np.stack([random.permutation(9)[:4] for _ in range(count)]).reshape(count, 4)
    sparse = SparseRows(indices, np.abs(random.integers(0, 4, (count, 4)).astype(np.float32)) / 8, 9)
    rows: dict[str, Rows] = {"dense": dense, "sparse": sparse, "fused": FusedRows((dense, sparse))}
    return rows[form]
