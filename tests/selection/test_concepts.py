"""Selection by concepts: as even as there are pairs for it; texts that repeat are the concepts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.unit_rows import unit

from asif import selection
from asif.selection.concepts import divide_evenly
from asif.vectors import Float32


def plain_concepts(texts: Float32, prompts: Float32, size: int) -> list[int]:
    """Deal out what is left to the concepts that are left, the rarest first."""
    similar = texts.astype(np.float64) @ prompts.T.astype(np.float64)
    pools = [[row for row in range(len(texts)) if similar[row].argmax() == concept] for concept in range(len(prompts))]
    pools.sort(key=len)
    chosen: list[int] = []
    while pools:
        pool, share = pools[0], (size - len(chosen)) // len(pools)
        chosen += sorted(pool, key=lambda row: -similar[row].max())[:share]
        pools = pools[1:]
    return sorted(chosen)


@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 2**32 - 1), st.data())
def test_concepts_are_the_plain_ones(count: int, named: int, seed: int, data: st.DataObject) -> None:
    texts, prompts = unit(count, 5, seed), unit(named, 5, seed + 1)
    size = data.draw(st.integers(1, count))
    found = selection.choose_by_concepts([texts], prompts, size)
    assert found.tolist() == plain_concepts(texts, prompts, size)
    assert len(found) == size


def plain_concept_lists(texts: Float32, prompts: Float32, size: int) -> list[int]:
    """Let each concept, the one whose list ends lowest first, take what is free in its list."""
    similar = texts.astype(np.float64) @ prompts.T.astype(np.float64)
    share = max(1, size // len(prompts))
    lists = [sorted(range(len(texts)), key=lambda row: -similar[row, at])[: 25 * share] for at in range(len(prompts))]
    order = sorted(range(len(prompts)), key=lambda at: similar[lists[at][-1], at])
    chosen: list[int] = []
    for at in order:
        if len(chosen) + share <= size:
            chosen += [row for row in lists[at] if row not in chosen][:share]
    return sorted(chosen)


@given(st.integers(1, 80), st.integers(1, 7), st.integers(0, 2**32 - 1), st.data())
def test_concept_lists_are_the_plain_ones(count: int, named: int, seed: int, data: st.DataObject) -> None:
    texts, prompts = unit(count, 5, seed), unit(named, 5, seed + 1)
    size = data.draw(st.integers(1, count))
    found = selection.choose_by_concept_lists([texts[: count // 2], texts[count // 2 :]], prompts, size)
    assert found.tolist() == plain_concept_lists(texts, prompts, size)
    assert len(found) <= size


def test_an_anchor_serves_a_concept_that_is_not_its_nearest() -> None:
    texts = np.array([[1, 0], [0.8, 0.6]], np.float32)  # both are nearest to the first concept
    prompts = np.eye(2, dtype=np.float32)
    assert selection.choose_by_concept_lists([texts], prompts, 2).tolist() == [0, 1]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.data())
def test_shares_are_as_even_as_pools_allow(pools: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, sum(pools)))
    taken = divide_evenly(np.array(pools), size)
    assert taken.sum() == size and (taken <= pools).all() and (taken >= 0).all()
    short = [share for share, pool in zip(taken, pools, strict=True) if share < pool]
    assert not short or taken.max() - min(short) <= 1


def test_texts_that_repeat_are_the_concepts() -> None:
    rows = unit(9, 4, seed=0, distinct=3)
    distinct = selection.find_repeated_rows([rows])
    assert distinct is not None
    _, first = np.unique(rows, axis=0, return_index=True)
    np.testing.assert_array_equal(distinct, rows[np.sort(first)])
    assert selection.find_repeated_rows([unit(9, 4, seed=0)]) is None
