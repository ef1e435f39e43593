"""Exact top-k similarity and sparse comparison on plain arrays: the interface, and the choice of a kernel.

| engine | what it is |
|---|---|
| `cpu` | compiled kernels: fast products propose candidates within a proved bound, canonical scores rank them |
| `cuda` | the same in Triton, on CUDA devices; torch on the device if Triton is not installed |
| `torch` | torch on the CPU, for installations without compiled kernels |
| `faiss` | faiss's flat index proposes candidates, canonical scores rank them |
| `reference` | the definition in plain numpy |
| `auto` | `cuda` if torch is already loaded and sees a device, else `cpu`, else `torch` |
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asif.errors import UsageError
from asif.kernels import cpu, native_binding, reference, sparse
from asif.kernels.canonical import round_to_grid
from asif.kernels.remote import RemoteBlocks
from asif.kernels.sparse import SparseIndex
from asif.vectors import DenseRows, Float32, Float64, FusedRows, Rows, SparseRows, TopK

KernelName = Literal["auto", "cpu", "cuda", "torch", "faiss", "reference"]
Vectors: TypeAlias = Any
"""Vectors as users have them: an array, tensor or nested list [n, d], or [d] for one."""
_FUSED_SCORES = 2**24  # scores of fused rows that are computed at a time
KERNELS: tuple[KernelName, ...] = ("auto", "cpu", "cuda", "torch", "faiss", "reference")


def topk_similarity(
    queries: Vectors, anchors: Vectors | Sequence[Vectors], k: int, *, engine: KernelName = "auto"
) -> TopK:
    """Find the k anchors most similar to each query, exactly.

    `queries` [q, d] are unit rows in float32, or one of them [d]; `anchors` are an array or tensor [n, d] of unit rows
    in float16, bfloat16 or float32, or several such blocks, memory-mapped or not, whose rows are numbered consecutively
    over all blocks. Tensors are read on the host; `cuda.topk_of_tensors` leaves them on their device. Returns
    min(k, N) entries per query, score descending, then smaller index. Scores are canonical (see `canonical`): equal bit
    for bit on every engine, for any batch, division into blocks and number of threads. Raises UsageError for k < 1, for
    no anchors, and for unequal dimensions.

    >>> found = topk_similarity(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1], k=1)
    >>> found.indices.tolist(), found.scores.tolist()
    ([[1], [0]], [[1.0], [1.0]])
    """
    queries, anchors = _take_rows(queries), anchors if isinstance(anchors, RemoteBlocks) else _take_blocks(anchors)
    k = check_topk_input(queries, anchors, k)
    if not len(queries):
        return TopK(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    if isinstance(anchors, RemoteBlocks):
        return anchors.find_topk(queries, k)
    chosen = resolve_kernel(engine)
    if chosen == "cpu":
        return cpu.topk_similarity(queries, anchors, k)
    if chosen == "reference":
        return reference.topk_similarity(queries, anchors, k)
    if chosen == "faiss":
        from asif.kernels import faiss_

        return faiss_.topk_similarity(queries, anchors, k)
    if chosen == "cuda" and _has_triton():
        from asif.kernels import cuda

        return cuda.topk_similarity(queries, anchors, k)

    from asif.kernels import torch_

    return torch_.topk_similarity(queries, anchors, k, device="cuda" if chosen == "cuda" else "cpu")


def _take_rows(values: Vectors) -> NDArray[Any]:
    """Return vectors as an array [n, d]; one vector [d] becomes a row. Raises UsageError for other shapes."""
    rows: Any = values
    if hasattr(values, "detach"):  # a tensor; numpy has no bfloat16, and float32 holds the same numbers
        tensor: Any = values.detach().cpu()
        rows = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    elif not isinstance(values, np.ndarray):
        rows = np.asarray(values, np.float32)
    if rows.ndim not in (1, 2):
        raise UsageError(
            f"vectors of shape {rows.shape}", "rows (n, d), or one vector (d,)", "reshape them to one row for each"
        )
    found: NDArray[Any] = rows if rows.ndim == 2 else rows[None]
    return found


def _take_blocks(anchors: Vectors | Sequence[Vectors]) -> Sequence[NDArray[Any]]:
    """Return anchors as blocks [n, d]; blocks that are arrays already stay the same objects, which devices cache."""
    if hasattr(anchors, "ndim"):
        return [_take_rows(anchors)]
    if not isinstance(anchors, list | tuple):
        return anchors  # a lazy sequence of blocks
    return [_take_rows(block) for block in anchors]


def check_topk_input(queries: Any, anchors: Sequence[Any], k: int) -> int:
    """Check the arguments of `topk_similarity`, arrays or tensors; return min(k, N)."""
    count = sum(map(len, anchors))
    if k < 1:
        raise UsageError(f"k is {k}", "a whole number from 1", "keep at least one anchor per query")
    if count == 0:
        raise UsageError("there are no anchors", "at least one anchor", "build an anchor set with at least one pair")
    widths = {block.shape[1] for block in anchors}
    if widths != {queries.shape[1]}:
        raise UsageError(
            f"queries have {queries.shape[1]} dimensions, anchors {', '.join(map(str, sorted(widths)))}",
            "equal dimensions",
            "encode the queries with the encoder of the anchor set",
        )
    if queries.shape[1] == 0:
        raise UsageError("queries and anchors have no dimensions", "at least one", "encode them")
    return min(k, count)


def _has_triton() -> bool:
    """Tell whether Triton, in which the CUDA kernels are written, is installed."""
    return find_spec("triton") is not None


@dataclass(frozen=True)
class FusedIndex:
    """Hold fused rows, each part prepared for comparison."""

    parts: tuple[DenseRows | SparseIndex, ...]

    def __len__(self) -> int:
        return len(self.parts[0])


PreparedRows = DenseRows | SparseIndex | FusedIndex


def prepare_rows(rows: Rows | Vectors) -> PreparedRows:
    """Prepare rows for many comparisons: sparse rows and sparse parts are indexed, dense rows stay as they are."""
    rows = _as_rows(rows)
    if isinstance(rows, FusedRows):
        return FusedIndex(tuple(SparseIndex(part) if isinstance(part, SparseRows) else part for part in rows.parts))
    return SparseIndex(rows) if isinstance(rows, SparseRows) else rows


def _as_rows(rows: Any) -> Any:
    """Return arrays and tensors [n, d] or [d] as dense rows, and rows as they are."""
    is_rows = isinstance(rows, DenseRows | SparseRows | FusedRows | SparseIndex | FusedIndex)
    return rows if is_rows else DenseRows(_take_rows(rows))


def compute_similarity(
    queries: Rows | Vectors, rows: Rows | PreparedRows | Vectors, *, engine: KernelName = "auto"
) -> Float32:
    """Compute the canonical scores of all pairs of rows of one aligner: [q, n].

    Arrays and tensors [n, d], or [d] for one row, are dense rows. Sparse rows are compared as in `sparse_similarity`. A
    score of fused rows is the float32 sum of the scores of their parts, in order. Memory for dense rows: both sides in
    float64, and the result. Raises UsageError for unequal dimensions.

    >>> compute_similarity(np.eye(2, dtype=np.float32), np.array([0.6, 0.8], np.float32)).ravel().tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    queries, rows = _as_rows(queries), _as_rows(rows)
    if isinstance(queries, FusedRows):
        assert isinstance(rows, FusedRows | FusedIndex)  # one aligner makes both
        total = np.zeros((len(queries), len(rows)), np.float32)
        for query, part in zip(queries.parts, rows.parts, strict=True):
            total += compute_similarity(query, part, engine=engine)
        return total
    if isinstance(queries, SparseRows):
        assert isinstance(rows, SparseRows | SparseIndex)
        return sparse_similarity(queries, rows, engine=engine)
    assert isinstance(rows, DenseRows)
    if queries.values.shape[1] != rows.values.shape[1]:
        raise UsageError(
            f"rows of {queries.values.shape[1]} dimensions were compared with rows of {rows.values.shape[1]}",
            "equal dimensions",
            "represent both sides with one aligner",
        )
    return _multiply_rounded(round_to_grid(queries.values), round_to_grid(rows.values))


