"""The definition, and the fast oracle of the other tests held to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.kernels_cases import DTYPES, HARD, assert_same, hard, oracle, tied_rows, unit

from asif.kernels import reference, select_topk


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_fast_oracle_is_the_definition(dtype: Any) -> None:
    some = [hard(kind, 23, dim, dtype, seed) for seed, kind in enumerate(HARD) for dim in (1, 4, 65)]
    for anchors in [*(rows.astype(dtype) for rows in tied_rows().values()), *some]:
        queries = np.concatenate([unit(3, anchors.shape[1]), anchors[:2].astype(np.float32)])
        for k in (1, 4, len(anchors), len(anchors) + 9):
            assert_same(oracle(queries, anchors, k), reference.topk_similarity(queries, [anchors], k))


def test_topk_of_dense_scores() -> None:
    scores = np.array([[0.5, 0.9, 0.9, -1.0], [0.0, -0.0, 0.0, -0.0]], np.float32)
    assert select_topk(scores, 3).indices.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert select_topk(scores, 9).scores[0].tolist() == pytest.approx([0.9, 0.9, 0.5, -1.0])
