"""The compiled kernels: what leads them astray, what they refuse, and the bound that is proved for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.kernels_cases import (
    BFLOAT16,
    CPU_ENGINES,
    DTYPES,
    FLOAT32,
    HARD,
    TILE_ENGINES,
    Rows,
    adversarial,
    aligned,
    assert_same,
    case,
    cut,
    exact,
    hard,
    oracle,
    sampled,
    stored,
    unit,
)

from asif.aligners.relative import CentredBlocks
from asif.errors import BadEmbedding
from asif.kernels import cpu, reference, topk_similarity
from asif.kernels.canonical import round_to_grid
from asif.vectors import Float32, TopK

on_every_cpu = pytest.mark.parametrize("engine", [*CPU_ENGINES, *TILE_ENGINES], indirect=True)


def cheaply(queries: Rows, anchors: Rows, k: int, dtype: Any) -> list[set[int]]:
    """Find the k best by float32 products of rows rounded to `dtype`, as one would without a margin."""
    left, right = (rows.astype(dtype).astype(np.float32) for rows in (queries, anchors))
    return [set(row) for row in reference.select_topk(left @ right.T, k).indices.tolist()]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("near ties within bfloat16", BFLOAT16),
        ("near ties within float32", FLOAT32),
        ("rounded anchors lose", BFLOAT16),
        ("rounded anchors lose, 384", BFLOAT16),
    ],
)
def test_cheap_products_alone_would_be_wrong(name: str, dtype: Any) -> None:
    guessed = cheaply(case(name).queries, case(name).anchors, case(name).k, dtype)
    right = [set(row) for row in case(name).expected.indices.tolist()]
    assert all(g != r for g, r in zip(guessed, right, strict=True))


@pytest.mark.parametrize(("name", "part"), [("misleading", 0), ("misleading, second sample", 1)])
def test_the_sample_misleads(name: str, part: int) -> None:
    hardest = case(name)
    scores = oracle(hardest.queries, hardest.anchors, len(hardest.anchors))
    of_anchors = np.empty_like(scores.scores)
    np.put_along_axis(of_anchors, scores.indices, scores.scores, axis=1)
    shown = sampled(len(hardest.queries), len(hardest.anchors), hardest.k)[part]
    members = 8 if part == 0 else len(shown) * hardest.k / len(hardest.anchors)
    rank = math.ceil(members + 4 * members**0.5 + 2)
    guess = -np.sort(-of_anchors[:, shown], axis=1)[:, rank - 1]
    assert ((of_anchors >= guess[:, None]).sum(axis=1) < hardest.k).all()


@pytest.mark.parametrize("made", [1, 10_000, 2**29])
def test_blocks_that_are_made_as_they_are_read(made: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "LAZY_BYTES", made)
    blocks = cut(stored(700, 48), [5, 5, 200, 201, 650])
    lazy = CentredBlocks(blocks, np.full(48, 0.01), cached_bytes=0)
    assert lazy[3] is not lazy[3]
    for asked in (3, 30):
        for k in (1, 60, 700):
            found = topk_similarity(unit(asked, 48, 3), lazy, k, engine="cpu")
            assert_same(found, topk_similarity(unit(asked, 48, 3), list(lazy), k, engine="cpu"))
            assert_same(found, oracle(unit(asked, 48, 3), np.concatenate(list(lazy)), k))


@on_every_cpu
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("asked", "count", "k"), [(3, 900, 5), (20, 900, 5), (20, 9, 2), (3, 9, 9), (20, 9, 9)])
def test_what_is_not_finite_is_refused(engine: Any, dtype: Any, bad: float, asked: int, count: int, k: int) -> None:
    """Whatever way it is met: stored, converted or exact products."""
    for where, entry in itertools.product((0, count - 1), (7, 32)):
        queries, anchors = unit(asked, 33), stored(count, 33, dtype)
        anchors[where, entry] = bad
        with pytest.raises(BadEmbedding, match=f"{asked} of {asked} queries .* not finite"):
            topk_similarity(queries, [anchors], k, engine=engine)
        queries[1, entry] = bad
        with pytest.raises(BadEmbedding, match=f"1 of {asked} queries .* not finite"):
            topk_similarity(queries, [stored(count, 33, dtype)], k, engine=engine)
    assert_same(topk_similarity(unit(3, 33), [stored(9, 33)], 2, engine=engine), oracle(unit(3, 33), stored(9, 33), 2))


@pytest.mark.parametrize("engine", CPU_ENGINES, indirect=True)
@pytest.mark.parametrize("count", [50, cpu.SMALL_ANCHORS + 50])
def test_many_long_queries_are_searched_in_batches(engine: Any, count: int) -> None:
    queries, anchors = unit(400, 5_000, 1), unit(count, 5_000, 2)  # 8 MB of queries, more than a batch
    together = topk_similarity(queries, [anchors], 7, engine=engine)
    for first in range(0, 400, 100):
        some = slice(first, first + 100)
        alone = topk_similarity(queries[some], [anchors], 7, engine=engine)
        assert_same(alone, TopK(together.indices[some], together.scores[some]))
    assert_same(topk_similarity(queries[:2], [anchors], 7, engine=engine), oracle(queries[:2], anchors, 7))


@pytest.mark.parametrize("count", [cpu.SMALL_ANCHORS - 1, cpu.SMALL_ANCHORS, cpu.SMALL_ANCHORS + 1])
def test_the_number_of_anchors_that_are_few(count: int) -> None:
    rows = stored(count, 24)
    rows[500:900] = rows[500]  # more ties than are wanted
    scores = exact(unit(40, 24, 3), rows)
    for asked, k in itertools.product((1, 8, 9, 40), (1, 37, count // 2, count)):
        found = topk_similarity(unit(40, 24, 3)[:asked], [rows], k, engine="cpu")
        assert_same(found, reference.select_topk(scores[:asked], k))


def converted(rows: Float32, kind: str) -> Float32:
    """Round rows as multiply.h does; int16 is fixed point."""
    if kind == "int16":
        return np.rint(rows * np.float32(2**14)) / np.float32(2**14)
    return rows.astype(BFLOAT16).astype(np.float32) if kind == "bfloat16" else rows


def residuals(rows: Float32, kind: str) -> Rows:
    """Return how far rounding may have moved each row: half a step of every entry for int16, else what it did."""
    if kind == "int16":
        return np.full(len(rows), rows.shape[1] ** 0.5 * 0.501 * 2.0**-14 * (1 + 1e-4))
    return lengths(rows - converted(rows, kind))


def lengths(rows: Rows) -> Rows:
    """Take lengths as products.h does: of float32 sums, rounded up a little."""
    return np.sqrt(np.sum(np.square(rows, dtype=np.float32), axis=-1, dtype=np.float32)).astype(np.float64) * (1 + 1e-4)


def bounds(queries: Float32, anchors: Float32, kind: str) -> Rows:
    """Bound |canonical score - product| [q, n], as products.h does."""
    dim = queries.shape[1]
    length, residual = lengths(queries), residuals(queries, kind)
    summed, kept = 1.01 * (dim + 40) * 2.0**-24, length + residual
    of_length, of_residual = residual + summed * kept, kept * (1 + summed)
    constant = kept * (dim**0.5 * 2.0**-27) + 2 * 2.0**-24
    longest, largest = lengths(anchors).max(), residuals(anchors, kind).max()
    return np.broadcast_to(
        (of_length * longest + of_residual * largest + constant)[:, None], (len(queries), len(anchors))
    )


def products(queries: Float32, anchors: Float32, kind: str) -> Iterator[Rows]:
    """Add up float32 products of converted rows in several orders."""
    left, right = converted(queries, kind), converted(anchors, kind)
    if kind == "int16":  # sums of integers are exact, and rounded once
        yield (left.astype(np.float64) @ right.T.astype(np.float64)).astype(np.float32)
        return
    terms = left[:, None, :] * right[None, :, :]
    yield left @ right.T
    yield terms.sum(axis=2)
    for ordered in (terms, terms[..., ::-1], np.sort(terms, axis=2)):
        yield np.cumsum(ordered, axis=2, dtype=np.float32)[..., -1]


@pytest.mark.parametrize("kind", ["bfloat16", "int16", "float32"])
@pytest.mark.parametrize("dim", [1, 3, 33, 64, 384, 1280])
def test_the_bound_holds(dim: int, kind: str) -> None:
    crafted = [aligned(3, dim, 60, moved=moved) for moved in ("anchors", "queries")] if dim > 3 else []
    pairs = [(each.queries, each.anchors[-60:]) for each in crafted]
    pairs += [(hard(kind, 5, dim, FLOAT32, 1), hard(kind, 40, dim, FLOAT32, 2)) for kind in HARD]
    pairs += [(unit(5, dim, 3), stored(40, dim, dtype).astype(np.float32)) for dtype in DTYPES]
    pairs += [(np.abs(unit(5, dim, 4)), np.abs(unit(40, dim, 5))), (adversarial(dim), adversarial(dim))]
    for raw, anchors in pairs:
        queries = round_to_grid(raw).astype(np.float32)
        scores, limits = (
            (queries.astype(np.float64) @ round_to_grid(anchors).T).astype(np.float32),
            bounds(queries, anchors, kind),
        )
        for product in products(queries, anchors, kind):
            assert (np.abs(product.astype(np.float64) - scores) <= limits).all()
        assert limits.max() < {"bfloat16": 0.02, "int16": 0.004, "float32": 2e-4}[kind]  # not vacuous


@pytest.mark.parametrize("dim", [64, 384])
@pytest.mark.parametrize("moved", ["anchors", "queries"])
def test_the_bound_is_needed(dim: int, moved: str) -> None:
    """Rounding can take nearly as much as the bound allows, and these rows see to it."""
    crafted = aligned(3, dim, 60, moved=moved)
    queries = round_to_grid(crafted.queries).astype(np.float32)
    lost = exact(queries, crafted.anchors) - next(products(queries, crafted.anchors, "bfloat16"))
    assert (lost / bounds(queries, crafted.anchors, "bfloat16")).max() > 0.9


@on_every_cpu
def test_sums_of_low_parts_do_not_overflow(engine: Any) -> None:
    """Rows whose entries all end in the largest low part, of 11 bits."""
    entry = (round(5_000**-0.5 * 2**14) * 2**12 + 2**11 - 1) * 2.0**-26
    rows, queries = np.full((600, 5_000), entry, np.float32), np.full((9, 5_000), entry, np.float32)
    rows[::7] *= -1
    assert_same(topk_similarity(queries, [rows], 70, engine=engine), oracle(queries, rows, 70))


@on_every_cpu
@pytest.mark.parametrize("k", [9, 90])
def test_rows_too_long_for_fixed_point_are_candidates(engine: Any, k: int) -> None:
    """Entries from 2 on, and sums from 8 on, do not fit int16 and int32: those rows are scored all the same."""
    queries, anchors = unit(12, 40), stored(900, 40, np.float32)
    anchors[[3, 500, 899]] *= 40
    queries[5] = 0
    queries, anchors = np.round(queries * 256) / 256, np.round(anchors * 256) / 256  # any order of summation is exact
    queries[7] *= 40
    anchors[600] = 0
    assert_same(topk_similarity(queries, [anchors], k, engine=engine), oracle(queries, anchors, k))


@pytest.mark.parametrize("engine", [*CPU_ENGINES, *TILE_ENGINES], indirect=True)
def test_the_other_byte_order_is_read(engine: Any) -> None:
    queries, anchors = unit(3, 17), stored(40, 17, np.float32)
    found = topk_similarity(queries, [anchors.astype(">f4")], 9, engine=engine)
    assert_same(found, oracle(queries, anchors, 9))
