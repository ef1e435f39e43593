"""Exact top-k similarity and sparse comparison on plain arrays: the contracts, and the choice of an engine."""

from asif.kernels.api import (
    ENGINES,
    Engine,
    Prepared,
    multiplies_bfloat16,
    nearest,
    prepare,
    similarity,
    sparse_similarity,
    sparse_topk,
    topk,
    topk_similarity,
)
from asif.kernels.sparse import SparseIndex

__all__ = [
    "ENGINES",
    "Engine",
    "Prepared",
    "SparseIndex",
    "multiplies_bfloat16",
    "nearest",
    "prepare",
    "similarity",
    "sparse_similarity",
    "sparse_topk",
    "topk",
    "topk_similarity",
]
