"""Comparison of sparse rows on a CUDA device by an inverted index; sums do not depend on the order of additions.

Sums of values on the grid are exact in float64 (docs/numerics.md), so threads may add to one sum in any order. Memory:
the rows and their index (20 bytes per entry, 8 per anchor), and _SUMS_BYTES of sums, or those of one query if that is
more; `sparse_topk` never holds [q, rows].
"""

from __future__ import annotations

import math

import numpy as np
import torch

from asif.kernels.canonical import GRID
from asif.kernels.cuda import LAUNCH_OPTIONS, count_tiles, current_stream, load_triton, use_stream
from asif.kernels.sparse import DENSE_FACTOR, check_kernel_result, sparse_not_finite_error
from asif.kernels.torch_ import as_tensor, pack_keys, unpack_topk
from asif.vectors import Float32, SparseRows, TopK

_SUMS_BYTES = 2**26
ENTRIES = 16  # entries of a query that one program processes
POSTINGS = 16  # postings of each entry's anchor that are read at a time


class SparseDeviceRows:
    """Hold sparse rows on a device: `indices` [n, k] int64, `values` [n, k] on the grid, `scales` [n, 1] float64.

    Takes numpy arrays or tensors. Raises UsageError for an anchor outside the width, BadEmbedding for values that are
    not finite.
    """

    def __init__(self, indices: torch.Tensor, values: torch.Tensor, width: int) -> None:
        outside = ((indices < 0) | (indices >= width)).any()
        strange = (~torch.isfinite(values)).any()
        outside, strange = torch.stack([outside, strange]).tolist()  # one synchronisation with the device
        if strange:
            raise sparse_not_finite_error()
        check_kernel_result(-2 if outside else 0, width)
        wide = values.to(torch.float64)
        self.width = width
        self.indices = indices.to(torch.int64).contiguous()
        self.scales = compute_scales(wide)
        self.values = (wide / self.scales * GRID).round_().div_(GRID).to(torch.float32)  # lossless in float32

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice) -> SparseDeviceRows:
        some = object.__new__(SparseDeviceRows)
        some.width, some.indices = self.width, self.indices[rows]
        some.scales, some.values = self.scales[rows], self.values[rows]
        return some

    def to_dense(self) -> torch.Tensor:
        """Return the rows as a dense tensor [n, width], float64."""
        out = torch.zeros((len(self), self.width), dtype=torch.float64, device=self.values.device)
        return out.scatter_(1, self.indices, self.values.to(torch.float64))


def compute_scales(wide: torch.Tensor) -> torch.Tensor:
    """Return for each row [n, k] the power of two that `canonical.compute_scales` gives: [n, 1] float64.

    >>> compute_scales(torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.0, 1e-5], [0.0, 0.0]]).double()).ravel().tolist()
    [4.0, 1.0, 7.62939453125e-06, 1.0]
    """
    if not wide.shape[1]:
        return wide.new_ones((len(wide), 1))
    largest = wide.abs().amax(dim=1, keepdim=True)
    exponents = torch.where(largest > 0, torch.frexp(largest).exponent.to(torch.int64) - 1, 0)
    squares = (wide * _power_of_two(15 - exponents)).round_().square_().sum(dim=1, keepdim=True)
    for _ in range(2 + math.ceil(math.log(wide.shape[1], 4))):  # a row is at most 2 sqrt(k) times its largest entry
        long = squares > 1.96 * 2.0**30
        exponents, squares = exponents + long, torch.where(long, squares / 4, squares)
    return _power_of_two(exponents)


def _power_of_two(exponents: torch.Tensor) -> torch.Tensor:
    """Return powers of two, exactly, from their bits.

    >>> _power_of_two(torch.tensor([-149, 0, 3])).tolist() == [2.0**-149, 1.0, 8.0]
    True
    """
    return ((exponents + 1023) << 52).view(torch.float64)


