"""No method depends on how rows lie in blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.unit_rows import unit

from asif import selection

Blocks = Sequence[Any]


def cut(rows: Any, places: Sequence[int]) -> Blocks:
    """Cut rows into blocks, none of them empty."""
    return np.split(rows, sorted({place % len(rows) for place in places} - {0}))


@given(st.integers(0, 1000), st.lists(st.integers(0, 10_000), max_size=6), st.sampled_from(["float16", "float32"]))
def test_the_choice_does_not_depend_on_blocks(seed: int, places: list[int], dtype: str) -> None:
    rows = unit(60, 7, seed, distinct=50 if seed % 2 else None).astype(dtype)
    prompts = unit(5, 7, seed + 1)
    methods: list[Callable[[Blocks], Any]] = [
        lambda blocks: selection.choose_by_kmeans(blocks, 9, seed),
        lambda blocks: selection.choose_by_kdpp(blocks, 9),
        lambda blocks: selection.choose_by_concepts(blocks, prompts, 9),
        selection.find_repeated_rows,
    ]
    for method in methods:
        np.testing.assert_array_equal(method([rows]), method(cut(rows, places)))
