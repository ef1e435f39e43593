"""Exact sparse comparison: every engine gives the same bits as the definition, however its index is laid out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.kernels_cases import (
    CPU_ENGINES,
    CUDA,
    THREADS,
    TRITON_ENGINES,
    assert_equal_bits,
    assert_same,
    best,
    exact_sparse,
)
from support.late import Late

from asif.errors import BadEmbedding, UsageError
from asif.kernels import SparseIndex, canonical, reference, sparse_similarity, sparse_topk
from asif.kernels import sparse as kernels
from asif.vectors import Float32, SparseRows, TopK, join_rows

if TYPE_CHECKING:
    import torch
else:
    torch = Late("torch")

EVERY_ENGINE = [*CPU_ENGINES, *TRITON_ENGINES, "scipy"]
on_every_engine = pytest.mark.parametrize("engine", EVERY_ENGINE, indirect=True)
on_every_cpu = pytest.mark.parametrize("engine", CPU_ENGINES, indirect=True)
LAYOUTS = ((64, 1), (64, 5), (128, 2), (192, 3), (2**16, 2))  # rows to a tile, threads
CUTS = ((64, 1, 1), (2048, 1, 30), (128, 5, 700), (2**16, 3, 6_000))  # the same, and k
KEPT = {  # width, and entries of a row of the queries and of the index, by how both are kept
    "postings": (300, 5, 7),
    "columns": (40, 5, 20),
    "columns and dense queries": (130, 40, 60),
}


def slow(engine: str) -> bool:
    """Tell whether an engine runs in Triton's interpreter, which takes one kernel at a time, and its time."""
    return engine == "cuda" and not CUDA


def sparse(count: int, width: int, k: int, seed: int = 0, scale: float = 1.0) -> SparseRows:
    """Return random rows of about length `scale`, some entries zero."""
    return rows(np.maximum(np.random.default_rng(seed).standard_normal((count, k)), 0), width, seed, scale)


def rows(values: Any, width: int, seed: int = 0, scale: Any = 1.0) -> SparseRows:
    """Put values, brought to length `scale`, at random places."""
    count, k = values.shape
    indices = np.random.default_rng(seed).random((count, width)).argsort(axis=1)[:, :k]
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return SparseRows(indices.astype(np.int64), (values * scale).astype(np.float32), width)


KINDS = ["unit", "negative", "few values", "copies", "any length", "small entries", "zero rows", "tiny", "huge"]


