"""Top-k similarity on CUDA devices: fast products propose candidates, canonical scores rank them (docs/kernels.md).

A segment of anchors on a device is searched in four steps: estimate each query's score floor from a sample, list the
anchors whose products reach `floor - error`, compute their canonical scores, keep the k best. If the estimate was too
high, or a list too short, the query is searched in the segment again in float64: slower, but exact without a bound.

Memory in addition to inputs and result: at most LIST_BYTES of lists, SAMPLE_BYTES of sampled products, and the sample,
which is a few percent of the anchors; never [q, N]. The host waits for the device only once per segment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asif.errors import BadEmbedding, MissingDependency, OutOfSpace, UsageError
from asif.kernels import torch_
from asif.kernels.api import check_topk_input
from asif.kernels.device_cache import DeviceBlock, distribute_blocks
from asif.kernels.torch_ import as_tensor, merge_keys, unpack_indices, unpack_scores
from asif.vectors import Float32, TopK

FEW_QUERIES = 8  # up to this many queries, anchors are multiplied in their stored type
_MAX_LENGTH = 2**0.5  # largest length of a row, by contract
_SAMPLE_FACTOR = 32.0  # sampled anchors, relative to the cube root of N (k + 100); see docs/kernels.md
LIST_BYTES = 2**30
SAMPLE_BYTES = 2**28
WORDS_PER_PROGRAM = 16  # listed words that a program scores at a time
_EMPTY_KEY = -(2**63)  # the key of an unused slot
LAUNCH_OPTIONS = {"enable_fp_fusion": True}  # set explicitly for Triton; sums are exact with or without

Keys = torch.Tensor


def topk_similarity(queries: Float32, anchors: Sequence[NDArray[Any]], k: int) -> TopK:
    """Search arrays; anchors are cached on the devices, or streamed to them (see `device_cache`).

    Raises BadEmbedding if scores are not finite, OutOfSpace if memory runs out.
    """
    parts = distribute_blocks(anchors)
    on_device = as_tensor(np.asarray(queries, np.float32)).to(parts[0][0])
    keys = search_devices(on_device, parts, k)
    return torch_.unpack_topk(keys)


def topk_of_tensors(
    queries: torch.Tensor, anchors: Sequence[torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k anchors most similar to each query: indices int64 and scores float32, [q, min(k, N)] each.

    Like `kernels.topk_similarity`, for tensors: blocks [n, d] in float16, bfloat16 or float32 are read in place, on one
    or several CUDA devices, on the caller's stream; the result is on the device of the queries. Only blocks whose rows
    are not contiguous are copied. A few large blocks are faster than many small ones. Raises UsageError as
    `kernels.topk_similarity` does and for other types, BadEmbedding if scores are not finite, OutOfSpace if the memory
    of a device runs out.
    """
    k = check_topk_input(queries, anchors, k)
    strange = {str(block.dtype) for block in anchors} - {"torch.float16", "torch.bfloat16", "torch.float32"}
    if strange:
        raise UsageError(f"anchors are {', '.join(sorted(strange))}", "float16, bfloat16 or float32", "convert them")
    by_device: dict[torch.device, list[DeviceBlock]] = {}
    first = 0
    for block in anchors:
        if len(block):
            rows = block if block.shape[1] == 1 or block.stride(1) == 1 else block.contiguous()
            by_device.setdefault(block.device, []).append(DeviceBlock(rows, first))
        first += len(block)
    if not len(queries):
        return queries.new_empty((0, k), dtype=torch.int64), queries.new_empty((0, k), dtype=torch.float32)
    keys = search_devices(queries.to(torch.float32), list(by_device.items()), k)
    return unpack_indices(keys), unpack_scores(keys)


