"""Tokens without padding: they come back as they went in; rows that are not there or cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.build_fakes import draw_rows
from support.pair_tokens import round_to_half

from asif.anchorset.tokens.token_rows import TokenRows


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_rows_come_back_as_they_went_in(counts: list[int], data: st.DataObject) -> None:
    rows = [draw_rows(bytes([at, count]), count, 3) for at, count in enumerate(counts)]
    pooled = draw_rows(b"pooled", len(counts), 2)
    packed = TokenRows.concatenate(
        TokenRows.of(rows[at : at + 2], pooled[at : at + 2]) for at in range(0, len(rows), 2)
    )
    assert len(packed) == len(rows) and packed.lengths.tolist() == counts
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    found = packed.read(wanted)
    assert found.mask.sum(axis=1).tolist() == [counts[row] for row in wanted]
    assert found.pooled.tolist() == pooled[np.array(wanted, int)].tolist()
    for at, row in enumerate(wanted):
        assert np.array_equal(found.values[at][found.mask[at]].reshape(-1, 3), round_to_half(rows[row]))
    again = TokenRows.from_padded(found)
    assert np.array_equal(again.offsets, packed.take(wanted).offsets)
    assert np.array_equal(again.values.ravel(), packed.take(wanted).values.ravel())


@pytest.mark.parametrize("rows", [[-1], [0, 2], [5]])
def test_rows_that_are_not_there(rows: list[int]) -> None:
    packed = TokenRows.of([np.ones((1, 2))] * 2, np.ones((2, 1), np.float32))
    for look in (packed.read, packed.take):
        with pytest.raises(IndexError, match="of 2"):
            look(rows)


def test_rows_that_cannot_be_used() -> None:
    values = [np.array([[1.0]]), np.array([[1.0], [70000.0]]), np.array([[np.nan]]), np.array([[65504.0]])]
    packed = TokenRows.of(values, np.array([[1], [1], [1], [0]], np.float32))
    assert packed.problems() == {
        1: "tokens are not finite in float16",
        2: "tokens are not finite in float16",
        3: "embedding is zero",
    }
