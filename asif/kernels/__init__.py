"""Exact top-k similarity and sparse comparison on plain arrays."""

from asif.kernels.api import (
    KERNELS,
    KernelName,
    PreparedRows,
    ScoredRows,
    compute_similarity,
    find_nearest,
    prepare_rows,
    select_topk,
    sparse_similarity,
    sparse_topk,
    topk_similarity,
)
from asif.kernels.native_binding import supports_bfloat16
from asif.kernels.quantised import freeze
from asif.kernels.sparse import SparseIndex

__all__ = [
    "KERNELS",
    "KernelName",
    "PreparedRows",
    "ScoredRows",
    "SparseIndex",
    "supports_bfloat16",
    "find_nearest",
    "freeze",
    "prepare_rows",
    "compute_similarity",
    "sparse_similarity",
    "sparse_topk",
    "select_topk",
    "topk_similarity",
]