def search_devices(queries: torch.Tensor, parts: Sequence[tuple[torch.device, Iterable[DeviceBlock]]], k: int) -> Keys:
    """Search the parts, each on its device and in its own thread, and merge the results."""
    unfit = int((~torch.isfinite(queries)).any(dim=1).sum())
    if unfit:
        raise _not_finite_error(unfit, len(queries))
    streams = [current_stream(device) for device, _ in parts]

    def search(part: int) -> tuple[Keys, torch.Tensor]:
        device, segments = parts[part]
        with use_stream(streams[part]):
            return _search_device(queries.to(device), segments, k)

    try:
        if len(parts) == 1:
            found = [search(0)]
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                found = list(pool.map(search, range(len(parts))))
    except torch.OutOfMemoryError as error:
        raise OutOfSpace(
            "the memory of the device ran out during a search", "room for the anchors, or for a part of them",
            "free some on the device, or pass --engine cpu",
        ) from error  # fmt: skip
    keys, broken = (list(some) for some in zip(*found, strict=True))
    best: Keys = keys[0].to(queries.device)
    for more in keys[1:]:
        best = merge_keys(best, more.to(queries.device), k)
    unfit = int(sum(some.to(queries.device) for some in broken).count_nonzero())
    if unfit:
        raise _not_finite_error(unfit, len(queries))
    return best


