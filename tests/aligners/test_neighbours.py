"""Neighbours that are updated give what representing over the new anchors gives, bit for bit, also where many tie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asif.aligners import Relative
from asif.aligners.neighbours import Neighbours
from asif.aligners.relative import FittedRelative
from asif.kernels import topk_similarity
from asif.vectors import Embeddings, Float32, Int64, Side, SparseRows, TopK


@dataclass
class Anchors:
    """Anchors of which both sides are alike."""

    values: Float32

    @property
    def count(self) -> int:
        return len(self.values)

    def blocks(self, side: Side) -> list[Any]:
        return [self.values]

    def mean(self, side: Side) -> Any:
        raise AssertionError


def draw(random: np.random.Generator, count: int, levels: int) -> Float32:
    """Draw unit vectors; with few levels many are equal."""
    raw = random.integers(-levels, levels + 1, (count, 4)) + 0.25
    return Embeddings.from_raw(raw).values


def fit(values: Float32, k: int) -> FittedRelative:
    return Relative(k=k).fit(Anchors(values))  # type: ignore[return-value]


def compare(one: SparseRows, other: SparseRows) -> None:
    assert one.values.tobytes() == other.values.tobytes()
    assert one.to_dense().tobytes() == other.to_dense().tobytes()
    assert all(len(set(row)) == len(row) for row in one.indices.tolist())


@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([1, 2, 1000]),
    k=st.integers(1, 12),
    spare=st.sampled_from([1, 4, 16]),
    edits=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=4),
)
def test_updated_neighbours_give_what_a_search_gives(
    seed: int, levels: int, k: int, spare: int, edits: list[tuple[int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("asif.aligners.relative.SPARE", spare)
        random = np.random.default_rng(seed)
        values, items = draw(random, 30, levels), Embeddings(draw(random, 9, levels))
        near = fit(values, k).find_neighbours("image", items)
        compare(fit(values, k).represent_neighbours("image", items, near), fit(values, k).represent("image", items))
        for removed, added in edits:
            kept = np.sort(random.choice(len(values), len(values) - removed, replace=False))
            numbers, places = place(random, len(values), kept, added)
            fresh = draw(random, added, levels)
            values = merge(values[kept], numbers[kept], fresh, places)
            fitted = fit(values, k)
            near = near.update(numbers, find_among(items, fresh, places, k + spare))
            near = near.narrow(k + spare)
            near = Neighbours.from_arrays(near.as_arrays())
            compare(fitted.represent_neighbours("image", items, near), fitted.represent("image", items))


def place(random: np.random.Generator, count: int, kept: Int64, added: int) -> tuple[Int64, Int64]:
    """Return the new numbers of anchors [count], -1 for those that are removed, and those of the added ones."""
    places = np.sort(random.choice(len(kept) + added, added, replace=False))
    numbers = np.full(count, -1)
    numbers[kept] = np.setdiff1d(np.arange(len(kept) + added), places)
    return numbers, places


def merge(kept: Float32, numbers: Int64, fresh: Float32, places: Int64) -> Float32:
    values = np.empty((len(kept) + len(fresh), 4), np.float32)
    values[numbers], values[places] = kept, fresh
    return values


def find_among(items: Embeddings, fresh: Float32, places: Int64, most: int) -> Neighbours:
    if not len(fresh):
        none = np.empty((len(items), 0))
        return Neighbours.of(TopK(none.astype(np.int64), none.astype(np.float32)), 0)
    found = topk_similarity(items.values, [fresh], min(most, len(fresh)))
    return Neighbours.of(TopK(places[found.indices], found.scores), len(fresh))


def test_too_few_neighbours_are_not_enough() -> None:
    near = Neighbours(
        np.array([[3, 1], [3, 1], [3, 1]]),
        np.array([[0.9, 0.5], [0.9, 0.5], [0.9, -0.5]], np.float32),
        np.array([0.4, 0.5, -0.5], np.float32),
    )
    assert near.are_enough(2).tolist() == [True, False, True] and near.are_enough(1).tolist() == [True] * 3
    assert not near.are_enough(3).any()
    assert near.narrow(1).floors.tolist() == [0.5, 0.5, -0.5]