def _multiply_rounded(queries: Float64, rows: Float64) -> Float32:
    """Return the canonical scores of rows that are rounded to the grid: [q, n]."""
    exact = queries @ rows.T  # exact in any order of summation, see `canonical`
    return exact.astype(np.float32) + np.float32(0)  # not -0.0


@dataclass(frozen=True)
class ScoredRows:
    """Hold rows for many comparisons with all of them: dense parts are rounded to the grid of scores once, in float64.

    Scores are those of `compute_similarity`, bit for bit.

    >>> rows = DenseRows(np.eye(2, dtype=np.float32))
    >>> ScoredRows.of(rows).score(rows[1:]).tolist()
    [[0.0, 1.0]]
    """

    parts: tuple[Float64 | PreparedRows, ...]

    @classmethod
    def of(cls, rows: Rows) -> ScoredRows:
        """Prepare rows."""
        parts = rows.parts if isinstance(rows, FusedRows) else (rows,)
        return cls(
            tuple(round_to_grid(part.values) if isinstance(part, DenseRows) else prepare_rows(part) for part in parts)
        )

    def score(self, queries: Rows) -> Float32:
        """Score all rows for each query: [q, n]."""
        of_queries = queries.parts if isinstance(queries, FusedRows) else (queries,)
        total: Float32 | None = None
        for query, part in zip(of_queries, self.parts, strict=True):
            if isinstance(part, np.ndarray):
                scores = _multiply_rounded(round_to_grid(query.values), part)
            else:
                scores = compute_similarity(query, part)
            total = scores if total is None else total + scores
        assert total is not None
        return total


