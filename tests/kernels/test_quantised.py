"""Blocks kept in int8: the same bits as without, a bound that holds and is needed, and what is kept for how long."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.kernels_cases import (
    CASES,
    CPU_ENGINES,
    DTYPES,
    FLOAT16,
    FLOAT32,
    HARD,
    THREADS,
    Rows,
    adversarial,
    assert_same,
    best,
    case,
    cut,
    exact,
    frozen,
    hard,
    oracle,
    stored,
    tied_rows,
    unit,
)

from asif.errors import BadEmbedding
from asif.kernels import cpu, quantised, topk_similarity
from asif.kernels.canonical import round_to_grid
from asif.kernels.quantised import MOST_QUERIES, QuantisedCache, quantise
from asif.vectors import Float32, TopK

on_every_cpu = pytest.mark.parametrize("engine", CPU_ENGINES, indirect=True)
LARGEST_ASKED = 32767


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> QuantisedCache:
    """Keep blocks of any size and number of rows, in a cache of this test."""
    own = QuantisedCache(2**30)
    monkeypatch.setattr(cpu, "QUANTISED_CACHE", own)
    monkeypatch.setattr(quantised, "_MIN_BYTES", 0)
    monkeypatch.setattr(cpu, "SMALL_ANCHORS", 0)
    return own


def search_twice(queries: Float32, blocks: Sequence[Rows], k: int, engine: Any) -> TopK:
    """Search as blocks are stored, and then in int8."""
    topk_similarity(queries, blocks, k, engine=engine)
    return topk_similarity(queries, blocks, k, engine=engine)


def count_kept(cache: QuantisedCache) -> int:
    return sum(each is not None for each in cache._kept.values())


@on_every_cpu
@pytest.mark.parametrize("name", CASES)
def test_a_few_queries_of_hard_searches(engine: Any, name: str, cache: QuantisedCache) -> None:
    hardest = case(name)
    blocks = [frozen(block) for block in hardest.blocks]
    few = min(len(hardest.queries), MOST_QUERIES)
    found = search_twice(hardest.queries[:few], blocks, hardest.k, engine)
    assert count_kept(cache) == sum(map(bool, map(len, blocks)))
    assert_same(found, TopK(hardest.expected.indices[:few], hardest.expected.scores[:few]))


@on_every_cpu
@pytest.mark.parametrize("dim", [1, 3, 31, 32, 33, 384])
def test_awkward_sizes(engine: Any, dim: int) -> None:
    for dtype, count in product(DTYPES, (1, 7, 67, 300)):
        blocks = [frozen(block) for block in cut(stored(count, dim, dtype), [count // 3])]
        queries = unit(MOST_QUERIES, dim, 2)
        scores = exact(queries, np.concatenate(blocks))
        search_twice(queries[:1], blocks, 1, engine)
        for asked, k in product(range(1, MOST_QUERIES + 1), (1, count // 5 + 1, count + 10)):
            assert_same(topk_similarity(queries[:asked], blocks, k, engine=engine), best(scores[:asked], k))


def one_huge_entry(count: int, dim: int) -> Float32:
    rows = 0.01 * unit(count, dim, 31)
    rows[:, 0] = np.linspace(0.99, 0.999, count)
    return rows


SHAPES = {
    **{kind: lambda kind=kind: hard(kind, 600, 65, FLOAT32, 21) for kind in HARD},
    "one huge entry": lambda: one_huge_entry(600, 65),
    "one huge entry in some": lambda: np.concatenate([unit(300, 65, 22), one_huge_entry(300, 65)]),
    "a single entry": lambda: np.eye(65, dtype=np.float32)[np.arange(600) % 65],
    "all equal": lambda: np.tile(unit(1, 65, 23), (600, 1)),
    "tiny residuals": lambda: np.sign(unit(600, 65, 24)) * np.float32(0.125),
    "denormals": lambda: unit(600, 65, 25) * np.float32(1e-42),
    "negligible": lambda: np.float32([[1.0], [1e-19], [1e-21]] * 200) * unit(600, 65, 26),
    "all but one zero": lambda: np.concatenate([np.zeros((599, 65)), unit(1, 65, 27)]).astype(np.float32),
}


@on_every_cpu
@pytest.mark.parametrize("shape", SHAPES)
def test_adversarial_rows(engine: Any, shape: str) -> None:
    rows = SHAPES[shape]()
    queries = np.concatenate([rows[[0, 7, 599]], unit(3, 65, 28), np.zeros((1, 65), np.float32)])
    blocks = [frozen(rows[:100]), frozen(rows[100:])]
    for k in (1, 30, 200, 600):
        assert_same(search_twice(queries, blocks, k, engine), oracle(queries, rows, k))


@on_every_cpu
def test_rows_that_tie(engine: Any) -> None:
    for rows in tied_rows().values():
        for k in (1, 3, len(rows)):
            queries = np.concatenate([unit(3, 4), rows[:3]])
            assert_same(search_twice(queries, [frozen(rows)], k, engine), oracle(queries, rows, k))


@on_every_cpu
def test_sums_of_long_rows_do_not_overflow(engine: Any) -> None:
    """If all entries are the largest, sums of more than 512 products do not fit an int32."""
    rows = np.concatenate([stored(400, 5_000), np.full((2, 5_000), 5_000**-0.5, np.float16)])
    queries = np.full((1, 5_000), 5_000**-0.5, np.float32)
    assert_same(search_twice(queries, [frozen(rows)], 1, engine), oracle(queries, rows, 1))


@on_every_cpu
def test_threads_do_not_change_results(engine: Any, threads: Any) -> None:
    rows = frozen(stored(9_001, 48))
    for count in THREADS:
        threads(count)
        for k in (1, 60, 900):
            assert_same(search_twice(unit(3, 48, 3), [rows], k, engine), oracle(unit(3, 48, 3), rows, k))


@on_every_cpu
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_not_finite_is_refused(engine: Any, dtype: Any, bad: float, cache: QuantisedCache) -> None:
    for where, entry, k in product((0, 899), (7, 32), (5, 200, 900)):
        rows = stored(900, 33, dtype)
        rows[where, entry] = bad
        block = frozen(rows)
        for _ in range(3):
            with pytest.raises(BadEmbedding, match=r"3 of 3 queries .* not finite"):
                topk_similarity(unit(3, 33), [block], k, engine=engine)
        assert count_kept(cache) == 1


# The bound


def read_form(form: NDArray[np.uint8], dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows that int8 entries stand for [n, d], and the bound of a product for a query of length one [n]."""
    scale, reach = form[:, :8].copy().view(np.float32).astype(np.float64).T
    return scale[:, None] * form[:, 8 : 8 + dim].view(np.int8), reach