def current_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return the stream that the caller uses on a device; there is none on the CPU."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def use_stream(stream: torch.cuda.Stream | None) -> AbstractContextManager[Any]:
    """Return a context in which kernels run on this stream and its device; one without effect for None."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def _not_finite_error(unfit: int, count: int) -> BadEmbedding:
    """Return the error for queries with scores that are not finite."""
    return BadEmbedding(
        f"{unfit} of {count} queries have scores that are not finite",
        "finite queries and anchors of unit length",
        "run asif anchors verify; look for NaN or infinity among the queries",
    )


def _search_device(queries: torch.Tensor, segments: Iterable[DeviceBlock], k: int) -> tuple[Keys, torch.Tensor]:
    """Search the segments of one device: the k best keys [q, k], and which queries had a score that is not finite."""
    search = DeviceSearch(queries, k)
    for segment in segments:
        search.search_block(segment)
    return search.best, search.not_finite


class SearchPlan:
    """Hold how a segment is searched: the sample size, the rank that estimates the floor, the capacity of the lists.

    A sample of a fraction f is expected to contain k f of the k best anchors. The floor is the score five standard
    deviations further down the ranking of the sample: fewer than k anchors reach it for one query in millions only. The
    capacity is a quarter more than four standard deviations above the number of anchors expected to reach that floor.

    >>> plan = SearchPlan(1_600_000, 800)
    >>> plan.size, plan.rank, plan.capacity, plan.direct
    (36136, 43, 4007, False)
    """

    def __init__(self, count: int, k: int) -> None:
        self.size = math.ceil(_SAMPLE_FACTOR * (count * (k + 100.0)) ** (1 / 3))
        share = self.size / count
        members = k * share
        self.rank = math.ceil(members + 5 * math.sqrt(members) + 3)
        self.capacity = 64 + math.ceil(1.25 * (self.rank + 4 * math.sqrt(self.rank) + 2) / share)
        self.direct = 2 * max(self.size, self.capacity) > count  # most anchors would be scored anyway: score all


class DeviceSearch:
    """Hold queries [q, d] on one device, and their results so far: `best` keys [q, at most k], best first."""

    def __init__(self, queries: torch.Tensor, k: int) -> None:
        self.k = k
        self.exact = torch_.round_to_grid(queries.contiguous()).to(
            torch.float32
        )  # lossless: float32 values rounded to the grid are float32 values
        self.few = len(queries) <= FEW_QUERIES
        self.best = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
        self.not_finite = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
        self._prepared: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = {}

    def search_block(self, segment: DeviceBlock) -> None:
        """Search a segment, in batches of queries whose lists fit into LIST_BYTES."""
        plan, everyone = SearchPlan(len(segment.rows), self.k), torch.arange(len(self.exact), device=self.exact.device)
        if plan.direct:
            self.best = self.search_exactly(everyone, segment)
        else:
            step = max(1, LIST_BYTES // (16 * plan.capacity))
            starts = range(0, len(self.exact), step)
            self.best = torch.cat([self._search_filtered(slice(at, at + step), segment, plan) for at in starts])

    def _search_filtered(self, some: slice, segment: DeviceBlock, plan: SearchPlan) -> Keys:
        """Merge the results of some queries with the k best of a segment; most anchors are discarded unscored."""
        proven = self._proven_floors(some)
        floors = torch.maximum(proven, self.guess_floors(some, segment, plan))
        entries, counts = self.propose(some, segment, floors, plan.capacity)
        keys, listed, broken = self.score(some, segment, floors, entries, counts)
        self.not_finite[some] |= broken != 0
        best = merge_keys(self.best[some], keys, self.k)
        unsure = (counts > plan.capacity) | (listed > plan.capacity) | ((listed < self.k) & (floors > proven))
        again = unsure.nonzero().squeeze(1)  # the only synchronisation with the device
        if len(again):
            best[again] = self.search_exactly(again + some.start, segment)
        return best

    def _proven_floors(self, some: slice) -> torch.Tensor:
        """Return the scores that k anchors have reached [q]; minus infinity if fewer than k have been searched."""
        best = self.best[some]
        if best.shape[1] < self.k:
            return torch.full((len(best),), -math.inf, device=best.device)
        return unpack_scores(best[:, -1])

    def search_exactly(self, some: torch.Tensor, segment: DeviceBlock) -> Keys:
        """Merge the results of some queries with a segment of which every anchor is scored, in float64."""
        found = []
        for at in torch.split(some, torch_.QUERY_ROWS):
            wide, keys = self.exact[at].to(torch.float64), self.best[at]
            for start in range(0, len(segment.rows), torch_.TILE_ROWS):
                tile = torch_.round_to_grid(segment.rows[start : start + torch_.TILE_ROWS])
                scores = torch_.score_grid_rows(wide, tile)
                self.not_finite[at] |= ~torch.isfinite(scores).all(dim=1)
                keys = merge_keys(keys, torch_.pack_keys(scores, segment.first + start), self.k)
            found.append(keys)
        return torch.cat(found)

    def guess_floors(self, some: slice, segment: DeviceBlock, plan: SearchPlan) -> torch.Tensor:
        """Estimate scores [q] that somewhat more than k anchors of the segment reach."""
        half = choose_product_type(segment.rows.dtype)
        sample = segment.rows[choose_sample_rows(len(segment.rows), plan.size, segment.rows.device)].to(half)
        step = max(1, SAMPLE_BYTES // (2 * plan.size))
        parts = torch.split(self.exact[some].to(half), step)
        return torch.cat([(part @ sample.T).topk(plan.rank, dim=1).values[:, -1] for part in parts]).to(torch.float32)

    def propose(
        self, some: slice, segment: DeviceBlock, floors: torch.Tensor, capacity: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """List the anchors whose products reach `floor - error`: words of 32 anchors [q, capacity], number of words."""
        rows = segment.rows
        queries, error = (each[some] for each in self._prepare_queries(rows.dtype))
        count, dim = queries.shape
        limits = torch.nextafter((floors - error).to(torch.float32), torch.full_like(floors, -math.inf))
        entries = allocate((count, capacity), torch.int64, rows.device)
        counts = torch.zeros(count, dtype=torch.int32, device=rows.device)
        arguments = (queries, rows, limits, entries, counts, count, len(rows), rows.stride(0), capacity)
        if self.few:
            load_triton().propose_few[(count_tiles(len(rows), 32),)](
                *arguments, DIM=dim, **choose_few_tiles(count, dim), **LAUNCH_OPTIONS
            )
        else:
            shape = choose_many_tiles(count)
            grid = (count_tiles(count, shape["QUERIES"]) * count_tiles(len(rows), shape["ANCHORS"]),)
            load_triton().propose[grid](*arguments, DIM=dim, **shape, **LAUNCH_OPTIONS)
        return entries, counts

    def _prepare_queries(self, stored: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries in the type of the products, and bounds [q] of |canonical score - product|, float64."""
        if stored not in self._prepared:
            queries = self.exact if self.few else self.exact.to(choose_product_type(stored))
            self._prepared[stored] = (
                queries,
                bound_errors(self.exact, queries, not self.few and stored == torch.float32),
            )
        return self._prepared[stored]

    def score(
        self, some: slice, segment: DeviceBlock, floors: torch.Tensor, entries: torch.Tensor, counts: torch.Tensor
    ) -> tuple[Keys, torch.Tensor, torch.Tensor]:
        """Score the listed anchors: keys [q, capacity] of those that reach the floors, their number, invalid queries.

        A query is invalid [q] if one of its scores is not finite.
        """
        rows, (count, capacity), queries = segment.rows, entries.shape, self.exact[some]
        dim = queries.shape[1]
        keys = torch.full((count, capacity), _EMPTY_KEY, dtype=torch.int64, device=rows.device)
        listed, broken = torch.zeros((2, count), dtype=torch.int32, device=rows.device)
        chunks = count_tiles(capacity, WORDS_PER_PROGRAM)
        load_triton().score[(count * chunks,)](
            queries, rows, floors, entries, counts, keys, listed, broken, segment.first, rows.stride(0), capacity,
            chunks, DIM=dim, ENTRIES=WORDS_PER_PROGRAM, DIMS=min(128, _next_power_of_two(dim)), **LAUNCH_OPTIONS,
        )  # fmt: skip
        return keys, listed, broken


