"""Sparse rows for the benchmarks: those of an aligner and random ones, in the format of every contender."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import Pairs
from kernels_data import queries, rows
from kernels_peers import blocks
from kernels_timing import once
from numpy.typing import NDArray
from scipy import sparse

from asif.aligners import Relative
from asif.kernels import SparseIndex
from asif.vectors import Embeddings, Int64, Side, SparseRows

POWER = 8.0
OURS, OURS_INDEX = "ours", "ours, index"
SCIPY, TORCH, TORCH_DENSE = "scipy csr @ csr", "torch csr @ csr", "torch csr @ dense"
PEERS = (SCIPY, TORCH, TORCH_DENSE)
DIMS: dict[Side, int] = {"image": 1280, "text": 384}


def real_pairs(count: int) -> Pairs:
    """Make pairs: image features, and captions of the same images in the same order."""
    return Pairs(*(blocks(rows("real", "train", dims, count)) for dims in DIMS.values()))


def embeddings(side: Side, count: int) -> Embeddings:
    """Make `count` embeddings that are not among the anchors."""
    return Embeddings.from_raw(queries("real", DIMS[side], count))


def represent(side: Side, count: int, pairs: Pairs, k: int) -> SparseRows:
    """Represent embeddings over real pairs."""
    return Relative(k=k, power=POWER).fit(pairs).represent(side, embeddings(side, count))


def keep(every: SparseRows, k: int) -> SparseRows:
    """Keep the k largest entries of each row, at unit length."""
    values = every.values[:, :k]
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return SparseRows(np.ascontiguousarray(every.indices[:, :k]), values, every.width)


def scatter(every: SparseRows, seed: int) -> SparseRows:
    """Put values at random positions: one in each of k equal strata, or, if these are narrow, anywhere."""
    rng = np.random.default_rng(seed)
    count, k = every.indices.shape
    stratum = every.width // k
    if stratum < 2:
        return SparseRows(rng.random((count, every.width)).argsort(axis=1)[:, :k].copy(), every.values, every.width)
    drawn = rng.integers(stratum, size=(count, k)) + np.arange(k) * stratum
    return SparseRows(rng.permuted(drawn, axis=1, out=drawn), every.values, every.width)


@dataclass(frozen=True)
class Right:
    """Hold a right side in the format of every contender, and the milliseconds to prepare each."""

    rows: SparseRows
    index: SparseIndex
    csr: Any
    transposed: Any
    prepared_ms: Mapping[str, float]

    @classmethod
    def prepare(cls, rows: SparseRows) -> Right:
        """Build the inverted index and the peers' formats."""
        index = SparseIndex(rows)
        _, ours = once(lambda: index.compiled)  # built on first use
        by_row, convert = once(lambda: csr(rows))
        transposed, turn = once(by_row.T.tocsr)
        peers = {SCIPY: convert + turn, TORCH: convert + turn}
        return cls(rows, index, by_row, transposed, {OURS_INDEX: ours, **peers})

    def exact(self, left: SparseRows) -> NDArray[np.float64]:
        """Return float64 products of a few rows with all of these [left, right]."""
        products: NDArray[np.float64] = self.csr.astype(np.float64) @ left.to_dense().T.astype(np.float64)
        return products.T


def csr(rows: SparseRows) -> Any:
    """Convert to scipy's format: float32, 32-bit indices, sorted within rows."""
    starts = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.indices.shape[1])
    parts = (
        rows.values.flatten(),
        rows.indices.ravel().astype(np.int32),
        starts,
    )  # copies, as they are sorted in place
    made = sparse.csr_array(parts, shape=(len(rows), rows.width))
    made.sort_indices()
    return made


def torch_csr(made: Any) -> torch.Tensor:
    """View scipy's arrays as a torch tensor; 32-bit indices are what MKL multiplies."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        parts = [torch.from_numpy(part) for part in (made.indptr, made.indices, made.data)]
        return torch.sparse_csr_tensor(*parts, size=made.shape, check_invariants=False)


def pick(every: SparseRows, at: Int64) -> SparseRows:
    """Take some rows."""
    return SparseRows(every.indices[at], every.values[at], every.width)