def hard(kind: str, count: int, width: int, k: int, seed: int) -> SparseRows:
    """Return rows whose comparison is difficult in the named way."""
    random = np.random.default_rng(seed)
    values, scale = random.standard_normal((count, k)), np.ones((count, 1))
    if kind == "unit":
        return sparse(count, width, k, seed)
    if kind == "few values":
        values = random.integers(-1, 3, (count, k)) + 0.0
    elif kind == "copies":
        made = rows(values[:2], width, seed)
        which = random.integers(0, len(made), count) if count else np.empty(0, int)
        return SparseRows(made.indices[which], made.values[which], width)
    elif kind == "any length":
        scale = 10.0 ** random.uniform(-9, 9, (count, 1))
    elif kind == "small entries":
        values *= 2.0 ** -random.integers(0, 40, (count, k))
    elif kind == "zero rows":
        scale = random.integers(-1, 2, (count, 1))
    elif kind == "tiny":
        scale *= 1e-30
    elif kind == "huge":
        scale *= 1e30
    return rows(values, width, seed, scale)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many rows, a multiple of 64, an inverted index has to a tile."""

    def use(size: int) -> None:
        monkeypatch.setattr(kernels, "SMALLEST_TILE", size)
        monkeypatch.setattr(kernels, "LARGEST_TILE", size)

    return use


def test_the_fast_oracle_is_the_definition() -> None:
    for seed, kind in enumerate(KINDS):
        other = "unit" if kind in {"tiny", "huge"} else kind
        a, b = hard(kind, 7, 40, 9, seed), hard(other, 11, 40, 20, seed + 50)
        assert_equal_bits(exact_sparse(a, b), reference.sparse_similarity(a, b) + np.float32(0))


@on_every_engine
@pytest.mark.parametrize(("a", "b"), [(0, 3), (3, 0), (0, 0), (1, 1), (7, 67), (70, 129)])
@pytest.mark.parametrize("scale", [1.0, 1e-9, 30.0])
def test_sparse_similarity_is_the_dense_product(engine: Any, a: int, b: int, scale: float) -> None:
    left, right = sparse(a, 90, 20, 1, scale), sparse(b, 90, 35, 2)
    found = sparse_similarity(left, right, engine=engine)
    plain = left.to_dense().astype(np.float64) @ right.to_dense().astype(np.float64).T
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-7 * scale)
    np.testing.assert_array_equal(found, reference.sparse_similarity(left, right))
    assert (found.shape, found.dtype) == ((a, b), np.float32)


@lru_cache
def compared(kind: str, kept: str) -> tuple[SparseRows, SparseRows, Float32, TopK]:
    """Return queries, a gallery, their scores and the 11 best of them."""
    width, asked, k = KEPT[kept]
    other = "unit" if kind in {"tiny", "huge"} else kind  # products stay within float32
    queries, gallery = hard(kind, 37, width, asked, 1), hard(other, 333, width, k, 2)
    scores = exact_sparse(queries, gallery)
    return queries, gallery, scores, best(scores, 11)


@on_every_engine
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_gives_the_same_bits(engine: Any, kept: str, kind: str, tiles: Any, threads: Any) -> None:
    queries, gallery, scores, top = compared(kind, kept)
    for size, count in LAYOUTS if engine == "cpu" else LAYOUTS[:1]:
        tiles(size)
        threads(count)
        index = SparseIndex(gallery)
        assert_equal_bits(sparse_similarity(queries, index, engine=engine), scores)
        assert_same(sparse_topk(queries, index, 11, engine=engine), top)
        assert_same(sparse_topk(queries[:1], index, 11, engine=engine), TopK(top.indices[:1], top.scores[:1]))
        if engine == "cpu":
            assert (index.compiled.columns is None) == (kept == "postings")
            np.testing.assert_array_equal(index.compiled.scales[:, None], canonical.compute_scales(gallery.values))


@on_every_engine
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(25))
@given(data=st.data())
def test_independent_of_every_cut(engine: Any, tiles: Any, threads: Callable[[int], None], data: st.DataObject) -> None:
    width = data.draw(st.sampled_from([1, 2, 17, 90, 700]))
    kinds = st.sampled_from(KINDS[:-2])
    asked, count, seed = (
        data.draw(st.integers(1, 4 if slow(engine) else 70)),
        data.draw(st.integers(1, 300)),
        data.draw(st.integers(0, 2**20)),
    )
    queries = hard(data.draw(kinds), asked, width, min(width, data.draw(st.integers(1, 12))), seed)
    gallery = hard(data.draw(kinds), count, width, min(width, data.draw(st.integers(1, 30))), seed + 1)
    tiles(64 * data.draw(st.integers(1, 6)))
    threads(data.draw(st.sampled_from(THREADS)))
    expected, index = exact_sparse(queries, gallery), SparseIndex(gallery)
    assert_equal_bits(sparse_similarity(queries, index, engine=engine), expected)
    assert_equal_bits(sparse_similarity(gallery, queries, engine=engine), np.ascontiguousarray(expected.T))
    some = slice(*sorted(data.draw(st.lists(st.integers(0, asked), min_size=2, max_size=2))))
    assert_equal_bits(sparse_similarity(queries[some], index, engine=engine), expected[some])
    k = data.draw(st.sampled_from([1, 3, count // 2 + 1, count, count + 3]))
    assert_same(sparse_topk(queries, index, k, engine=engine), best(expected, k))
    shuffle = np.random.default_rng(seed).permutation(gallery.indices.shape[1])
    moved = SparseRows(gallery.indices[:, shuffle], gallery.values[:, shuffle], width)
    assert_same(sparse_topk(queries, moved, k, engine=engine), best(expected, k))


def rising(count: int) -> SparseRows:
    """Return a gallery whose rows score ever more with anchor 0, ten at a time alike."""
    share = np.linspace(0.1, 0.9, count // 10 + 1).repeat(10)[:count]
    filler = np.random.default_rng(3).integers(1, 500, count)
    return SparseRows(
        np.stack([np.zeros(count, np.int64), filler], axis=1),
        np.stack([share, np.sqrt(1 - share**2)], axis=1).astype(np.float32),
        500,
    )


@lru_cache
def overflowing() -> list[tuple[SparseRows, SparseRows, Float32]]:
    """Return queries, galleries that score ever more, ever less, mixed, alike, alike but for a few, and the scores."""
    queries = SparseRows(
        np.stack([np.zeros(40, np.int64), np.arange(40) + 1], axis=1), np.tile(np.float32([1, 0.01]), (40, 1)), 500
    )
    up, mixed = rising(6_000), np.random.default_rng(4).permutation(6_000)
    equal = SparseRows(np.zeros((6_000, 1), np.int64), np.full((6_000, 1), 0.75, np.float32), 500)
    better = equal.values.copy()
    better[299::300] += np.float32(2.0**-24)  # by one unit in the last place
    galleries = [
        up,
        SparseRows(up.indices[::-1], up.values[::-1], 500),
        SparseRows(up.indices[mixed], up.values[mixed], 500),
        equal,
        SparseRows(equal.indices, better, 500),
    ]
    return [(queries, gallery, exact_sparse(queries, gallery)) for gallery in galleries]


@on_every_engine
@pytest.mark.parametrize("asked", [1, 40])
def test_lists_of_the_best_overflow(engine: Any, asked: int, tiles: Any, threads: Any) -> None:
    asked = min(asked, 5) if slow(engine) else asked
    for queries, gallery, scores in overflowing():
        for size, count, k in CUTS if engine == "cpu" else CUTS[1:2]:
            tiles(size)
            threads(count)
            assert_same(sparse_topk(queries[:asked], gallery, k, engine=engine), best(scores[:asked], k))


@on_every_engine
def test_ties_go_to_the_smaller_index(engine: Any) -> None:
    same = sparse(1, 50, 9)
    gallery = SparseRows(same.indices.repeat(200, 0), same.values.repeat(200, 0), 50)
    assert sparse_topk(same, gallery, 5, engine=engine).indices.tolist() == [[0, 1, 2, 3, 4]]
    nothing = SparseRows(same.indices, np.zeros_like(same.values), 50)
    found = sparse_topk(nothing, gallery, 200, engine=engine)
    assert found.indices.tolist() == [list(range(200))]
    assert not found.scores.view(np.int32).any()


@on_every_engine
def test_what_is_empty_or_short(engine: Any) -> None:
    some, nobody = sparse(3, 40, 9), sparse(0, 40, 9)
    for index in (some, SparseIndex(some)):
        found = sparse_topk(nobody, index, 2, engine=engine)
        assert (found.indices.shape, found.scores.shape) == ((0, 2), (0, 2))
        assert sparse_topk(some, index, 99, engine=engine).indices.shape == (3, 3)
    assert sparse_topk(some, nobody, 5, engine=engine).scores.shape == (3, 0)
    assert sparse_similarity(some, SparseIndex(nobody), engine=engine).shape == (3, 0)
    without = SparseRows(np.empty((2, 0), np.int64), np.empty((2, 0), np.float32), 40)  # rows of no entries
    assert not sparse_similarity(some, without, engine=engine).view(np.int32).any()
    assert sparse_topk(without, some, 3, engine=engine).indices.tolist() == [[0, 1, 2]] * 2


@on_every_engine
def test_sparse_similarity_of_special_rows(engine: Any) -> None:
    some = sparse(4, 30, 8)
    zero = SparseRows(some.indices[:1], np.zeros((1, 8), np.float32), 30)
    twice = join_rows([some, zero, some[1:2]])
    assert isinstance(twice, SparseRows)
    found = sparse_similarity(twice, twice, engine=engine)
    assert (found[4] == 0).all() and (found[:, 4] == 0).all()
    np.testing.assert_array_equal(found[1], found[5])
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found.diagonal(), [1, 1, 1, 1, 0, 1], rtol=0, atol=1e-6)


@on_every_engine
def test_rows_of_any_length_keep_their_small_entries(engine: Any) -> None:
    """Rows as asif-paper leaves them: 1e-12 long, far below the grid, and still right to seven digits."""
    long, short = sparse(5, 40, 9, 3), sparse(5, 40, 9, 3, scale=1e-12)
    queries = sparse(6, 40, 20, 4)
    plain, small = (sparse_similarity(each, queries, engine=engine) for each in (long, short))
    np.testing.assert_allclose(small, plain * 1e-12, rtol=1e-6, atol=1e-20)
    assert small.max() > 1e-13


def around(number: float) -> Float32:
    """Return the float32 numbers closest to one."""
    middle = np.array([number], np.float32).view(np.int32)
    return (middle + np.arange(-3, 4)).astype(np.int32).view(np.float32)


@on_every_cpu
@pytest.mark.parametrize("power", [-140, -126, -30, -1, 0, 1, 30, 126])
def test_the_scale_of_a_row_is_chosen_alike(engine: Any, power: int) -> None:
    """Rows between 1.4 and 1.4 long, as good as: whether 1 or 2 is nearest must not depend on who asks."""
    edge = 45875.5 / 2**15  # 1.4, between two numbers of 16 bits
    ones = [np.stack([v, np.zeros_like(v)], axis=1) for v in map(around, (edge, 1.4, 1.0, 2.0, 2**0.5, 1.0 + 2.0**-16))]
    twos = [
        np.stack([v, np.full_like(v, 0.5)], axis=1) for v in map(around, (1.3, (1.96 - 0.25) ** 0.5, 1.5 * 2.0**-16))
    ]
    values = np.concatenate([*ones, *twos, np.random.default_rng(5).uniform(-1, 1, (900, 2))])
    values = np.ldexp(values.astype(np.float64), power).astype(np.float32)
    chosen = canonical.compute_scales(values)
    if power > -126:  # subnormal numbers are fewer, and none of these on the edge
        assert len(np.unique(chosen[:7])) == 2
    # an anchor of its own tells the scale: it is just too small for the grid of the one, not for that of the other
    third = np.ldexp(1.3, power - 26).astype(np.float32)
    values = np.concatenate([values, np.full((len(values), 1), third)], axis=1)
    some = SparseRows(np.tile([3, 1, 7], (len(values), 1)), values, 90)
    queries = SparseRows(np.array([[7], [3], [1]]), np.ones((3, 1), np.float32), 90)
    index = SparseIndex(some)
    assert_equal_bits(sparse_similarity(queries, index, engine=engine), exact_sparse(queries, some))
    assert_equal_bits(sparse_similarity(some, queries, engine=engine), exact_sparse(some, queries))
    np.testing.assert_array_equal(index.compiled.scales[:, None], canonical.compute_scales(values))


@on_every_engine
def test_however_arrays_lie_in_memory(engine: Any) -> None:
    queries, gallery = sparse(6, 60, 9, 1), sparse(80, 60, 9, 2)
    expected = exact_sparse(queries, gallery)

    def layouts(some: SparseRows) -> list[SparseRows]:
        i, v = some.indices, some.values
        frozen = v.copy()
        frozen.flags.writeable = False
        return [
            SparseRows(i.astype(np.int32), v, 60),
            SparseRows(np.asfortranarray(i), np.asfortranarray(v), 60),
            SparseRows(np.ascontiguousarray(i[::-1])[::-1], np.ascontiguousarray(v[:, ::-1])[:, ::-1], 60),
            SparseRows(i.repeat(2, 0)[::2], v.repeat(3, 1)[:, ::3], 60),
            SparseRows(i, frozen, 60),
        ]

    for number, (left, right) in enumerate(zip(layouts(queries), layouts(gallery), strict=True)):
        assert_equal_bits(sparse_similarity(left, right, engine=engine), expected), number
        assert_same(sparse_topk(left, right, 7, engine=engine), best(expected, 7)), number
    assert_same(sparse_topk(queries, gallery, 7, engine=engine), best(expected, 7))  # nothing was written through


@on_every_engine
def test_one_index_serves_many_calls(engine: Any) -> None:
    gallery = sparse(300, 90, 9, 1)
    index, batches = SparseIndex(gallery), [sparse(3 if slow(engine) else 20, 90, 12, seed) for seed in range(8)]

    def ask(batch: SparseRows) -> tuple[Float32, TopK]:
        return sparse_similarity(batch, index, engine=engine), sparse_topk(batch, index, 9, engine=engine)

    with ThreadPoolExecutor(1 if slow(engine) else 4) as pool:  # the index is made by whoever comes first
        found = list(pool.map(ask, batches))
    for (scores, top), batch in zip([*found, *map(ask, batches)], batches * 2, strict=True):
        assert_equal_bits(scores, exact_sparse(batch, gallery))
        assert_same(top, best(scores, 9))


# What does not fit


@on_every_cpu
@pytest.mark.parametrize("anchor", [-1, 30, 2**31, 2**32 + 1, 2**40, -(2**63), 2**63 - 1])
def test_anchors_out_of_range_are_refused(engine: Any, anchor: int, threads: Callable[[int], None]) -> None:
    threads(3)
    good = sparse(99, 30, 5)
    wrong = SparseRows(good.indices.copy(), good.values, 30)
    wrong.indices[77, 2] = anchor
    for call in (
        lambda: sparse_similarity(wrong, good, engine=engine),
        lambda: sparse_similarity(good, SparseIndex(wrong), engine=engine),
        lambda: sparse_topk(wrong, good, 3, engine=engine),
        lambda: sparse_topk(good, wrong, 3, engine=engine),
    ):
        with pytest.raises(UsageError, match="a row names an anchor outside 0 to 29"):
            call()
    assert_equal_bits(sparse_similarity(good, good, engine=engine), exact_sparse(good, good))


REFUSED = """
import sys
import numpy as np
from asif.errors import BadEmbedding, UsageError
from asif.kernels import native_binding, sparse_similarity
from asif.vectors import SparseRows
native_binding.is_available = lambda: False
row = lambda anchor: SparseRows(np.array([[anchor]]), np.ones((1, 1), np.float32), 3)
for pair in [(row(int(sys.argv[1])), row(1)), (row(1), row(int(sys.argv[1])))]:
    try:
        sparse_similarity(*pair)
        sys.exit("nothing was refused")
    except UsageError as error:
        assert "a row names an anchor outside 0 to 2" in str(error)
