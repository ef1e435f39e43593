"""Rows that are hard to rank, the engines that must agree on them, and a fast oracle."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from support.machine import cuda_devices

from asif.kernels import api, native_binding
from asif.kernels.canonical import compute_scales, round_to_grid
from asif.vectors import Embeddings, Float32, Int64, SparseRows, TopK

if TYPE_CHECKING:
    import torch

Rows = NDArray[Any]
FLOAT16, BFLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32)
DTYPES = [FLOAT16, BFLOAT16, FLOAT32]
THREADS = (1, 2, 3, 5)
CUDA = cuda_devices() > 0
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # before anyone imports Triton: then kernels run on the CPU

# The engines of this machine; those it lacks are named by test_machine.py
CPU_ENGINES: list[Any] = [f"cpu-{name}" for name in native_binding.list_instruction_sets()]
TILE_ENGINES: list[Any] = [name.replace("cpu", "tiles") for name in CPU_ENGINES]
TRITON_ENGINES: list[Any] = ["cuda"] if CUDA else [pytest.param("interpreted", marks=pytest.mark.slow)]
EVERY_ENGINE = [*CPU_ENGINES, *TILE_ENGINES, *TRITON_ENGINES, "torch", "faiss"]
FAST_ENGINES = [*CPU_ENGINES, *TILE_ENGINES, *(["cuda"] if CUDA else []), "torch", "faiss"]


def interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine cuda run on the CPU, in Triton's interpreter.

    Its bfloat16 products are wrong, so those are taken in float32: they are exact, too.
    """
    import torch

    from asif.kernels import cuda, cuda_sparse, device_cache

    patch_once()
    halved = cuda.choose_product_type
    monkeypatch.setattr(
        cuda, "choose_product_type", lambda kind: torch.float32 if kind == torch.bfloat16 else halved(kind)
    )
    monkeypatch.setattr(api, "resolve_kernel", lambda engine: engine)
    monkeypatch.setattr(device_cache, "list_devices", lambda: [torch.device("cpu")])
    monkeypatch.setattr(device_cache, "measure_room", lambda device: 2**40)
    shape = cuda.choose_many_tiles
    monkeypatch.setattr(cuda, "choose_many_tiles", lambda asked: {**shape(asked), "ANCHORS": 1024})  # programs are slow
    monkeypatch.setattr(cuda, "WORDS_PER_PROGRAM", 512)
    monkeypatch.setattr(cuda_sparse, "ENTRIES", 64)
    monkeypatch.setattr(cuda_sparse, "POSTINGS", 1024)


@lru_cache
def patch_once() -> None:
    """Let the interpreter patch Triton's language once for each module: in each call it takes most of the time."""
    from triton.runtime import interpreter

    patch_lang = interpreter._patch_lang
    scopes: dict[str, Any] = {}

    def once(fn: Any) -> Any:
        module = fn.__globals__["__name__"]
        if module not in scopes:
            scopes[module] = patch_lang(fn)
            if scopes[module] is not None:  # older versions never take their patches back
                scopes[module].restore = lambda: None
        return scopes[module]

    interpreter._patch_lang = once