def bound_errors(exact: torch.Tensor, queries: torch.Tensor, rounded: bool) -> torch.Tensor:
    """Bound |canonical score - product| for each query [q], float64; for the proof see docs/kernels.md.

    `exact` are queries on the grid, `queries` the same in the type of the products; `rounded` tells whether anchors are
    rounded to float16.
    """
    dim = exact.shape[1]
    wide, kept = exact.to(torch.float64), queries.to(torch.float64)
    residual, length = (wide - kept).norm(dim=1), kept.norm(dim=1)
    summed = 1.01 * (dim + 64) * 2.0**-22
    of_anchor = 2.0**-11 * _MAX_LENGTH + dim**0.5 * 2.0**-25 if rounded else 0.0
    of_grid = dim**0.5 * 2.0**-27
    bound: torch.Tensor = residual * _MAX_LENGTH + length * (of_anchor + of_grid + summed * (_MAX_LENGTH + of_anchor))
    return bound * (1 + 2.0**-20) + 2 * 2.0**-24


def choose_product_type(stored: torch.dtype) -> torch.dtype:
    """Return the 16-bit type in which anchors of a type are multiplied; float16 is the most precise for unit rows."""
    return torch.bfloat16 if stored == torch.bfloat16 else torch.float16


@lru_cache
def load_triton() -> Any:
    """Import the Triton kernels; raises MissingDependency without Triton."""
    try:
        from asif.kernels import triton_
    except ImportError as error:
        raise MissingDependency(
            "the kernels for CUDA need Triton", "the library triton", "pip install triton"
        ) from error
    return triton_


def count_tiles(count: int, size: int) -> int:
    """Count the tiles of `size` rows that cover `count` rows."""
    return -(-count // size)


def _next_power_of_two(count: int) -> int:
    """Return the smallest power of two that is at least `count`.

    >>> [_next_power_of_two(count) for count in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (count - 1).bit_length()


def choose_many_tiles(queries: int) -> dict[str, int]:
    """Return the tiles of `propose`: reading anchors limits the speed below 128 queries, multiplying from 128 on."""
    rows = min(128, max(16, _next_power_of_two(queries)))
    return {
        "QUERIES": rows, "ANCHORS": 128, "DIMS": 64, "GROUP": 8, "num_warps": 8 if rows == 128 else 4,
        "num_stages": 3 if rows == 128 else 4,
    }  # fmt: skip


def choose_few_tiles(queries: int, dim: int) -> dict[str, int]:
    """Return the tiles of `propose_few`, such that sums take 64 to 128 registers per thread."""
    rows = _next_power_of_two(queries)
    dims = min({1: 256, 2: 128}.get(rows, 64), _next_power_of_two(dim))
    return {"QUERIES": rows, "DIMS": dims, "STAGES": 4, "num_warps": 8 if rows == 8 else 4}


@lru_cache(maxsize=64)
def choose_sample_rows(count: int, size: int, device: torch.device) -> torch.Tensor:
    """Choose `size` of `count` rows, one at a random place in each of `size` equal parts, against periodic data."""
    chance = torch.Generator().manual_seed(size)
    offsets = torch.rand(size, generator=chance, dtype=torch.float64)
    return ((torch.arange(size) + offsets) * (count / size)).long().clamp(max=count - 1).to(device)


def allocate(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Allocate a tensor without initialising it; tests replace this to fill it with NaN."""
    return torch.empty(shape, dtype=dtype, device=device)
