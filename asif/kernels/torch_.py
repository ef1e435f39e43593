"""Top-k similarity in torch, tile by tile: on the CPU, or on a CUDA device if Triton is not installed.

Memory in addition to the inputs: one tile of `TILE_ROWS` anchors in float64, its scores [q, TILE_ROWS] and the running
top k, for at most `QUERY_ROWS` queries at a time; never [q, N].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asif.kernels.canonical import GRID
from asif.vectors import Float32, TopK

TILE_ROWS = 8192
QUERY_ROWS = 1024


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """View an array as a tensor; bfloat16 (from ml_dtypes) is passed as 16-bit integers.

    Arrays that torch cannot view are copied: read-only memory maps, and arrays that are not contiguous.
    """
    brain = array.dtype.name == "bfloat16"
    tensor = torch.from_numpy(np.require(array.view(np.uint16) if brain else array, requirements=["C", "W"]))
    return tensor.view(torch.bfloat16) if brain else tensor


def round_to_grid(rows: torch.Tensor) -> torch.Tensor:
    """Return rows in float64, on the canonical grid.

    >>> (round_to_grid(torch.tensor([0.1])) * 2**26).tolist()
    [6710886.0]
    """
    wide = rows.to(torch.float64)
    if rows.dtype == torch.float16:
        return wide  # already multiples of 2^-24
    return (wide * GRID).round_().div_(GRID)


def _move_to_grid(rows: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Move rows to the device as float64 on the canonical grid."""
    known = rows if rows.dtype.name in ("float16", "bfloat16", "float32") else np.asarray(rows, np.float32)
    return round_to_grid(as_tensor(known).to(device))


def score_grid_rows(queries: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Return the canonical scores of all pairs of rows on the grid: [q, n] float32."""
    return (queries @ anchors.T).to(torch.float32)


def multiply(rows: NDArray[np.float64], columns: NDArray[np.float64], device: str) -> NDArray[np.float64]:
    """Multiply [n, d] by [d, s] in float64."""
    left, right = (as_tensor(each).to(device) for each in (rows, columns))
    found: NDArray[np.float64] = (left @ right).cpu().numpy()
    return found


def compute_second_moments(x: NDArray[Any], y: NDArray[Any], device: str) -> tuple[NDArray[np.float64], ...]:
    """Sum over pairs of rows, copied to the device in their stored type: Σx, Σy, Σxxᵀ, Σyyᵀ, Σxyᵀ in float64."""
    wide, other = (as_tensor(each).to(device).to(torch.float64) for each in (x, y))
    sums = (wide.sum(dim=0), other.sum(dim=0), wide.T @ wide, other.T @ other, wide.T @ other)
    return tuple(each.cpu().numpy() for each in sums)


def pack_keys(scores: torch.Tensor, first_index: int) -> torch.Tensor:
    """Pack float32 scores [q, n] and their indices into int64 keys: descending keys are the k best in their order.

    The upper half is the score's bits made monotone, with -0.0 as 0.0; the lower half is 2^32 - 1 minus the index, so
    that equal scores are ordered by index. At most 2^32 anchors fit.
    """
    bits = scores.view(torch.int32).to(torch.int64)
    ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    index = torch.arange(first_index, first_index + scores.shape[1], device=scores.device)
    return (ordered << 32) + (0xFFFFFFFF - index)


def unpack_scores(keys: torch.Tensor) -> torch.Tensor:
    """Unpack the scores from sort keys: float32."""
    ordered = keys >> 32
    return torch.where(ordered < 0, (-ordered) | -0x80000000, ordered).to(torch.int32).view(torch.float32)


def unpack_indices(keys: torch.Tensor) -> torch.Tensor:
    """Unpack the indices from sort keys: int64."""
    return 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def unpack_topk(keys: torch.Tensor) -> TopK:
    """Unpack scores and indices from sort keys."""
    return TopK(unpack_indices(keys).cpu().numpy(), unpack_scores(keys).cpu().numpy())


def merge_keys(keys: torch.Tensor, others: torch.Tensor, k: int) -> torch.Tensor:
    """Keep the k best of two sets of sort keys [q, m] and [q, n], best first."""
    every = torch.cat([keys, others], dim=1)
    return every.topk(min(k, every.shape[1]), dim=1, sorted=True).values


def _split_tiles(anchors: Sequence[NDArray[Any]]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Split blocks into tiles of at most TILE_ROWS rows; yield each with the index of its first row."""
    first = 0
    for block in anchors:
        for start in range(0, len(block), TILE_ROWS):
            tile = block[start : start + TILE_ROWS]
            yield first, tile
            first += len(tile)


def topk_similarity(queries: Float32, anchors: Sequence[NDArray[Any]], k: int, device: str = "cpu") -> TopK:
    """Read the anchors once per QUERY_ROWS queries, tile by tile, and keep the running top k."""
    where = torch.device(device)
    found: list[TopK] = []
    for start in range(0, len(queries), QUERY_ROWS):
        some = _move_to_grid(queries[start : start + QUERY_ROWS], where)
        best = torch.empty((len(some), 0), dtype=torch.int64, device=where)
        for first, tile in _split_tiles(anchors):
            best = merge_keys(best, pack_keys(score_grid_rows(some, _move_to_grid(tile, where)), first), k)
        found.append(unpack_topk(best))
    return TopK(np.concatenate([f.indices for f in found]), np.concatenate([f.scores for f in found]))
