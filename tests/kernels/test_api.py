"""Exact top-k similarity: every engine gives the same bits as the obvious definition, however it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.kernels_cases import (
    CASES,
    CPU_ENGINES,
    DTYPES,
    EVERY_ENGINE,
    FAST_ENGINES,
    FLOAT32,
    HARD,
    THREADS,
    TILE_ENGINES,
    Rows,
    assert_same,
    best,
    case,
    cut,
    exact,
    hard,
    merged,
    oracle,
    stored,
    tied_rows,
    unit,
)
from support.late import late

from asif.errors import UsageError
from asif.kernels import compute_similarity, cpu, find_nearest, prepare_rows, select_topk, topk_similarity
from asif.vectors import DenseRows, Float32, TopK

if TYPE_CHECKING:
    import torch

    from asif.kernels import faiss_, torch_
else:
    torch, faiss_, torch_ = late("torch", "asif.kernels.faiss_", "asif.kernels.torch_")

on_every_engine = pytest.mark.parametrize("engine", EVERY_ENGINE, indirect=True)
on_every_cpu = pytest.mark.parametrize("engine", [*CPU_ENGINES, *TILE_ENGINES], indirect=True)
searching = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(25)
)


@lru_cache
def awkward(dim: int, many: bool) -> list[tuple[Float32, Rows, int, TopK]]:
    """Return searches of awkward sizes and their answers: queries, anchors, k, expected."""
    searches = []
    for count in (1, 2, 7, 13, 67, 300) if many else (1, 13, 300):
        for dtype in DTYPES:
            anchors = stored(count, dim, dtype)
            for asked in (1, 2, 3, 5, 7, 8, 9, 33) if many else (1, 7):
                queries = unit(asked, dim, 2)
                scores = exact(queries, anchors)
                for k in {1, count // 5 + 1, count, count + 10} if many else (5, count + 10):
                    searches.append((queries, anchors, k, best(scores, k)))
    return searches


@on_every_engine
@pytest.mark.parametrize("dim", [1, 3, 31, 32, 33, 64, 384, 1280])
def test_equal_to_the_definition_at_awkward_sizes(engine: Any, dim: int) -> None:
    for queries, anchors, k, expected in awkward(dim, many=engine == "cpu"):  # others: one path, dearer calls
        found = topk_similarity(queries, [anchors], k, engine=engine)
        assert found.indices.shape == (len(queries), min(k, len(anchors)))
        assert_same(found, expected)


@on_every_engine
def test_no_queries_no_answers(engine: Any) -> None:
    found = topk_similarity(unit(0, 4), [stored(3, 4)], 2, engine=engine)
    assert (found.indices.shape, found.scores.shape) == ((0, 2), (0, 2))
    assert (found.indices.dtype, found.scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("engine", [*EVERY_ENGINE, "reference"], indirect=True)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_close_to_float64(engine: Any, dtype: Any) -> None:
    queries, anchors = unit(9, 384), stored(300, 384, dtype)
    plain = queries.astype(np.float64) @ anchors.astype(np.float64).T
    found = topk_similarity(queries, [anchors], 300, engine=engine)
    np.testing.assert_allclose(found.scores, np.take_along_axis(plain, found.indices, axis=1), rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.scores, -np.sort(-plain, axis=1), rtol=0, atol=1e-7)
    assert (np.sort(found.indices, axis=1) == np.arange(300)).all()


@on_every_engine
@pytest.mark.parametrize("kind", tied_rows())
def test_ties_go_to_the_smaller_index(engine: Any, kind: str) -> None:
    axes = np.eye(4, dtype=np.float32)
    queries = np.concatenate([np.abs(unit(3, 4)), unit(3, 4), axes, -axes])
    for dtype in DTYPES:
        anchors = tied_rows()[kind].astype(dtype)
        for k in (1, 3, len(anchors)):
            for blocks in ([anchors], list(anchors[:, None])):
                found = topk_similarity(queries, blocks, k, engine=engine)
                assert_same(found, oracle(queries, anchors, k))
                level = found.scores[:, 1:] == found.scores[:, :-1]
                assert (np.diff(found.indices, axis=1)[level] > 0).all()
                assert not np.signbit(found.scores[found.scores == 0]).any()


def test_ties_are_really_tied() -> None:
    found = topk_similarity(unit(2, 4), [tied_rows()["all equal"]], 5)
    assert found.indices.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert (found.scores == found.scores[:, :1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("engine", FAST_ENGINES, indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_nothing_leads_astray(engine: Any, name: str, threads: Callable[[int], None]) -> None:
    """Large searches against the oracle; see `CASES` for what each of them is after."""
    hardest = case(name)
    for count in THREADS if engine == "cpu" else THREADS[1:2]:
        threads(count)
        assert_same(topk_similarity(hardest.queries, hardest.blocks, hardest.k, engine=engine), hardest.expected)


class Lazy(Sequence[Rows]):
    """Makes each block when it is asked for, as CentredBlocks does, and counts how often."""

    def __init__(self, blocks: list[Rows]) -> None:
        self.blocks, self.made = blocks, 0

    def __len__(self) -> int:
        return len(self.blocks)

    @overload
    def __getitem__(self, at: int) -> Rows: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Rows]: ...
    def __getitem__(self, at: Any) -> Any:
        self.made += 1
        return self.blocks[at].copy()


@on_every_engine
@searching
@given(data=st.data())
def test_independent_of_every_cut(
    engine: Any, monkeypatch: pytest.MonkeyPatch, threads: Any, data: st.DataObject
) -> None:
    dtype, kind = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(HARD))
    seed, dim = data.draw(st.integers(0, 2**20)), data.draw(st.sampled_from([1, 2, 5, 31, 33, 64]))
    count, asked = data.draw(st.integers(1, 400)), data.draw(st.integers(1, 40))
    anchors = hard(kind, count, dim, dtype, seed)
    queries = hard(data.draw(st.sampled_from(HARD)), asked, dim, FLOAT32, seed + 1)
    shared = min(count, asked) // 2  # products of such with themselves are the largest
    queries[:shared] = anchors[:shared].astype(np.float32)
    k = data.draw(st.sampled_from([1, 2, 7, count // 3 + 1, count, count + 2]))
    places = data.draw(st.lists(st.integers(0, count), max_size=4))  # empty blocks too
    monkeypatch.setattr(torch_, "TILE_ROWS", data.draw(st.integers(1, 90)))
    monkeypatch.setattr(torch_, "QUERY_ROWS", data.draw(st.integers(1, 30)))
    monkeypatch.setattr(faiss_, "BLOCK_BYTES", data.draw(st.integers(1, 9_000)))
    monkeypatch.setattr(cpu, "LAZY_BYTES", data.draw(st.sampled_from([1, 2_000, 2**29])))
    threads(data.draw(st.sampled_from(THREADS)))
    blocks, expected = cut(anchors, places), oracle(queries, anchors, k)

    def search(some: Rows, of: Sequence[Rows]) -> TopK:
        return topk_similarity(some, of, k, engine=engine)

    assert_same(search(queries, blocks), expected)
    assert_same(search(queries, Lazy(blocks)), expected)
    shards = [(block, start) for block, start in zip(blocks, [0, *sorted(places)], strict=True) if len(block)]
    assert_same(merged([search(queries, [block]) for block, _ in shards], [start for _, start in shards], k), expected)
    batches = [batch for batch in cut(queries, data.draw(st.lists(st.integers(0, asked), max_size=3))) if len(batch)]
    found = [search(batch, blocks) for batch in batches]
    assert_same(
        TopK(np.concatenate([f.indices for f in found]), np.concatenate([f.scores for f in found])),
        expected,
    )


@on_every_engine
def test_independent_of_batch_threads_and_the_order_of_queries(engine: Any, threads: Callable[[int], None]) -> None:
    queries, anchors = unit(1100, 64), stored(300, 64)  # more than one QUERY_ROWS
    whole = topk_similarity(queries, [anchors], 20, engine=engine)
    threads(1)
    assert_same(topk_similarity(queries, [anchors], 20, engine=engine), whole)
    threads(2)
    order = np.random.default_rng(5).permutation(len(queries))
    shuffled = topk_similarity(queries[order], [anchors], 20, engine=engine)
    assert_same(shuffled, TopK(whole.indices[order], whole.scores[order]))
    for row in (0, 1023, 1024, 1099):
        alone = topk_similarity(queries[row : row + 1], [anchors], 20, engine=engine)
        assert_same(alone, TopK(whole.indices[row : row + 1], whole.scores[row : row + 1]))


def test_the_order_of_anchors_only_renames_them() -> None:
    queries, anchors = unit(6, 16), stored(50, 16)
    order = np.random.default_rng(6).permutation(50)
    plain, moved = (topk_similarity(queries, [rows], 50) for rows in (anchors, anchors[order]))
    np.testing.assert_array_equal(moved.scores, plain.scores)
    np.testing.assert_array_equal(order[moved.indices], plain.indices)  # random rows: no ties
    more = topk_similarity(queries, [anchors, -anchors[:1]], 50)
    fewer = topk_similarity(queries, [anchors], 20)
    assert_same(fewer, TopK(plain.indices[:, :20], plain.scores[:, :20]))
    assert not np.array_equal(more.scores, plain.scores)  # and one anchor more is noticed


def layouts(rows: Rows, folder: Path) -> Iterator[tuple[str, Rows]]:
    """Return rows that lie in memory in other ways: equal values, other strides, owners and rights."""
    count, dim = rows.shape
    file = folder / "rows"
    file.write_bytes(b"odd" + rows.tobytes())
    yield "mapped, at an odd address", np.memmap(file, rows.dtype, "r", 3, rows.shape)
    yield "reversed", np.ascontiguousarray(rows[::-1])[::-1]
    yield "entries reversed", np.ascontiguousarray(rows[:, ::-1])[:, ::-1]
    yield "every third row", np.repeat(rows, 3, axis=0)[1::3]
    yield "every other entry", np.repeat(rows, 2, axis=1)[:, ::2]
    yield "column by column", np.asfortranarray(rows)
    yield "part of wider rows", np.concatenate([rows, rows], axis=1)[:, dim:]
    frozen = rows.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "one row many times", np.broadcast_to(rows[:1], (count, dim))


@on_every_engine
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_however_arrays_lie_in_memory(engine: Any, dtype: Any, tmp_path: Path) -> None:
    for dim in (1, 33):
        queries, anchors = unit(17, dim), stored(90, dim, dtype)
        for name, rows in layouts(anchors, tmp_path):
            expected = oracle(queries, rows, 9)
            for some in (queries, queries[:3]):
                found = topk_similarity(some, [rows[:20], rows[20:20], rows[20:]], 9, engine=engine)
                assert_same(found, TopK(expected.indices[: len(some)], expected.scores[: len(some)])), name
            same = np.broadcast_to(anchors[:1], anchors.shape) if name == "one row many times" else anchors
            np.testing.assert_array_equal(rows, same, name)  # nothing was written through
        for name, asked in layouts(queries, tmp_path):
            assert_same(topk_similarity(asked, [anchors], 9, engine=engine), oracle(asked, anchors, 9)), name


@on_every_engine
def test_blocks_of_several_types(engine: Any) -> None:
    rows = [stored(40, 17, dtype, seed) for seed, dtype in enumerate([*DTYPES, np.float16])]
    for queries in (unit(3, 17), unit(20, 17)):
        expected = oracle(queries, np.concatenate([block.astype(np.float32) for block in rows]), 30)
        assert_same(topk_similarity(queries, rows, 30, engine=engine), expected)
        assert_same(topk_similarity(queries, Lazy(rows), 30, engine=engine), expected)


@on_every_engine
def test_float64_blocks_are_taken_as_float32(engine: Any) -> None:
    rows = stored(40, 17, np.float64)
    before = rows.copy()
    for queries in (unit(3, 17), unit(20, 17)):
        assert_same(topk_similarity(queries, [rows], 30, engine=engine), oracle(queries, rows, 30))
    np.testing.assert_array_equal(rows, before)


# Numbers that are not fit for a score


@on_every_engine
def test_rows_of_zeros_are_answered(engine: Any) -> None:
    for asked in (2, 12):
        for count in (3, 300):
            zeros, rows = np.zeros((count, 9), np.float32), stored(count, 9)
            for queries, anchors in ((zeros[:asked], rows), (unit(asked, 9), -zeros), (-zeros[:asked], zeros)):
                found = topk_similarity(queries, [anchors], 3, engine=engine)
                assert found.indices.tolist() == [[0, 1, 2]] * len(queries)
                assert not found.scores.view(np.int32).any()  # not -0.0 either


@on_every_engine
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flushing_subnormals_changes_nothing(engine: Any, dtype: Any) -> None:
    anchors = stored(90, 33, dtype)
    anchors.view(f"u{anchors.itemsize}")[::2, 1:] &= {2: 0x83FF, 4: 0x807FFFFF}[anchors.itemsize]
    for queries in (unit(20, 33), unit(3, 33)):
        expected = oracle(queries, anchors, 90)
        try:
            assert torch.set_flush_denormal(True)
            found = topk_similarity(queries, [anchors], 90, engine=engine)
        finally:
            torch.set_flush_denormal(False)
        assert_same(found, expected)


def call(k: int = 1, dim: int = 4, engine: Any = "auto", blocks: Any = None) -> TopK:
    return topk_similarity(unit(2, dim), [stored(3, 4)] if blocks is None else blocks, k, engine=engine)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": -3}, "k is -3"),
        ({"blocks": []}, "there are no anchors"),
        ({"blocks": [np.empty((0, 4), np.float16)]}, "there are no anchors"),
        ({"dim": 5}, "queries have 5 dimensions, anchors 4"),
        ({"blocks": [stored(1, 4), stored(1, 6)]}, "queries have 4 dimensions, anchors 4, 6"),
    ],
)
@pytest.mark.parametrize("engine", ["reference", "torch"])
def test_what_makes_no_sense_is_refused(engine: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        call(**wrong, engine=engine)
    assert caught.value.came == message


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no CUDA device"):
        call(engine="cuda")
    assert_same(call(engine="auto"), call(engine="reference"))


def test_no_dimensions_are_refused() -> None:
    with pytest.raises(UsageError, match="no dimensions"):
        topk_similarity(np.zeros((2, 0), np.float32), [np.zeros((3, 0), np.float32)], 2)


# ---- one array or tensor, one query


@on_every_cpu
@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_one_array_one_tensor_and_one_query(engine: Any, dtype: str) -> None:
    queries, anchors = unit(3, 33), unit(50, 33, 1)
    tensor = torch.from_numpy(anchors).to(getattr(torch, dtype))
    rows = tensor.float().numpy()
    expected = oracle(queries, rows, 5)
    for blocks in (rows, [rows], tensor, [tensor[:20], rows[20:]], tuple(rows), rows.tolist()):
        assert_same(topk_similarity(queries, blocks, 5, engine=engine), expected)
    for query in (queries[1], torch.from_numpy(queries[1]), queries[1].tolist()):
        found = topk_similarity(query, rows, 5, engine=engine)
        assert found.indices.shape == (1, 5)
        assert_same(found, TopK(expected.indices[1:2], expected.scores[1:2]))


def test_arrays_are_dense_rows() -> None:
    queries, rows = unit(3, 8), unit(9, 8, 1)
    scores = compute_similarity(DenseRows(queries), DenseRows(rows))
    np.testing.assert_array_equal(compute_similarity(queries, torch.from_numpy(rows)), scores)
    np.testing.assert_array_equal(compute_similarity(queries[2], prepare_rows(rows)), scores[2:])
    assert_same(find_nearest(queries[0], rows, 4), select_topk(scores[0], 4))
    assert_same(find_nearest(queries, rows, 4), find_nearest(DenseRows(queries), DenseRows(rows), 4))


@pytest.mark.parametrize(
    ("call", "came"),
    [
        (lambda: topk_similarity(np.zeros((2, 2, 2), np.float32), unit(3, 2), 1), "vectors of shape (2, 2, 2)"),
        (lambda: topk_similarity(unit(1, 4)[0], unit(3, 5), 1), "queries have 4 dimensions, anchors 5"),
        (lambda: compute_similarity(unit(1, 4), unit(3, 5)), "rows of 4 dimensions were compared with rows of 5"),
    ],
)
def test_shapes_that_do_not_fit(call: Callable[[], Any], came: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert caught.value.came == came
