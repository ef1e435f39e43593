"""Small sets kept as whole numbers: the same bits as without, a bound that holds, and what is kept for how long."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.kernels_cases import (
    CASES,
    CPU_ENGINES,
    DTYPES,
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
from asif.kernels import cpu, topk_similarity, whole_rows
from asif.kernels.canonical import GRID
from asif.kernels.whole_rows import BlockLayout, WholeRowsCache
from asif.vectors import Float32, TopK

on_every_cpu = pytest.mark.parametrize("engine", CPU_ENGINES, indirect=True)
QUERIES = (1, 2, 3, 8, 9, 33)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> WholeRowsCache:
    """Keep sets of up to 10,000 rows, in a cache of this test."""
    own = WholeRowsCache(2**30)
    monkeypatch.setattr(cpu, "WHOLE_ROWS_CACHE", own)
    monkeypatch.setattr(cpu, "SMALL_ANCHORS", 10_000)
    return own


def search_twice(queries: Float32, blocks: Sequence[Rows], k: int, engine: Any = "cpu") -> TopK:
    """Search as blocks are stored, and then as whole numbers."""
    first = topk_similarity(queries, blocks, k, engine=engine)
    found = topk_similarity(queries, blocks, k, engine=engine)
    assert_same(found, first)
    return found


def list_whole(cache: WholeRowsCache) -> list[BlockLayout]:
    return [each for each in cache._kept.values() if each is not None and each.whole is not None]


@on_every_cpu
@pytest.mark.parametrize("name", CASES)
def test_hard_searches(engine: Any, name: str, cache: WholeRowsCache) -> None:
    hardest = case(name)
    blocks = [frozen(block) for block in hardest.blocks]
    for few in (len(hardest.queries), 3):
        found = search_twice(hardest.queries[:few], blocks, hardest.k, engine)
        assert_same(found, TopK(hardest.expected.indices[:few], hardest.expected.scores[:few]))
    if len(hardest.anchors) <= cpu.SMALL_ANCHORS and len({block.dtype for block in blocks}) == 1:
        assert len(cache._kept) == 1


@on_every_cpu
@pytest.mark.parametrize("dim", [1, 3, 15, 16, 17, 31, 32, 33, 384])
def test_awkward_sizes(engine: Any, dim: int, cache: WholeRowsCache) -> None:
    for dtype, count in product(DTYPES, (1, 7, 67, 300)):
        blocks = [frozen(block) for block in cut(stored(count, dim, dtype), [count // 3])]
        queries = unit(max(QUERIES), dim, 2)
        scores = exact(queries, np.concatenate(blocks))
        search_twice(queries[:1], blocks, 1, engine)
        assert len(list_whole(cache)) == 1
        for asked, k in product(QUERIES, (1, count // 5 + 1, 3 * count // 5 + 1, count + 10)):
            assert_same(topk_similarity(queries[:asked], blocks, k, engine=engine), best(scores[:asked], k))
        del blocks
        gc.collect()


@on_every_cpu
@pytest.mark.parametrize("kind", HARD)
def test_adversarial_rows(engine: Any, kind: str) -> None:
    rows = hard(kind, 600, 65, FLOAT32, 21)
    queries = np.concatenate([rows[[0, 7, 599]], unit(3, 65, 28), np.zeros((1, 65), np.float32), adversarial(65)])
    blocks = [frozen(rows[:100]), frozen(rows[100:])]
    for asked, k in product((1, 7, len(queries)), (1, 30, 200, 400, 600)):
        assert_same(search_twice(queries[:asked], blocks, k, engine), oracle(queries[:asked], rows, k))


@on_every_cpu
def test_rows_that_tie(engine: Any) -> None:
    for rows in tied_rows().values():
        for k in (1, 3, len(rows)):
            queries = np.concatenate([unit(3, 4), rows[:3]])
            assert_same(search_twice(queries, [frozen(rows)], k, engine), oracle(queries, rows, k))


@on_every_cpu
def test_sums_of_long_rows_do_not_overflow(engine: Any) -> None:
    """Equal entries of rows of length 1.4 make the largest sums, and more entries than are added in int32 at a time."""
    rows = np.concatenate([stored(100, 5_000), np.full((2, 5_000), 1.4 * 5_000**-0.5, np.float16)])
    for queries in (
        np.full((1, 5_000), 1.4 * 5_000**-0.5, np.float32),
        np.full((12, 5_000), -(5_000**-0.5), np.float32),
    ):
        assert_same(search_twice(queries, [frozen(rows)], 3, engine), oracle(queries, rows, 3))


@on_every_cpu
def test_threads_do_not_change_results(engine: Any, threads: Any) -> None:
    rows = frozen(stored(2_001, 48))
    for count, asked, k in product(THREADS, (3, 40), (1, 60, 1_200)):
        threads(count)
        assert_same(search_twice(unit(asked, 48, 3), [rows], k, engine), oracle(unit(asked, 48, 3), rows, k))


@on_every_cpu
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_whole_numbers_do_not_hold_are_not_kept(
    engine: Any, dtype: Any, bad: float, cache: WholeRowsCache
) -> None:
    for where, entry in product((0, 899), (7, 32)):
        rows = stored(900, 33, dtype)
        rows[where] = 0
        rows[where, entry] = bad
        block = frozen(rows)
        for asked, k, _ in product((3, 12), (5, 200, 900), range(3)):
            if np.isfinite(bad):
                assert_same(search_twice(unit(asked, 33), [block], k, engine), oracle(unit(asked, 33), rows, k))
                continue
            with pytest.raises(BadEmbedding, match=rf"{asked} of {asked} queries .* not finite"):
                topk_similarity(unit(asked, 33), [block], k, engine=engine)
        assert list_whole(cache) == [] and len(cache._kept) == 1
        del block
        gc.collect()


@on_every_cpu
def test_queries_that_whole_numbers_do_not_hold(engine: Any, cache: WholeRowsCache) -> None:
    rows = frozen(stored(300, 48))
    for asked, scale in product((1, 20), (1.98, 1.9999, 2.5, 30.0)):
        queries = unit(asked, 48, 4) * np.float32(scale)
        assert_same(search_twice(queries, [rows], 7, engine), oracle(queries, rows, 7))
    assert len(list_whole(cache)) == 1


@on_every_cpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_numbers_are_the_entry_on_the_grid(engine: Any, dtype: Any, cache: WholeRowsCache) -> None:
    rows = np.concatenate([stored(50, 33, dtype), adversarial(33).astype(dtype)])
    block = frozen(rows)
    search_twice(unit(1, 33), [block], 1, engine)
    [kept] = list_whole(cache)
    assert kept.memory is not None
    stride = kept.memory.nbytes // 2 // 2 // (len(rows) + 32)  # a plane has room for a block of 32 rows
    high, low = kept.memory[: 4 * (len(rows) + 32) * stride].view(np.int16).reshape(2, -1, stride).astype(np.int64)
    expected = np.rint(rows.astype(np.float64) * GRID).astype(np.int64)
    np.testing.assert_array_equal((high * 4096 + low)[: len(rows), :33], expected)
    assert np.abs(low).max() <= 2048
    assert not high[:, 33:].any() and not low[:, 33:].any()


# What is kept


def test_sets_are_kept_from_their_second_search_on_as_long_as_their_blocks(cache: WholeRowsCache) -> None:
    rows = stored(300, 32)
    blocks = [frozen(rows[:100]), frozen(rows[100:])]
    for kept in (0, 1, 1):
        topk_similarity(unit(1, 32), blocks, 3, engine="cpu")
        assert len(list_whole(cache)) == kept
    search_twice(unit(1, 32), blocks[:1], 3)
    assert len(list_whole(cache)) == 2
    del blocks[1]
    gc.collect()
    assert len(list_whole(cache)) == len(cache._kept) == 1
    blocks.clear()
    gc.collect()
    assert not cache._kept


def test_sets_of_many_rows_are_not_kept(cache: WholeRowsCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "SMALL_ANCHORS", 300)
    for count, kept in ((300, 1), (301, 0)):
        rows = frozen(stored(count, 32))
        search_twice(unit(1, 32), [rows], 3)
        assert len(list_whole(cache)) == len(cache._kept) == kept
        del rows
        gc.collect()


def test_a_mapped_file_is_kept(tmp_path: Path, cache: WholeRowsCache) -> None:
    np.save(tmp_path / "rows.npy", stored(300, 32))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert_same(search_twice(unit(2, 32), [rows], 9), oracle(unit(2, 32), rows, 9))
    assert len(list_whole(cache)) == 1


def test_what_may_change_is_not_kept(cache: WholeRowsCache) -> None:
    rows = stored(300, 32)
    read_only = rows[:]
    read_only.setflags(write=False)
    for block in (rows, read_only):
        search_twice(unit(1, 32), [block], 3)
        rows[:150] = -rows[:150]
        assert_same(search_twice(unit(1, 32), [block], 3), oracle(unit(1, 32), rows, 3))
    assert not cache._kept


def test_blocks_of_two_types_are_not_kept(cache: WholeRowsCache) -> None:
    rows = stored(300, 32)
    blocks = [frozen(rows[:100]), frozen(rows[100:].astype(ml_dtypes.bfloat16))]
    expected = oracle(unit(2, 32), np.concatenate([block.astype(np.float32) for block in blocks]), 9)
    for _ in range(3):
        assert_same(search_twice(unit(2, 32), blocks, 9), expected)
    assert not cache._kept


def test_what_does_not_fit_is_searched_as_it_is_stored(cache: WholeRowsCache) -> None:
    first, second = frozen(stored(300, 32, seed=1)), frozen(stored(200, 32, seed=2))
    search_twice(unit(1, 32), [first], 3)
    [kept] = list_whole(cache)
    assert kept.memory is not None
    cache.limit = kept.memory.nbytes + 100
    assert_same(search_twice(unit(1, 32), [second], 3), oracle(unit(1, 32), second, 3))
    assert list_whole(cache) == [kept]


def test_without_memory_sets_are_searched_as_they_are_stored(
    monkeypatch: pytest.MonkeyPatch, cache: WholeRowsCache
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    block = frozen(stored(300, 32))
    topk_similarity(unit(1, 32), [block], 3, engine="cpu")
    monkeypatch.setattr(whole_rows, "np", SimpleNamespace(zeros=fail, uint8=np.uint8))
    assert_same(search_twice(unit(1, 32), [block], 3), oracle(unit(1, 32), block, 3))
    assert not list_whole(cache)


def test_another_thread_that_converts_is_not_waited_for(cache: WholeRowsCache) -> None:
    block = frozen(stored(300, 32))
    topk_similarity(unit(1, 32), [block], 3, engine="cpu")
    with cache._making:
        assert_same(topk_similarity(unit(1, 32), [block], 3, engine="cpu"), oracle(unit(1, 32), block, 3))
    assert not list_whole(cache)
    search_twice(unit(1, 32), [block], 3)
    assert len(list_whole(cache)) == 1