class SparseDeviceIndex:
    """Hold an inverted index: for every anchor, the rows with an entry for it, and the values of these entries.

    Rows with few zeros are not indexed but multiplied as dense rows. Queries and results are tensors on the device of
    the index; kernels run on the caller's stream.
    """

    def __init__(self, rows: SparseDeviceRows) -> None:
        self.rows = rows
        self.step = max(1, _SUMS_BYTES // (8 * max(1, len(rows))))  # queries whose sums are held at a time
        filled = rows.values != 0
        self.full = int(filled.sum()) * DENSE_FACTOR > len(rows) * rows.width
        if not self.full:
            owners, anchors = filled.nonzero()[:, 0], rows.indices[filled]
            order = torch.argsort(anchors, stable=True)
            self.owners, self.weights = owners[order].to(torch.int32), rows.values[filled][order]
            self.starts = torch.searchsorted(anchors[order], torch.arange(rows.width + 1, device=anchors.device))

    def similarity(self, queries: SparseDeviceRows) -> torch.Tensor:
        """Compute the canonical scores of all pairs: [q, n] float32."""
        out = torch.empty((len(queries), len(self.rows)), dtype=torch.float32, device=queries.values.device)
        for at in range(0, len(queries), self.step):
            out[at : at + self.step] = self._scores(queries[at : at + self.step])
        return out

    def topk(self, queries: SparseDeviceRows, k: int) -> torch.Tensor:
        """Find the k <= n best rows for each query: sort keys [q, k], see `torch_.pack_keys`."""
        out = torch.empty((len(queries), k), dtype=torch.int64, device=queries.values.device)
        for at in range(0, len(queries), self.step):
            keys = pack_keys(self._scores(queries[at : at + self.step]), 0)
            out[at : at + self.step] = keys.topk(k, dim=1, sorted=True).values
        return out

    def _scores(self, queries: SparseDeviceRows) -> torch.Tensor:
        """Compute the scores of some queries with all rows [q, n]."""
        sums = self._multiply_dense(queries) if self.full else self._add_postings(queries)
        return sums.mul_(queries.scales).mul_(self.rows.scales.T).to(torch.float32) + 0.0  # not -0.0

    def _multiply_dense(self, queries: SparseDeviceRows) -> torch.Tensor:
        """Multiply queries and rows as dense rows, in float64: exact as well."""
        step, spread = max(1, _SUMS_BYTES // (8 * self.rows.width)), queries.to_dense()
        parts = [spread @ self.rows[at : at + step].to_dense().T for at in range(0, len(self.rows), step)]
        return torch.cat(parts, dim=1)

    def _add_postings(self, queries: SparseDeviceRows) -> torch.Tensor:
        """Add up the products of each query's entries with the postings of their anchors."""
        count, k = queries.indices.shape
        sums = torch.zeros((count, len(self.rows)), dtype=torch.float64, device=queries.values.device)
        if sums.numel() and k:
            chunks = count_tiles(k, ENTRIES)
            with use_stream(current_stream(sums.device)):
                load_triton().add_products[(count * chunks,)](
                    queries.indices, queries.values, self.starts, self.owners, self.weights, sums, k, len(self.rows),
                    chunks, ENTRIES=ENTRIES, POSTINGS=POSTINGS, **LAUNCH_OPTIONS,
                )  # fmt: skip
        return sums


def upload_rows(rows: SparseRows, device: torch.device) -> SparseDeviceRows:
    """Copy sparse rows to a device."""
    indices, values = (as_tensor(each).to(device) for each in (rows.indices, np.asarray(rows.values, np.float32)))
    return SparseDeviceRows(indices, values, rows.width)


def sparse_similarity(queries: SparseRows, index: SparseDeviceIndex) -> Float32:
    """Compute the scores of all pairs: [q, n]."""
    scores: Float32 = index.similarity(upload_rows(queries, index.rows.values.device)).cpu().numpy()
    return scores


def sparse_topk(queries: SparseRows, index: SparseDeviceIndex, k: int) -> TopK:
    """Find the k <= n best rows for each query."""
    return unpack_topk(index.topk(upload_rows(queries, index.rows.values.device), k))
