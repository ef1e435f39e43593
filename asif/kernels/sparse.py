"""Comparison of sparse rows: by an inverted index in compiled kernels, or by scipy if no kernels are compiled."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from asif.errors import BadEmbedding, OutOfSpace, UsageError
from asif.kernels import native_binding, reference
from asif.kernels.canonical import compute_scales, round_to_grid
from asif.kernels.native_binding import as_contiguous, count_threads, get_address, load_native
from asif.vectors import Float32, SparseRows, TopK

if TYPE_CHECKING:
    from asif.kernels.cuda_sparse import SparseDeviceIndex

SMALLEST_TILE, LARGEST_TILE = 2**15, 2**16  # rows whose sums fit into the second-level cache
_DENSE_TILE = 64  # rows per tile of an index that stores columns
DENSE_FACTOR = 6  # the index stores columns instead of postings if more than one entry in six is not zero
SCIPY_SCORES = 2**24  # scores in memory at a time with scipy


@dataclass(frozen=True)
class SparseIndex:
    """Hold sparse rows, such as labels or a gallery, with an inverted index that many comparisons reuse.

    The index is built on first use. Memory: 8 bytes per entry, and 4 bytes per anchor for each tile of 32,768 rows or
    more; if more than a sixth of all entries, zeros included, is not zero, 4 bytes for each of all these instead.

    >>> index = SparseIndex(SparseRows(np.array([[0, 2]]), np.array([[0.6, 0.8]], np.float32), 3))
    >>> len(index), index.width
    (1, 3)
    """

    rows: SparseRows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        return self.rows.width

    @cached_property
    def compiled(self) -> _CompiledIndex:
        """The inverted index; raises UsageError for an anchor outside the width."""
        return _CompiledIndex(self.rows)

    @cached_property
    def on_device(self) -> SparseDeviceIndex:
        """The inverted index on the current CUDA device; raises as `compiled` does."""
        from asif.kernels import cuda_sparse, device_cache

        return cuda_sparse.SparseDeviceIndex(cuda_sparse.upload_rows(self.rows, device_cache.list_devices()[0]))


class _CompiledIndex:
    """Hold the arrays of an inverted index, and the struct through which the kernels read them."""

    def __init__(self, rows: SparseRows) -> None:
        arrays = _as_kernel_arrays(rows)
        count, k = int(arrays[0].shape[0]), int(arrays[0].shape[1])
        filled = max(1, int(np.count_nonzero(arrays[1])))
        full = filled * DENSE_FACTOR > count * rows.width
        tile = _DENSE_TILE if full else SMALLEST_TILE
        while not full and tile < min(LARGEST_TILE, count) and count / tile * rows.width > 2 * filled:
            tile *= 2
        tile = min(tile, -(-max(1, count) // _DENSE_TILE) * _DENSE_TILE)
        tiles = -(-count // tile)
        self.scales, sizes = np.ones(count), np.zeros(tiles, np.int64)
        shape = (count, k, rows.width, tile, count_threads())
        problem = load_native().asif_sparse_measure(
            *_get_addresses(arrays), *shape, get_address(self.scales), get_address(sizes)
        )
        check_kernel_result(problem, rows.width)
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        entries = int(self.offsets[-1])
        self.columns = np.zeros((tiles, rows.width, tile), np.float32) if full else None
        self.postings = None if full else np.empty(entries, np.uint64)
        self.starts = None if full else np.empty((tiles, rows.width + 1), np.uint32)
        problem = load_native().asif_sparse_fill(
            *_get_addresses(arrays), get_address(self.scales), *shape, get_address(self.offsets),
            get_address(self.postings), get_address(self.starts), get_address(self.columns),
        )  # fmt: skip
        check_kernel_result(problem, rows.width)
        held = (self.postings, self.starts, self.offsets, self.columns, self.scales)
        self.struct = native_binding.NativeIndex(*(get_address(array) for array in held), count, rows.width, tile)


def _get_addresses(arrays: tuple[NDArray[np.int64], Float32]) -> tuple[int | None, int | None]:
    """Return the addresses of indices and values."""
    return get_address(arrays[0]), get_address(arrays[1])


def check_finite(rows: SparseRows) -> SparseRows:
    """Return rows; raises BadEmbedding for values that are not finite."""
    if not np.isfinite(rows.values).all():
        raise sparse_not_finite_error()
    return rows


def sparse_not_finite_error() -> BadEmbedding:
    """Return the error for values that are not finite."""
    return BadEmbedding("sparse rows hold values that are not finite", "finite values", "check the source of the rows")


def _as_kernel_arrays(rows: SparseRows) -> tuple[NDArray[np.int64], Float32]:
    """Return indices and values as the kernels take them; raises BadEmbedding for values that are not finite."""
    return as_contiguous(check_finite(rows).indices, np.int64), as_contiguous(rows.values, np.float32)


def check_kernel_result(problem: int, width: int) -> None:
    """Raise OutOfSpace if a kernel ran out of memory, UsageError if it met an index outside the width."""
    if problem == -1:
        raise OutOfSpace(
            "memory ran out during a comparison", "room for the index and the result", "compare fewer rows"
        )
    if problem:
        raise UsageError(
            f"a row names an anchor outside 0 to {width - 1}", "indices below the width", "represent it with this set"
        )


def sparse_similarity(a: SparseRows, b: SparseIndex) -> Float32:
    """Compute the scores of all pairs: [a, b]."""
    if not native_binding.is_available():
        return _scipy_similarity(a, b.rows)
    out = np.empty((len(a), len(b)), np.float32)
    arrays = _as_kernel_arrays(a)
    problem = load_native().asif_sparse_similarity(
        *_get_addresses(arrays), len(a), arrays[0].shape[1], ctypes.byref(b.compiled.struct), count_threads(),
        get_address(out),
    )  # fmt: skip
    check_kernel_result(problem, b.width)
    return out


def sparse_topk(queries: SparseRows, gallery: SparseIndex, k: int) -> TopK:
    """Find the k <= len(gallery) best rows for each query, a tile of the gallery at a time."""
    if not native_binding.is_available():
        step = max(1, SCIPY_SCORES // len(gallery))
        parts = [
            reference.select_topk(_scipy_similarity(queries[at : at + step], gallery.rows), k)
            for at in range(0, len(queries), step)
        ]
        empty = TopK(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
        return TopK(
            *(np.concatenate([getattr(part, name) for part in [empty, *parts]]) for name in ("indices", "scores"))
        )
    indices, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    arrays = _as_kernel_arrays(queries)
    problem = load_native().asif_sparse_topk(
        *_get_addresses(arrays), len(queries), arrays[0].shape[1],
        ctypes.byref(gallery.compiled.struct), k, count_threads(), get_address(indices), get_address(scores),
    )  # fmt: skip
    check_kernel_result(problem, gallery.width)
    return TopK(indices, scores)


def _scipy_similarity(a: SparseRows, b: SparseRows) -> Float32:
    """Multiply two sparse matrices in float64 with scipy: exact as well."""
    from scipy import sparse

    def csr(rows: SparseRows, scale: NDArray[np.float64]) -> Any:
        starts = np.arange(len(rows) + 1) * rows.indices.shape[1]
        shape = (len(rows), rows.width)
        return sparse.csr_array((round_to_grid(rows.values / scale).ravel(), rows.indices.ravel(), starts), shape=shape)

    for rows in (check_finite(a), check_finite(b)):
        outside = rows.indices.size and (rows.indices.min() < 0 or rows.indices.max() >= rows.width)
        check_kernel_result(-2 if outside else 0, rows.width)
    left, right = compute_scales(a.values), compute_scales(b.values)
    product: NDArray[np.float64] = (csr(a, left) @ csr(b, right).T).toarray()
    product *= left
    product *= right.T
    return product.astype(np.float32) + np.float32(0)  # not -0.0