def poisoned(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Fill lists with words that name the first 32 anchors: who reads what was not written finds these twice."""
    import torch

    return torch.full(shape, 0xFFFFFFFF, dtype=dtype, device=device)


def unit(count: int, dim: int, seed: int = 0) -> Float32:
    raw = np.random.default_rng(seed).standard_normal((count, dim))
    return Embeddings.from_raw(raw).values if count else np.empty((0, dim), np.float32)


def stored(count: int, dim: int, dtype: Any = np.float16, seed: int = 1) -> Rows:
    return unit(count, dim, seed).astype(dtype)


def cut(rows: Rows, places: Sequence[int]) -> list[Rows]:
    return np.split(rows, sorted(places))


def frozen(rows: Rows) -> Rows:
    """Copy rows to memory that nobody can write to."""
    return np.frombuffer(np.ascontiguousarray(rows).tobytes() or b"", rows.dtype).reshape(rows.shape)


def nudged(rows: Rows, steps: Any) -> Rows:
    """Move entries by so many units in the last place of their type."""
    bits = rows.view(f"u{rows.itemsize}")
    return np.where((bits << 1) > 2, bits + np.asarray(steps).astype(bits.dtype), bits).view(rows.dtype)


def assert_equal_bits(found: Float32, expected: Float32) -> None:
    """Compare float32 numbers bit for bit, so that 0.0 is not -0.0."""
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


def assert_same(found: TopK, expected: TopK) -> None:
    assert found.indices.dtype == np.int64
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert_equal_bits(found.scores, expected.scores)


# The oracles


def exact(queries: Rows, anchors: Rows) -> Float32:
    """Score all pairs in one matrix product: float64 holds every partial sum whole (docs/numerics.md)."""
    product = round_to_grid(queries) @ round_to_grid(np.asarray(anchors, np.float32)).T
    return product.astype(np.float32) + np.float32(0)


def best(scores: Float32, k: int) -> TopK:
    """Keep the k best of [q, n] by the tie rule, sorting only those that may be among them."""
    k = min(k, scores.shape[1])
    indices = np.empty((len(scores), k), np.int64)
    for row, of_query in enumerate(scores):
        some = np.flatnonzero(of_query >= np.partition(of_query, -k)[-k])
        indices[row] = some[np.argsort(-of_query[some], kind="stable")][:k]
    return TopK(indices, np.take_along_axis(scores, indices, axis=1))


def oracle(queries: Rows, anchors: Rows, k: int) -> TopK:
    return best(exact(queries, anchors), k)


def exact_sparse(a: SparseRows, b: SparseRows) -> Float32:
    """Compare sparse rows in one matrix product of rows spread out."""
    left, right = compute_scales(a.values), compute_scales(b.values)
    product = round_to_grid(a.to_dense() / left) @ round_to_grid(b.to_dense() / right).T
    return (product * left * right.T).astype(np.float32) + np.float32(0)


def merged(shards: Sequence[TopK], starts: Sequence[int], k: int) -> TopK:
    """Merge what was found in shards whose first anchors are `starts`."""
    indices = np.concatenate([shard.indices + start for shard, start in zip(shards, starts, strict=True)], axis=1)
    scores = np.concatenate([shard.scores for shard in shards], axis=1)
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    return TopK(np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1))


# Large searches, each of which leads the compiled kernels astray in its own way


@dataclass(frozen=True)
class Case:
    queries: Float32
    anchors: Rows
    k: int

    @cached_property
    def expected(self) -> TopK:
        return oracle(self.queries, self.anchors, self.k)

    @cached_property
    def blocks(self) -> list[Rows]:
        """The anchors in uneven blocks, an empty one among them."""
        n = len(self.anchors)
        return cut(self.anchors, [1, n // 7, n // 7, n // 2 + 3])


def sampled(queries: int, count: int, k: int) -> tuple[Int64, Int64]:
    """Name the anchors that topk.cpp (guess_floors) samples in its first and in its second, larger part."""
    worth = 0.15 / (0.1 / queries + 0.0015)
    balanced = (worth * k * k / count) ** (2 / 3)
    expected = max(min(balanced, k / 8), min(k / 4, 1024 * k / count))
    first = min(expected, 8.0)

    def spread(members: float, offset: float) -> Int64:
        size = math.ceil(members * count / k)
        return ((np.arange(size) + offset) * (count / max(size, 1))).astype(np.int64)

    return spread(first, 0.0), spread(expected - first, 0.5)


def misleading(queries: int, count: int, k: int, part: int, dtype: Any = np.float16, dim: int = 32) -> Case:
    """Let only sampled anchors score high, but fewer than k: the guessed floor is too high for all others."""
    shown = sampled(queries, count, k)[part]
    shown = shown[np.linspace(0, len(shown) - 1, min(len(shown), k - 1)).astype(int)]
    return raised(queries, count, k, shown, dtype, dim)


def raised(queries: int, count: int, k: int, high: Any, dtype: Any = np.float16, dim: int = 32) -> Case:
    """Let the anchors `high` score about 0.9 with every query, all others less than 0.3."""
    random = np.random.default_rng(count + k)
    asked, anchors = 0.02 * random.standard_normal((queries, dim)), 0.02 * random.standard_normal((count, dim))
    asked[:, 0], anchors[:, 0], anchors[:, 1] = 1, 0.2, 1
    anchors[high, 0], anchors[high, 1] = 1, 0.2
    return Case(Embeddings.from_raw(asked).values, Embeddings.from_raw(anchors).values.astype(dtype), k)


def tied_rows() -> dict[str, Rows]:
    """Return anchors [n, 4] whose scores tie or sit at the edges of float32."""
    base = stored(5, 4, np.float32)
    small = np.zeros((6, 4), np.float32)
    small[:, 0] = [1e-45, -1e-45, 2.0**-27, -(2.0**-27), 0.0, -0.0]
    return {
        "duplicated": base[[0, 1, 0, 2, 1, 0, 3, 4, 2, 0]],
        "all equal": base[[2] * 12],
        "all negative": -np.abs(base),
        "opposite": np.concatenate([base, -base]),
        "zeros": np.zeros((4, 4), np.float32),
        "negative zeros": -np.zeros((3, 4), np.float32),
        "tiny": small,
    }


def ranked(count: int, dim: int, queries: int, k: int, dtype: Any, order: int = 1) -> Case:
    """Sort the anchors by what they score, the best last (order 1) or first (-1); all queries are close together."""
    asked = Embeddings.from_raw(unit(1, dim, 3) + 0.01 * unit(queries, dim, 4)).values
    anchors = stored(count, dim, dtype, 5)
    return Case(asked, anchors[np.argsort(exact(asked[:1], anchors)[0])[::order]], k)


def near_ties(count: int, dim: int, queries: int, k: int, dtype: Any, apart: float) -> Case:
    """Pack all anchors so close around one that cheap products cannot tell them apart."""
    middle = unit(1, dim, 6)
    anchors = Embeddings.from_raw(middle + apart * unit(count, dim, 7)).values.astype(dtype)
    return Case(Embeddings.from_raw(middle + 0.3 * unit(queries, dim, 8)).values, anchors, k)


def aligned(
    queries: int, dim: int, count: int = 6000, k: int = 5, moved: str = "anchors", half: Any = BFLOAT16
) -> Case:
    """Let rounding to `half` take from products as much as the bound allows, and scores differ by less.

    Most anchors score the same and fill the lists. The best 2k come last, and score hardly more; `moved` says which
    side loses by rounding: of the anchors, only the best do; with the queries, all products come out low.
    """
    random = np.random.default_rng(dim)
    low = np.array([dim**-0.5]).astype(half)
    low, high = float(low[0]), float(nudged(low, 1)[0])  # numbers between them are cut, up to the middle
    level = random.permutation(np.where(np.arange(dim) < dim // 2, high, low))  # exact, and in the middle on average
    anchors = np.tile(level, (count, 1))
    if moved == "anchors":
        asked = np.full((queries, dim), low)
        anchors[:, np.flatnonzero(level == high)[: max(1, dim // 200)]] = low
        anchors[-2 * k :] = 0.5001 * low + 0.4999 * high
    else:
        asked = np.full((queries, dim), 0.501 * low + 0.499 * high)
        anchors[-2 * k :, 0] += high - low
    signs = random.choice([-1.0, 1.0], dim)
    return Case((asked * signs).astype(np.float32), (anchors * signs).astype(np.float32), k)


def repeated(distinct: int, count: int, dim: int, queries: int, k: int, dtype: Any) -> Case:
    """Repeat few distinct rows in a random order; with one, all scores are equal."""
    which = np.random.default_rng(distinct).integers(0, distinct, count)
    return Case(unit(queries, dim, 9), stored(distinct, dim, dtype, 10)[which], k)


def signed(case: Case, sign: float) -> Case:
    """Make all entries of the queries positive, all of the anchors of one sign."""
    return Case(np.abs(case.queries), (sign * np.abs(case.anchors)).astype(case.anchors.dtype), case.k)


def tiny(count: int, dim: int, queries: int, k: int, dtype: Any) -> Case:
    """Give rows entries at and below the smallest normal numbers of their type, and some that count."""
    anchors = stored(count, dim, dtype, 11)
    smallest = {FLOAT16: 2.0**-24, BFLOAT16: 2.0**-133, FLOAT32: 2.0**-149}[np.dtype(dtype)]
    random = np.random.default_rng(12)
    small = (random.integers(-1000, 1000, anchors.shape) * smallest).astype(dtype)
    anchors = np.where(random.random(anchors.shape) < 0.7, small, anchors)
    anchors[::3] = small[::3]
    return Case(unit(queries, dim, 13), anchors, k)


def plain(count: int, dim: int, queries: int, k: int, dtype: Any) -> Case:
    return Case(unit(queries, dim, 14), stored(count, dim, dtype, 15), k)


# Up to 8 queries are multiplied by rows as stored, more by converted rows, in groups of 32 to 128. Fewer than 5k
# anchors are scored exactly; from 2k on, a sample guesses the floor.
CASES: dict[str, Callable[[], Case]] = {
    "many panels": lambda: plain(9_001, 33, 391, 10, FLOAT16),
    "wide rows": lambda: plain(1_501, 1280, 37, 20, FLOAT16),
    "wide rows, few queries": lambda: plain(3_001, 1280, 3, 20, BFLOAT16),
    "tail of 31": lambda: plain(20_003, 31, 130, 13, FLOAT32),
    "three dimensions": lambda: plain(20_011, 3, 65, 7, BFLOAT16),
    "one dimension": lambda: plain(3_001, 1, 40, 7, FLOAT32),
    "both samples": lambda: plain(30_011, 32, 40, 400, FLOAT16),
    "both samples, few queries": lambda: plain(30_011, 64, 8, 400, FLOAT32),
    "one query": lambda: plain(60_013, 64, 1, 50, FLOAT16),
    "most belong to the top": lambda: plain(4_001, 33, 131, 1_500, BFLOAT16),
    "all belong to the top": lambda: plain(2_003, 65, 41, 3_000, FLOAT16),
    "lists for some queries at a time": lambda: plain(11_003, 3, 260, 11_003, FLOAT16),
    "best last": lambda: ranked(20_011, 32, 129, 3, FLOAT16),
    "best last, few queries": lambda: ranked(30_011, 64, 5, 3, FLOAT32),
    "best last, most belong": lambda: ranked(3_001, 64, 33, 900, FLOAT32),
    "best first": lambda: ranked(10_007, 64, 130, 100, FLOAT16, -1),
    "all equal": lambda: repeated(1, 9_001, 64, 130, 7, FLOAT16),
    "all equal, few queries": lambda: repeated(1, 30_011, 64, 6, 100, FLOAT32),
    "all equal, most belong": lambda: repeated(1, 3_001, 64, 33, 1_000, BFLOAT16),
    "repeated": lambda: repeated(50, 9_001, 65, 130, 300, FLOAT32),
    "all negative": lambda: signed(plain(9_001, 64, 130, 20, FLOAT32), -1),
    "all positive": lambda: signed(plain(9_001, 64, 130, 20, FLOAT16), 1),
    "tiny float16": lambda: tiny(5_003, 65, 40, 11, FLOAT16),
    "tiny bfloat16": lambda: tiny(5_003, 65, 8, 11, BFLOAT16),
    "tiny float32": lambda: tiny(5_003, 65, 40, 1_200, FLOAT32),
    "near ties within bfloat16": lambda: near_ties(6_007, 64, 130, 10, FLOAT32, 1e-3),
    "near ties within float32": lambda: near_ties(9_001, 384, 40, 10, FLOAT32, 3e-7),
    "near ties within float32, few queries": lambda: near_ties(9_001, 384, 4, 10, FLOAT32, 3e-7),
    "near ties within float16": lambda: near_ties(9_001, 64, 40, 10, FLOAT16, 2e-3),
    "rounded anchors lose": lambda: aligned(40, 64),
    "rounded anchors lose, 384": lambda: aligned(40, 384),
    "rounded queries lose": lambda: aligned(40, 64, moved="queries"),
    "rounded queries lose, 384": lambda: aligned(40, 384, moved="queries"),
    "rows that many queries score": lambda: plain(3_001, 1280, 33, 200, FLOAT16),
    "near ties that many queries score": lambda: near_ties(3_001, 384, 40, 200, FLOAT32, 3e-7),
    "tiny rows that many queries score": lambda: tiny(3_001, 65, 40, 200, FLOAT32),
    "misleading": lambda: misleading(130, 6_007, 1_000, 0),
    "misleading, second sample": lambda: misleading(40, 9_007, 1_500, 1),
    "misleading, few queries": lambda: misleading(3, 6_007, 1_000, 1, FLOAT32, 384),
    "misleading, most belong": lambda: misleading(70, 3_001, 1_000, 0, BFLOAT16),
    **{
        f"every {period}th": lambda period=period: raised(40, 6_000, 6_000 // period + 5, slice(None, None, period))
        for period in (7, 40, 100)
    },
    "every 100th, sampled": lambda: raised(40, 6_000, 800, slice(None, None, 100)),
}


@lru_cache(len(CASES))
def case(name: str) -> Case:
    return CASES[name]()


# Small searches, for property tests


def hard(kind: str, count: int, dim: int, dtype: Any, seed: int) -> Rows:
    """Return rows, at most 1.01 long, whose scores are close, equal or extreme in the named way."""
    random = np.random.default_rng(seed)
    rows = unit(count, dim, seed)
    if kind == "one unit in the last place apart":
        return nudged(np.tile(unit(1, dim, seed).astype(dtype), (count, 1)), random.integers(-1, 2, (count, dim)))
    if kind == "between grid points":
        rows = ((random.integers(-9, 9, (count, dim)) + 0.5) * 2.0**-26).astype(np.float32)
        rows[:, 0] = 0.99
    elif kind == "few values":
        whole = random.integers(-2, 3, (count, dim)) + np.where(np.arange(dim) == 0, 0.25, 0.0)
        rows = Embeddings.from_raw(whole).values
    elif kind == "copies":
        rows = rows[random.integers(0, min(count, 3), count)]
    elif kind == "long":
        rows = rows * np.float32(1.01)
    elif kind == "tiny":
        rows = np.where(random.random(rows.shape) < 0.5, rows * np.float32(2.0**-20), rows)
    elif kind == "zeros":
        rows = rows * (random.random((count, 1)) < 0.5) * np.float32(-1)
    return rows.astype(dtype)


HARD = ["one unit in the last place apart", "between grid points", "few values", "copies", "long", "tiny", "zeros"]


def adversarial(dim: int) -> Float32:
    """Return unit rows whose products cancel, whose sums reach the edge, and whose entries lie between grid points."""
    ramp = 2.0 ** -np.arange(dim)
    signs = np.where(np.arange(dim) % 2, -1.0, 1.0)
    flat, peak, step = np.ones(dim), np.full(dim, 2.0**-27), np.linspace(1, 2, dim) * signs
    peak[0] = 1
    return Embeddings.from_raw(np.stack([ramp, ramp * signs, flat, flat * signs, peak, step])).values
