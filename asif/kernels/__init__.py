"""Exact top-k similarity and sparse comparison on plain arrays: the contracts, and the choice of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from asif.errors import UsageError
from asif.kernels.canonical import GRID, scales
from asif.vectors import Float32, SparseRows, TopK

Engine = Literal["auto", "torch", "cuda", "reference"]
ENGINES: tuple[Engine, ...] = ("auto", "torch", "cuda", "reference")

__all__ = ["ENGINES", "Engine", "sparse_similarity", "topk", "topk_similarity"]


def topk_similarity(queries: Float32, anchors: Sequence[NDArray[Any]], k: int, *, engine: Engine = "auto") -> TopK:
    """Find the k anchors most similar to each query, exactly.

    `queries` [q, d] are unit rows in float32; `anchors` are blocks [n, d] of unit rows in float16, bfloat16 or
    float32, memory-mapped or not, whose rows count on from block to block. Returns min(k, N) entries per query, score
    descending, then smaller index. Scores are canonical (see `canonical`): equal bit for bit on every engine, whatever
    the batch, the blocks and the threads. Raises UsageError for k < 1, for no anchors, and for unequal dimensions.

    >>> found = topk_similarity(np.eye(2, dtype=np.float32), [np.eye(2, dtype=np.float32)[::-1]], k=1)
    >>> found.indices.tolist(), found.scores.tolist()
    ([[1], [0]], [[1.0], [1.0]])
    """
    count = sum(len(block) for block in anchors)
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
    k = min(k, count)
    if not len(queries):
        return TopK(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    if engine == "reference":
        from asif.kernels import reference

        return reference.topk_similarity(queries, anchors, k)

    from asif.kernels import torch_

    return torch_.topk_similarity(queries, anchors, k, device=torch_device(engine))


def torch_device(engine: Engine) -> str:
    """Name the torch device of an engine: CUDA where it is asked for or `auto` finds it, the CPU otherwise."""
    import torch

    if engine == "torch" or (engine == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise UsageError(
            "the engine is cuda, but torch sees no CUDA device",
            "a CUDA device and a torch built for it",
            "use --engine auto, or check the driver with nvidia-smi",
        )
    return "cuda"


def topk(scores: Float32, k: int) -> TopK:
    """Keep the k best of dense scores [q, n] by the one tie rule.

    >>> topk(np.array([[0.5, 0.9, 0.9]], np.float32), 2).indices.tolist()
    [[1, 2]]
    """
    from asif.kernels import reference

    return reference.topk(scores, min(k, scores.shape[1]))


def sparse_similarity(a: SparseRows, b: SparseRows) -> Float32:
    """Compare sparse rows with sparse rows of the same width: inner products [a, b], float32.

    Values, scaled to about unit rows, are rounded to the canonical grid: the sums are exact and do not depend on order
    or batch.
    Memory: the result, and 24 bytes per entry of both sides. Raises UsageError for unequal widths.

    >>> one = SparseRows(np.array([[0, 2]]), np.array([[0.6, 0.8]], np.float32), 3)
    >>> sparse_similarity(one, one).round(6).tolist()
    [[1.0]]
    """
    if a.width != b.width:
        raise UsageError(
            f"rows over {a.width} anchors were compared with rows over {b.width}",
            "relative representations over the same anchor set",
            "represent both sides with one anchor set",
        )
    from scipy import sparse

    def csr(rows: SparseRows, scale: NDArray[np.float64]) -> Any:
        values = (np.rint(rows.values / scale * GRID) / GRID).ravel()
        starts = np.arange(len(rows) + 1) * rows.indices.shape[1]
        return sparse.csr_array((values, rows.indices.ravel(), starts), shape=(len(rows), rows.width))

    left, right = scales(a.values), scales(b.values)
    product: NDArray[np.float64] = (csr(a, left) @ csr(b, right).T).toarray()
    product *= left
    product *= right.T
    return product.astype(np.float32)
