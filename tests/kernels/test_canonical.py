"""Canonical scores: sums that are exact, on a grid."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.kernels_cases import DTYPES, adversarial, unit

from asif.kernels import topk_similarity
from asif.kernels.canonical import GRID, round_to_grid


@pytest.mark.parametrize("dtype", [None, *DTYPES], ids=str)
@pytest.mark.parametrize("dim", [1, 7, 384, 1280])
def test_canonical_sums_are_exact(dtype: Any, dim: int) -> None:
    """The claim of `canonical`: no rounding at all happens before the one to float32."""
    queries = np.concatenate([unit(3, dim), adversarial(dim)])
    anchors = queries if dtype is None else (queries * np.float32(1.01)).astype(dtype)
    assert np.linalg.norm(anchors.astype(np.float64), axis=1).max() < 1.015
    left, right = round_to_grid(queries), round_to_grid(anchors)
    every = topk_similarity(queries, [anchors], len(anchors), engine="torch")
    for q, row in enumerate(left):
        for place, a in enumerate(every.indices[q]):
            products = [Fraction(x) * Fraction(y) for x, y in zip(row.tolist(), right[a].tolist(), strict=True)]
            exact = sum(products, Fraction(0))
            assert (
                math.fsum(map(float, products))
                == float(exact)
                == float(row @ right[a])
                == float(np.sum(row * right[a]))
            )
            assert every.scores[q, place] == np.float32(float(exact))
            assert Fraction(float(exact)) == exact  # float64 holds it whole


def test_float16_is_on_the_grid_already() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    small = every[np.abs(np.nan_to_num(every, nan=9)) <= 1]
    assert len(small) > 2**14
    np.testing.assert_array_equal(round_to_grid(small), small.astype(np.float64))
    tenth = np.array([0.1], np.float32)
    assert round_to_grid(tenth) != tenth  # float32 is not: the test can fail
    assert GRID == 2**26
