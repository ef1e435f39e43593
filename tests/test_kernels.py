"""Exact top-k and sparse comparison: every engine gives the same bits as the obvious definition, however it is cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asif.errors import UsageError
from asif.kernels import ENGINES, reference, sparse_similarity, topk, topk_similarity, torch_
from asif.kernels.canonical import GRID
from asif.vectors import Embeddings, Float32, SparseRows, TopK

Rows = NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32)]


def needs(engine: str) -> Any:
    """Mark an engine that this machine lacks, so that it is skipped aloud."""
    absent = engine == "cuda" and not torch.cuda.is_available()
    return pytest.param(engine, marks=pytest.mark.skipif(absent, reason=f"the engine {engine} needs a CUDA device"))


EVERY_ENGINE = [needs(engine) for engine in ENGINES if engine not in ("auto", "reference")]


def unit(count: int, dim: int, seed: int = 0) -> Float32:
    raw = np.random.default_rng(seed).standard_normal((count, dim))
    return Embeddings.from_raw(raw).values if count else np.empty((0, dim), np.float32)


def stored(count: int, dim: int, dtype: Any = np.float16, seed: int = 1) -> Rows:
    return unit(count, dim, seed).astype(dtype)


def assert_same(found: TopK, expected: TopK) -> None:
    """Compare indices and scores bit for bit, so that 0.0 is not -0.0."""
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores.view(np.int32), expected.scores.view(np.int32))
    assert (found.indices.dtype, found.scores.dtype) == (np.int64, np.float32)


def cut(rows: Rows, places: list[int]) -> list[Rows]:
    return np.split(rows, sorted(places))


@pytest.fixture
def threads() -> Iterator[Any]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@pytest.mark.parametrize("count", [1, 7, 13, 67, 300])
@pytest.mark.parametrize("dim", [1, 3, 64, 384])
def test_equal_to_the_definition_at_awkward_sizes(engine: Any, count: int, dim: int) -> None:
    for number, dtype in enumerate(DTYPES):
        anchors = stored(count, dim, dtype)
        for queries in (unit(size, dim, seed=number + 2) for size in (0, 1, 7)):
            for k in (1, 5, count, count + 10):
                found = topk_similarity(queries, [anchors], k, engine=engine)
                assert found.indices.shape == (len(queries), min(k, count))
                assert_same(found, topk_similarity(queries, [anchors], k, engine="reference"))


@pytest.mark.parametrize("engine", [*EVERY_ENGINE, "reference"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_close_to_float64(engine: Any, dtype: Any) -> None:
    queries, anchors = unit(9, 384), stored(300, 384, dtype)
    plain = queries.astype(np.float64) @ anchors.astype(np.float64).T
    found = topk_similarity(queries, [anchors], 300, engine=engine)
    np.testing.assert_allclose(found.scores, np.take_along_axis(plain, found.indices, axis=1), rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.scores, -np.sort(-plain, axis=1), rtol=0, atol=1e-7)
    assert (np.sort(found.indices, axis=1) == np.arange(300)).all()


def tied_rows() -> dict[str, Rows]:
    """Return anchors [n, 4] whose scores tie or sit at the edges of float32."""
    base = stored(5, 4, np.float32)
    tiny = np.zeros((6, 4), np.float32)
    tiny[:, 0] = [1e-45, -1e-45, 2.0**-27, -(2.0**-27), 0.0, -0.0]
    return {
        "duplicated": base[[0, 1, 0, 2, 1, 0, 3, 4, 2, 0]],
        "all equal": base[[2] * 12],
        "all negative": -np.abs(base),
        "opposite": np.concatenate([base, -base]),
        "zeros": np.zeros((4, 4), np.float32),
        "negative zeros": -np.zeros((3, 4), np.float32),
        "tiny": tiny,
    }


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@pytest.mark.parametrize("kind", tied_rows())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_go_to_the_smaller_index(engine: Any, kind: str, dtype: Any) -> None:
    anchors = tied_rows()[kind].astype(dtype)
    queries = np.concatenate(
        [np.abs(unit(3, 4)), unit(3, 4), np.eye(4, dtype=np.float32), -np.eye(4, dtype=np.float32)]
    )
    for k in (1, 3, len(anchors)):
        for blocks in ([anchors], list(anchors[:, None])):
            found = topk_similarity(queries, blocks, k, engine=engine)
            assert_same(found, reference.topk_similarity(queries, [anchors], k))
            level = found.scores[:, 1:] == found.scores[:, :-1]
            assert (np.diff(found.indices, axis=1)[level] > 0).all()
            assert not np.signbit(found.scores[found.scores == 0]).any()


def test_ties_are_really_tied() -> None:
    found = topk_similarity(unit(2, 4), [tied_rows()["all equal"]], 5)
    assert found.indices.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert (found.scores == found.scores[:, :1]).all()


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mapped_reversed_and_strided_arrays(engine: Any, dtype: Any, tmp_path: Path) -> None:
    anchors, queries = stored(40, 6, dtype), unit(3, 6)
    anchors.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", dtype, mode="r", shape=anchors.shape)
    wide = np.repeat(anchors, 2, axis=1)
    expected = reference.topk_similarity(queries, [anchors], 9)
    for same in (mapped, anchors[::-1].copy()[::-1], wide[:, ::2], np.asfortranarray(anchors)):
        assert_same(topk_similarity(queries, [same], 9, engine=engine), expected)
    assert_same(
        topk_similarity(queries[::-1], [mapped], 9, engine=engine), TopK(expected.indices[::-1], expected.scores[::-1])
    )
    assert (np.asarray(mapped) == anchors).all()  # nothing was written through


@pytest.mark.parametrize("engine", EVERY_ENGINE)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_independent_of_every_cut(engine: Any, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    count, dim = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 2, 5]))
    grid = st.lists(st.integers(-3, 3), min_size=dim, max_size=dim).filter(any)
    rows = data.draw(st.lists(grid, min_size=count, max_size=count))  # few values: many ties
    anchors, queries = Embeddings.from_raw(rows).values.astype(dtype), unit(data.draw(st.integers(1, 5)), dim)
    k = data.draw(st.integers(1, count + 2))
    places = data.draw(st.lists(st.integers(0, count), max_size=4))  # empty blocks too
    monkeypatch.setattr(torch_, "TILE_ROWS", data.draw(st.integers(1, 9)))
    monkeypatch.setattr(torch_, "QUERY_ROWS", data.draw(st.integers(1, 3)))
    assert_same(
        topk_similarity(queries, cut(anchors, places), k, engine=engine),
        reference.topk_similarity(queries, [anchors], k),
    )


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_independent_of_batch_threads_and_the_order_of_queries(engine: Any, threads: Any) -> None:
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


def adversarial(dim: int) -> Float32:
    """Return unit rows whose products cancel, whose sums reach the edge, and whose entries lie between grid points."""
    ramp = 2.0 ** -np.arange(dim)
    signs = np.where(np.arange(dim) % 2, -1.0, 1.0)
    flat, peak, step = np.ones(dim), np.full(dim, 2.0**-27), np.linspace(1, 2, dim) * signs
    peak[0] = 1
    return Embeddings.from_raw(np.stack([ramp, ramp * signs, flat, flat * signs, peak, step])).values


@pytest.mark.parametrize("dtype", [None, *DTYPES], ids=str)
@pytest.mark.parametrize("dim", [1, 7, 384, 1280])
def test_canonical_sums_are_exact(dtype: Any, dim: int) -> None:
    """The claim of `canonical`: no rounding at all happens before the one to float32."""
    queries = np.concatenate([unit(3, dim), adversarial(dim)])
    anchors = queries if dtype is None else (queries * np.float32(1.01)).astype(dtype)
    assert np.linalg.norm(anchors.astype(np.float64), axis=1).max() < 1.015
    left, right = reference.on_grid(queries), reference.on_grid(anchors)
    every = topk_similarity(queries, [anchors], len(anchors), engine="torch")
    for q, row in enumerate(left):
        for place, a in enumerate(every.indices[q]):
            products = [Fraction(x) * Fraction(y) for x, y in zip(row.tolist(), right[a].tolist(), strict=True)]
            exact = sum(products, Fraction(0))
            assert (
                math.fsum(map(float, products))
                == float(exact)
                == float(row @ right[a])
                == float(np.sum(row * right[a]))
            )
            assert every.scores[q, place] == np.float32(float(exact))
            assert Fraction(float(exact)) == exact  # float64 holds it whole


def test_float16_is_on_the_grid_already() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    small = every[np.abs(np.nan_to_num(every, nan=9)) <= 1]
    assert len(small) > 2**14
    np.testing.assert_array_equal(reference.on_grid(small), small.astype(np.float64))
    tenth = np.array([0.1], np.float32)
    assert reference.on_grid(tenth) != tenth  # float32 is not: the test can fail
    assert GRID == 2**26


EXTREME = [3.4e38, 1.0, 2.0**-126, 1e-45, 0.0, -1e-45, -(2.0**-126), -0.5, -1.0, -3.4e38]


def test_sort_keys_order_and_come_back() -> None:
    scores = torch.tensor([EXTREME, EXTREME[::-1]], dtype=torch.float32)
    for first in (0, 2**31 - 5, 2**31 + 7, 2**32 - len(EXTREME)):
        keys = torch_.sort_keys(scores, first)
        assert (keys[0, :-1] > keys[0, 1:]).all() and (keys[1, :-1] < keys[1, 1:]).all()
        back = torch_.unpack(keys)
        np.testing.assert_array_equal(back.scores.view(np.int32), scores.numpy().view(np.int32))
        np.testing.assert_array_equal(back.indices, np.tile(np.arange(first, first + len(EXTREME)), (2, 1)))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_sort_keys_are_the_tie_rule(values: list[float]) -> None:
    scores = torch.tensor([values], dtype=torch.float32)
    found = torch_.unpack(torch_.sort_keys(scores, 0).sort(dim=1, descending=True).values)
    assert_same(found, reference.topk(scores.numpy() + np.float32(0), len(values)))  # -0.0 comes back as 0.0
    assert_same(found, topk(scores.numpy() + np.float32(0), len(values) + 3))


def test_topk_of_dense_scores() -> None:
    scores = np.array([[0.5, 0.9, 0.9, -1.0], [0.0, -0.0, 0.0, -0.0]], np.float32)
    assert topk(scores, 3).indices.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert topk(scores, 9).scores[0].tolist() == pytest.approx([0.9, 0.9, 0.5, -1.0])


def sparse(count: int, width: int, k: int, seed: int = 0, scale: float = 1.0) -> SparseRows:
    """Return random rows of about length `scale`, some entries zero."""
    random = np.random.default_rng(seed)
    indices = np.stack([random.permutation(width)[:k] for _ in range(count)]) if count else np.empty((0, k))
    values = np.maximum(random.standard_normal((count, k)), 0)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return SparseRows(indices.astype(np.int64), (values * scale).astype(np.float32), width)


@pytest.mark.parametrize(("a", "b"), [(0, 3), (3, 0), (1, 1), (7, 67)])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 30.0])
def test_sparse_similarity_is_the_dense_product(a: int, b: int, scale: float) -> None:
    left, right = sparse(a, 90, 20, 1, scale), sparse(b, 90, 35, 2)
    found = sparse_similarity(left, right)
    plain = left.dense().astype(np.float64) @ right.dense().astype(np.float64).T
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-7 * scale)
    np.testing.assert_array_equal(found, reference.sparse_similarity(left, right))
    assert (found.shape, found.dtype) == ((a, b), np.float32)


def test_sparse_similarity_of_special_rows() -> None:
    rows = sparse(4, 30, 8)
    zero = SparseRows(rows.indices[:1], np.zeros((1, 8), np.float32), 30)
    twice = rows.join([zero, rows[1:2]])
    found = sparse_similarity(twice, twice)
    assert (found[4] == 0).all() and (found[:, 4] == 0).all()
    np.testing.assert_array_equal(found[1], found[5])
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found.diagonal(), [1, 1, 1, 1, 0, 1], rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(start=st.integers(0, 12), size=st.integers(0, 12), seed=st.integers(0, 99))
def test_sparse_similarity_does_not_depend_on_batch_or_order(start: int, size: int, seed: int) -> None:
    a, b = sparse(12, 40, 9, seed), sparse(15, 40, 30, seed + 100)
    whole = sparse_similarity(a, b)
    np.testing.assert_array_equal(sparse_similarity(a[start : start + size], b), whole[start : start + size])
    np.testing.assert_array_equal(sparse_similarity(b, a), whole.T)
    shuffle = np.random.default_rng(seed).permutation(9)
    moved = SparseRows(a.indices[:, shuffle], a.values[:, shuffle], 40)
    np.testing.assert_array_equal(sparse_similarity(moved, b), whole)


def test_rows_of_any_length_keep_their_small_entries() -> None:
    """Rows as asif-paper leaves them: 1e-12 long, far below the grid, and still right to seven digits."""
    long, short = sparse(5, 40, 9, 3), sparse(5, 40, 9, 3, scale=1e-12)
    queries = sparse(6, 40, 20, 4)
    np.testing.assert_allclose(
        sparse_similarity(short, queries), sparse_similarity(long, queries) * 1e-12, rtol=1e-6, atol=1e-20
    )
    assert sparse_similarity(short, queries).max() > 1e-13


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


def test_unequal_widths_are_refused() -> None:
    with pytest.raises(UsageError, match="over 30 anchors were compared with rows over 31"):
        sparse_similarity(sparse(1, 30, 3), sparse(1, 31, 3))


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no CUDA device"):
        call(engine="cuda")
    assert_same(call(engine="auto"), call(engine="reference"))
