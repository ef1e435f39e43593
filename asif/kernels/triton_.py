"""The door to Triton: kernels that propose anchors, score the proposed ones, and add up sparse products.

docs/kernels.md explains their purpose and why results are exact; `cuda` and `cuda_sparse` call them. Rows are addressed
by 64-bit offsets. Lists are filled in any order, which results do not depend on. The counter of a list keeps counting
when the list is full, so that the caller detects the overflow.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

WORD = tl.constexpr(32)  # anchors per word, one bit for each
_RUNTIME_SIZES = [
    "query_count",
    "anchor_count",
    "capacity",
    "first",
    "chunks",
    "k",
    "count",
]  # arguments whose values are not worth a specialised compilation
GRID_SHIFT = tl.constexpr(1.5 * 2.0**26)  # adding it to a float64 rounds to multiples of 2^-26, ties to even


@triton.jit
def list_words(products, rows, limits, query, query_count, anchor_count, entries, counts, capacity):
    """List the anchors whose products [q, n] are not below the limits [q]: words of 32 anchors that are not empty.

    NaN also passes, and products of -4 or less, which no valid rows give, so that scoring finds and reports them.
    """
    bits = tl.where(rows < anchor_count, (rows * 0 + 1) << (rows % WORD), 0).to(tl.uint32)
    forgotten = (products < limits[:, None]) & (products > -4.0)
    passed = tl.where(forgotten, 0, bits[None, :]).to(tl.uint32)
    words = tl.sum(tl.reshape(passed, (products.shape[0], products.shape[1] // WORD, WORD)), axis=2).to(tl.uint32)
    found = (words != 0) & (query < query_count)[:, None]
    slots = tl.atomic_add(counts + query[:, None] + tl.zeros_like(words).to(tl.int32), 1, mask=found, sem="relaxed")
    numbers = tl.min(tl.reshape(rows // WORD, (products.shape[1] // WORD, WORD)), axis=1)
    entry = (numbers[None, :] << 32) | words.to(tl.int64)
    places = entries + query.to(tl.int64)[:, None] * capacity + slots
    tl.store(places, entry, mask=found & (slots < capacity))


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def propose(
    queries, anchors, limits, entries, counts, query_count, anchor_count, row_stride, capacity,
    DIM: tl.constexpr, QUERIES: tl.constexpr, ANCHORS: tl.constexpr, DIMS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Multiply tiles of queries and anchors in 16 bits, on matrix units, and list the anchors that reach the limits.

    `queries` [q, DIM] have the type of the products; float32 anchors are rounded to it. A program multiplies one tile
    of each. GROUP tiles of anchors are multiplied with all queries before the next ones, so that they stay in the
    cache.
    """
    program = tl.program_id(0)
    query_tiles = tl.cdiv(query_count, QUERIES)
    group = program // (GROUP * query_tiles)
    in_group = tl.minimum(tl.cdiv(anchor_count, ANCHORS) - group * GROUP, GROUP)
    within = program - group * (GROUP * query_tiles)
    anchor_tile, query_tile = group * GROUP + within % in_group, within // in_group

    query = query_tile * QUERIES + tl.arange(0, QUERIES)
    rows = anchor_tile.to(tl.int64) * ANCHORS + tl.arange(0, ANCHORS)
    dims = tl.arange(0, DIMS)
    real_query = tl.minimum(query, query_count - 1).to(tl.int64)  # past the end, the last row is read again
    real_rows = tl.minimum(rows, anchor_count - 1)
    left = queries + real_query[:, None] * DIM + dims[None, :]
    right = anchors + real_rows[None, :] * row_stride + dims[:, None]
    products = tl.zeros((QUERIES, ANCHORS), tl.float32)
    for start in range(0, DIM, DIMS):
        if DIM % DIMS == 0:
            some, others = tl.load(left), tl.load(right)
        else:
            inside = dims < DIM - start
            some = tl.load(left, mask=inside[None, :], other=0.0)
            others = tl.load(right, mask=inside[:, None], other=0.0)
        products = tl.dot(some, others.to(some.dtype), products)
        left += DIMS
        right += DIMS
    list_words(
        products, rows, tl.load(limits + real_query), query, query_count, anchor_count, entries, counts, capacity
    )


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def propose_few(
    queries, anchors, limits, entries, counts, query_count, anchor_count, row_stride, capacity,
    DIM: tl.constexpr, QUERIES: tl.constexpr, DIMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Multiply a few queries, float32 [q, DIM], with anchors in their stored type, and list as `propose` does.

    Each anchor is read once. A program processes 32 anchors and all queries.
    """
    rows = tl.program_id(0).to(tl.int64) * WORD + tl.arange(0, WORD)
    query = tl.arange(0, QUERIES)
    dims = tl.arange(0, DIMS)
    real_query = tl.minimum(query, query_count - 1).to(tl.int64)
    right = anchors + tl.minimum(rows, anchor_count - 1)[:, None] * row_stride + dims[None, :]
    left = queries + real_query[:, None] * DIM + dims[None, :]
    sums = tl.zeros((QUERIES, WORD, DIMS), tl.float32)
    for start in tl.range(0, DIM, DIMS, num_stages=STAGES):
        inside = (dims < DIM - start)[None, :]
        others = tl.load(right + start, mask=inside, other=0.0).to(tl.float32)
        some = tl.load(left + start, mask=inside, other=0.0)
        sums += some[:, None, :] * others[None, :, :]
    list_words(
        tl.sum(sums, axis=2), rows, tl.load(limits + real_query), query, query_count, anchor_count, entries, counts,
        capacity,
    )  # fmt: skip


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def score(
    queries, anchors, floors, entries, counts, keys, listed, broken, first, row_stride, capacity, chunks,
    DIM: tl.constexpr, ENTRIES: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Compute canonical scores of the anchors in ENTRIES words of one query; list the keys of those above the floor.

    `queries` [q, DIM] are float32 on the grid; `first` is the index of the first anchor. Queries with a score that is
    not finite are marked in `broken`. For the keys see `torch_.pack_keys`.
    """
    query = (tl.program_id(0) // chunks).to(tl.int64)
    at = (tl.program_id(0) % chunks) * ENTRIES + tl.arange(0, ENTRIES)
    count = tl.minimum(tl.load(counts + query), capacity)
    entry = tl.load(entries + query * capacity + at, mask=at < count, other=0)
    floor = tl.load(floors + query)
    dims = tl.arange(0, DIMS)
    words = entry.to(tl.uint32)
    while tl.max(words, axis=0) != 0:
        lowest = words & (~words + 1)
        bit = (lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127  # the exponent of a power of two
        met = words != 0
        rows = (entry >> 32) * WORD + bit
        sums = tl.zeros((ENTRIES, DIMS), tl.float64)
        for start in range(0, DIM, DIMS):
            inside = dims < DIM - start
            places = anchors + rows[:, None] * row_stride + (start + dims)[None, :]
            others = tl.load(places, mask=met[:, None] & inside[None, :], other=0.0).to(tl.float64)
            some = tl.load(queries + query * DIM + start + dims, mask=inside, other=0.0).to(tl.float64)
            sums += some[None, :] * ((others + GRID_SHIFT) - GRID_SHIFT)
        scores = tl.sum(sums, axis=1).to(tl.float32)
        unfit = met & ~(tl.abs(scores) < float("inf"))
        tl.store(broken + query, 1, mask=tl.max(unfit.to(tl.int32), axis=0) == 1)
        kept = met & ~(scores < floor)
        slots = tl.atomic_add(listed + query + tl.zeros_like(bit), 1, mask=kept, sem="relaxed")
        number = scores.to(tl.int32, bitcast=True).to(tl.int64)
        ordered = tl.where(number < 0, -(number & 0x7FFFFFFF), number)
        key = (ordered << 32) + (0xFFFFFFFF - (first + rows))
        tl.store(keys + query * capacity + slots, key, mask=kept & (slots < capacity))
        words = words & (words - 1)


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def add_products(
    indices, values, starts, rows, weights, sums, k, count, chunks, ENTRIES: tl.constexpr, POSTINGS: tl.constexpr
):  # fmt: skip
    """Add the products of ENTRIES entries of one query with the postings of their anchors to its sums [q, count].

    Sums of values on the grid are exact in float64, so additions may be in any order. Entries of value 0 are skipped.
    """
    query = (tl.program_id(0) // chunks).to(tl.int64)
    at = (tl.program_id(0) % chunks) * ENTRIES + tl.arange(0, ENTRIES)
    anchor = tl.load(indices + query * k + at, mask=at < k, other=0)
    value = tl.load(values + query * k + at, mask=at < k, other=0.0).to(tl.float64)
    begin = tl.load(starts + anchor)
    end = tl.where(value != 0, tl.load(starts + anchor + 1), begin)
    lanes = tl.arange(0, POSTINGS)
    while tl.max(end - begin, axis=0) > 0:
        places = begin[:, None] + lanes[None, :]
        there = places < end[:, None]
        row = tl.load(rows + places, mask=there, other=0)
        weight = tl.load(weights + places, mask=there, other=0.0).to(tl.float64)
        tl.atomic_add(sums + query * count + row, value[:, None] * weight, mask=there, sem="relaxed")
        begin += POSTINGS