"""


@pytest.mark.parametrize("anchor", [-1, 3, 2**40])
def test_anchors_out_of_range_are_refused_by_scipy_too(anchor: int) -> None:
    ran = subprocess.run([sys.executable, "-c", REFUSED, str(anchor)], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_unequal_widths_are_refused() -> None:
    for call in (sparse_similarity, lambda a, b: sparse_topk(a, b, 1)):
        with pytest.raises(UsageError, match="over 30 anchors were compared with rows over 31"):
            call(sparse(1, 30, 3), sparse(1, 31, 3))
        with pytest.raises(UsageError, match="over 30 anchors were compared with rows over 31"):
            call(sparse(1, 30, 3), SparseIndex(sparse(1, 31, 3)))


@pytest.mark.parametrize("k", [0, -2])
def test_fewer_than_one_row_is_refused(k: int) -> None:
    with pytest.raises(UsageError, match=f"k is {k}"):
        sparse_topk(sparse(1, 30, 3), sparse(1, 30, 3), k)


@pytest.mark.parametrize("call", [sparse_similarity, lambda a, b, engine: sparse_topk(a, b, 1, engine=engine)])
def test_unknown_engines_are_refused(call: Any) -> None:
    with pytest.raises(UsageError, match="the engine is 'gpu'"):
        call(sparse(1, 30, 3), sparse(1, 30, 3), engine="gpu")


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for call in (sparse_similarity, lambda a, b, engine: sparse_topk(a, b, 1, engine=engine)):
        with pytest.raises(UsageError, match="torch sees no CUDA device"):
            call(sparse(1, 30, 3), sparse(1, 30, 3), engine="cuda")


@pytest.mark.parametrize(
    "engine",
    [*CPU_ENGINES, *TRITON_ENGINES, "scipy", "reference"],
    indirect=True,
)
def test_what_vanishes_is_zero_without_a_sign(engine: Any) -> None:
    queries, gallery = hard("negative", 9, 20, 9, 1), hard("negative", 90, 20, 9, 2)
    queries, gallery = (SparseRows(of.indices, of.values * np.float32(1e-30), 20) for of in (queries, gallery))
    assert not sparse_similarity(queries, gallery, engine=engine).view(np.int32).any()
    top = sparse_topk(queries, gallery, 90, engine=engine)
    assert top.indices.tolist() == [list(range(90))] * 9
    assert not top.scores.view(np.int32).any()


@on_every_engine
def test_flushing_subnormals_changes_nothing(engine: Any) -> None:
    some = [hard("small entries", 90, 40, 20, seed) for seed in (1, 2)]
    for each in some:
        each.values[::2, ::3] *= np.float32(1e-38)
    expected = exact_sparse(*some)
    try:
        assert torch.set_flush_denormal(True)
        found = sparse_similarity(*some, engine=engine)
    finally:
        torch.set_flush_denormal(False)
    assert_equal_bits(found, expected)


@on_every_engine
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(engine: Any, bad: float) -> None:
    if engine == "reference":
        pytest.skip("the definition does not check")
    good, wrong = sparse(3, 30, 4), sparse(3, 30, 4)
    wrong.values[1, 2] = bad
    for a, b in ((good, wrong), (wrong, good)):
        with pytest.raises(BadEmbedding, match="not finite"):
            sparse_topk(a, b, 2, engine=engine)
