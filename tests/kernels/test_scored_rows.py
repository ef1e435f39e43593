"""Rows that are prepared for many comparisons with all of them."""

from __future__ import annotations

import numpy as np
import pytest
from support.search_rows import make_rows

from asif.kernels import ScoredRows, compute_similarity


@pytest.mark.parametrize("form", ["dense", "sparse", "fused"])
def test_scores_of_prepared_rows_are_those_of_all_pairs(form: str) -> None:
    rows, queries = make_rows(form, 50, 1), make_rows(form, 7, 2)
    expected = compute_similarity(queries, rows)
    assert np.any(expected) and ScoredRows.of(rows).score(queries).tobytes() == expected.tobytes()