def find_nearest(
    queries: Rows | Vectors, rows: Rows | PreparedRows | Vectors, k: int, *, engine: KernelName = "auto"
) -> TopK:
    """Find the k rows most similar to each query, as `sparse_topk` and `topk_similarity` do: min(k, n) entries.

    Arrays and tensors [n, d], or [d] for one row, are dense rows. For fused rows all scores are computed, in batches of
    queries whose scores fit into 64 MiB.

    >>> one = DenseRows(np.eye(2, dtype=np.float32))
    >>> find_nearest(one, one, 1).indices.tolist()
    [[0], [1]]
    """
    queries, rows = _as_rows(queries), _as_rows(rows)
    if isinstance(queries, FusedRows):
        prepared = prepare_rows(rows) if isinstance(rows, FusedRows) else rows
        step = max(1, _FUSED_SCORES // max(1, len(prepared)))
        empty = TopK(np.empty((0, min(k, len(prepared))), np.int64), np.empty((0, min(k, len(prepared))), np.float32))
        found = [empty] + [
            select_topk(compute_similarity(queries[start : start + step], prepared, engine=engine), k)
            for start in range(0, len(queries), step)
        ]
        return TopK(np.concatenate([f.indices for f in found]), np.concatenate([f.scores for f in found]))
    if isinstance(queries, SparseRows):
        assert isinstance(rows, SparseRows | SparseIndex)  # one aligner makes both
        return sparse_topk(queries, rows, k, engine=engine)
    assert isinstance(rows, DenseRows)
    return topk_similarity(queries.values, [rows.values], k, engine=engine)


def resolve_kernel(engine: KernelName) -> KernelName:
    """Return the kernel that `auto` stands for on this machine; check that `cuda` has a device.

    Raises UsageError for an unknown engine, and for `cuda` without a device.

    >>> resolve_kernel("reference")
    'reference'
    """
    _check_kernel(engine)
    if engine == "auto":
        loaded: Any = sys.modules.get("torch")  # a process that uses a GPU has loaded it; loading takes a second
        if loaded is not None and loaded.cuda.is_available():
            return "cuda"
        return "cpu" if native_binding.is_available() else "torch"
    if engine == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError(
                "the engine is cuda, but torch sees no CUDA device",
                "a CUDA device and a torch built for it",
                "use --engine auto, or check the driver with nvidia-smi",
            )
    return engine


def _check_kernel(engine: str) -> None:
    """Raise UsageError for an unknown kernel."""
    if engine not in KERNELS:
        raise UsageError(f"the engine is {engine!r}", f"one of {', '.join(KERNELS)}", "pass --engine auto")


def select_topk(scores: Vectors, k: int) -> TopK:
    """Select the k best of dense scores [q, n], or [n] of one query; ties go to the smaller index.

    >>> select_topk(np.array([[0.5, 0.9, 0.9]], np.float32), 2).indices.tolist()
    [[1, 2]]
    """
    rows = _take_rows(scores)
    return reference.select_topk(rows, min(k, rows.shape[1]))


def sparse_similarity(a: SparseRows, b: SparseRows | SparseIndex, *, engine: KernelName = "auto") -> Float32:
    """Compute the inner products of sparse rows with sparse rows of the same width: [a, b], float32.

    Rows are scaled by a power of two to about unit length and rounded to the canonical grid, so that sums are exact, do
    not depend on order or batch, and are equal bit for bit on all engines. A `SparseIndex` can be reused for many
    calls. Memory: the result, and the index of `b`. Raises UsageError for unequal widths.

    >>> one = SparseRows(np.array([[0, 2]]), np.array([[0.6, 0.8]], np.float32), 3)
    >>> sparse_similarity(one, one).round(6).tolist()
    [[1.0]]
    """
    index = _index_rows(a, b)
    chosen = resolve_kernel(engine)
    if chosen == "reference":
        return reference.sparse_similarity(sparse.check_finite(a), sparse.check_finite(index.rows))
    if chosen == "cuda" and _has_triton():
        from asif.kernels import cuda_sparse

        return cuda_sparse.sparse_similarity(a, index.on_device)
    return sparse.sparse_similarity(a, index)


def sparse_topk(queries: SparseRows, gallery: SparseRows | SparseIndex, k: int, *, engine: KernelName = "auto") -> TopK:
    """Find the k rows of a gallery most similar to each query, exactly: min(k, rows) entries.

    They are ordered by score, descending, then by index. Scores are those of `sparse_similarity`. Memory: the index of
    the gallery, per thread the sums of one tile of it, and per query up to 2k + 64 candidates (per thread if there are
    few queries); never [q, rows]. Raises UsageError for k < 1 and for unequal widths.

    >>> rows = SparseRows(np.array([[0], [1], [0]]), np.array([[1.0], [1.0], [1.0]], np.float32), 2)
    >>> sparse_topk(rows[:1], SparseIndex(rows), 2).indices.tolist()
    [[0, 2]]
    """
    chosen = resolve_kernel(engine)
    if k < 1:
        raise UsageError(f"k is {k}", "a whole number from 1", "pass k of at least 1")
    index = _index_rows(queries, gallery)
    k = min(k, len(index))
    if k == 0 or not len(queries):
        return TopK(np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32))
    if chosen == "reference":
        return reference.sparse_topk(sparse.check_finite(queries), sparse.check_finite(index.rows), k)
    if chosen == "cuda" and _has_triton():
        from asif.kernels import cuda_sparse

        return cuda_sparse.sparse_topk(queries, index.on_device, k)
    return sparse.sparse_topk(queries, index, k)


def _index_rows(a: SparseRows, b: SparseRows | SparseIndex) -> SparseIndex:
    """Return the index of `b`; raises UsageError for rows over different anchors."""
    if a.width != b.width:
        raise UsageError(
            f"rows over {a.width} anchors were compared with rows over {b.width}",
            "relative representations over the same anchor set",
            "represent both sides with one anchor set",
        )
    return b if isinstance(b, SparseIndex) else SparseIndex(b)