def quantise_rows(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    width = cpu.load_native().asif_quantised_bytes(rows.shape[1])
    return read_form(quantise(rows, cpu._TYPE_CODES[rows.dtype], width), rows.shape[1])


def quantise_queries(queries: Float32) -> NDArray[np.float64]:
    largest = np.abs(queries).max(axis=1, keepdims=True)
    scale = np.where(largest > 1e-20, largest / np.float32(LARGEST_ASKED), 0).astype(np.float64)
    return np.rint(np.divide(queries, scale, out=np.zeros(queries.shape), where=scale > 0)) * scale


@on_every_cpu
@pytest.mark.parametrize("dim", [1, 3, 33, 64, 384, 1280])
def test_the_bound_holds(engine: Any, dim: int) -> None:
    pairs = [(hard(kind, 9, dim, FLOAT32, 1), hard(kind, 40, dim, FLOAT32, 2)) for kind in HARD]
    pairs += [(unit(9, dim, 3), stored(40, dim, dtype)) for dtype in (FLOAT16, FLOAT32)]
    pairs += [(adversarial(dim), adversarial(dim)), (unit(9, dim, 4), one_huge_entry(40, dim))]
    for raw, rows in pairs:
        queries = round_to_grid(raw).astype(np.float32)
        entries, reach = quantise_rows(rows)
        off = np.abs(exact(queries, rows) - quantise_queries(queries) @ entries.T)
        limits = np.linalg.norm(queries.astype(np.float64), axis=1)[:, None] * reach + 2 * 2.0**-24
        assert (off <= limits).all()
        norms = np.linalg.norm(rows.astype(np.float64) - entries, axis=1)
        assert (reach <= 1.001 * norms + 2e-5 * dim**0.5 + 1e-5).all()  # not vacuous


def test_the_bound_is_needed() -> None:
    """A query that points where the rounding of a row goes gains nearly all that the bound allows."""
    rows = unit(40, 384, 5)
    entries, reach = quantise_rows(rows)
    moved = rows - entries
    queries = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    gained = np.einsum("nd,nd->n", queries.astype(np.float64), moved)
    assert (gained > 0.9 * reach).all() and reach.min() > 0.003


def test_int8_alone_would_be_wrong() -> None:
    hardest = case("near ties within bfloat16")
    entries, _ = quantise_rows(hardest.anchors)
    guessed = np.argsort(-(hardest.queries @ entries.T), axis=1)[:, : hardest.k]
    assert all(set(g) != set(r) for g, r in zip(guessed, hardest.expected.indices, strict=True))


# What is kept


def test_blocks_are_quantised_at_their_second_search_and_dropped_with_them(cache: QuantisedCache) -> None:
    rows = stored(300, 32)
    blocks = [frozen(rows[:100]), frozen(rows[100:])]
    for kept in (0, 2, 2):
        topk_similarity(unit(1, 32), blocks, 3, engine="cpu")
        assert count_kept(cache) == kept
    assert sum(each.nbytes for each in cache._kept.values() if each is not None) == 300 * (8 + 32)
    other = frozen(stored(50, 32, seed=9))
    topk_similarity(unit(1, 32), [*blocks, other], 3, engine="cpu")
    assert count_kept(cache) == 2
    found = topk_similarity(unit(1, 32), [*blocks, other], 3, engine="cpu")
    assert count_kept(cache) == 3
    assert_same(found, oracle(unit(1, 32), np.concatenate([*blocks, other]), 3))
    del blocks[0], found
    gc.collect()
    assert count_kept(cache) == 2 and len(cache._kept) == 2


def test_few_anchors_are_not_quantised(cache: QuantisedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "SMALL_ANCHORS", 300)
    for count, kept in ((300, 0), (301, 1)):
        rows = frozen(stored(count, 32))
        search_twice(unit(1, 32), [rows], 3, "cpu")
        assert count_kept(cache) == kept


def test_a_mapped_file_is_quantised(tmp_path: Path, cache: QuantisedCache) -> None:
    np.save(tmp_path / "rows.npy", stored(300, 32))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert_same(search_twice(unit(2, 32), [rows], 9, "cpu"), oracle(unit(2, 32), rows, 9))
    assert count_kept(cache) == 1


def test_what_may_change_is_not_kept(cache: QuantisedCache) -> None:
    rows = stored(300, 32)
    read_only = rows[:]
    read_only.setflags(write=False)
    for block in (rows, read_only):
        search_twice(unit(1, 32), [block], 3, "cpu")
        rows[:150] = -rows[:150]
        assert_same(search_twice(unit(1, 32), [block], 3, "cpu"), oracle(unit(1, 32), rows, 3))
    assert not cache._kept


def test_many_queries_need_no_int8(cache: QuantisedCache) -> None:
    search_twice(unit(MOST_QUERIES + 1, 32), [frozen(stored(300, 32))], 3, "cpu")
    assert not cache._kept


def test_small_blocks_are_not_kept(monkeypatch: pytest.MonkeyPatch, cache: QuantisedCache) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(cpu, "QUANTISED_CACHE", cache)
    for rows, kept in ((1_000, 0), (40_000, 1)):
        block = frozen(stored(rows, 32))
        search_twice(unit(1, 32), [block], 3, "cpu")
        assert count_kept(cache) == kept


def test_what_does_not_fit_is_searched_as_it_is_stored(cache: QuantisedCache) -> None:
    first, second = frozen(stored(300, 32, seed=1)), frozen(stored(200, 32, seed=2))
    cache.limit = 400 * (8 + 32)
    search_twice(unit(1, 32), [first], 3, "cpu")
    found = search_twice(unit(1, 32), [second], 3, "cpu")
    assert_same(found, oracle(unit(1, 32), second, 3))
    assert count_kept(cache) == 1
    del first
    gc.collect()
    topk_similarity(unit(1, 32), [second], 3, engine="cpu")
    assert count_kept(cache) == 1 and len(cache._kept) == 1


def test_without_memory_blocks_are_searched_as_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(quantised, "quantise", fail)
    block = frozen(stored(300, 32))
    assert_same(search_twice(unit(1, 32), [block], 3, "cpu"), oracle(unit(1, 32), block, 3))


def test_another_thread_that_quantises_is_not_waited_for(cache: QuantisedCache) -> None:
    block = frozen(stored(300, 32))
    with cache._making:
        assert_same(search_twice(unit(1, 32), [block], 3, "cpu"), oracle(unit(1, 32), block, 3))
    assert not cache._kept


@pytest.mark.parametrize(("text", "limit"), [("1000000\n", 125_000), ("max\n", None), (None, None)])
def test_the_limit_is_an_eighth_of_the_memory(
    text: str | None, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "_CGROUP_LIMIT", tmp_path / "memory.max")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2_000, "SC_PAGE_SIZE": 4096}.__getitem__)
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    assert quantised.measure_limit() == (limit or 2_000 * 4096 // 8)
