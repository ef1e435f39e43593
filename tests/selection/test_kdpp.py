"""Selection by k-DPP: the greedy determinant, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.unit_rows import unit

from asif import selection
from asif.errors import UsageError
from asif.vectors import Float32, Int64


def kernel_of(rows: Float32) -> Any:
    """Compare rows, as the unit vectors that they stand for."""
    wide = rows.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide @ wide.T + 1) ** 2


def greedy_determinant(rows: Float32, size: int) -> list[int]:
    """Take, step by step, the row with which the determinant is largest; the smaller of equal ones."""
    kernel = kernel_of(rows)
    found: list[int] = []
    while len(found) < size:
        gains = [-1.0 if row in found else det(kernel, [*found, row]) for row in range(len(rows))]
        found.append(int(np.argmax(np.round(gains, 9))))
    return sorted(found)


def det(kernel: Any, rows: list[int]) -> float:
    return float(np.linalg.det(kernel[np.ix_(rows, rows)]))


@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 2**32 - 1), st.data())
def test_kdpp_is_the_greedy_determinant(count: int, dim: int, seed: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(count, dim)))  # further determinants drown in rounding
    rows = unit(count, dim, seed)
    found = selection.choose_by_kdpp([rows], size).tolist()
    expected = greedy_determinant(rows, size)
    if found != expected:  # near-ties: equally good to rounding
        kernel = kernel_of(rows)
        assert det(kernel, found) == pytest.approx(det(kernel, expected), rel=1e-5)


def test_rounding_does_not_choose_the_first_row() -> None:
    rows = unit(6, 4, seed=2)
    for dtype in (np.float16, np.float32, np.float64):
        assert selection.choose_by_kdpp([rows.astype(dtype)], 1).tolist() == [0]


def test_kdpp_takes_rows_that_repeat_last() -> None:
    rows = unit(5, 8, seed=0)
    blocks = [np.concatenate([rows[[0, 0, 1, 1, 1]], rows[2:], rows[[3]]])]
    assert selection.choose_by_kdpp(blocks, 5).tolist() == [0, 2, 5, 6, 7]
    assert selection.choose_by_kdpp(blocks, 7).tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert selection.choose_by_kdpp(blocks, 9).tolist() == list(range(9))


def test_kdpp_spreads_better_than_chance() -> None:
    rows = unit(400, 16, seed=1)
    kernel = (rows.astype(np.float64) @ rows.T + 1) ** 2

    def volume(chosen: Int64) -> float:
        return float(np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])[1])

    drawn = [volume(selection.choose_at_random(400, 30, seed)) for seed in range(50)]
    assert volume(selection.choose_by_kdpp([rows], 30)) > max(drawn)


def test_kdpp_refuses_what_memory_cannot_hold() -> None:
    blocks = [np.broadcast_to(np.float16(0.5), (200_000, 4))] * 20
    with pytest.raises(UsageError, match="takes 32,128,000,000 bytes"):
        selection.choose_by_kdpp(blocks, 1_000)
