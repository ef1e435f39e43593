"""Sparse comparison on a GPU: random rows, contenders, and the check of their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from asif.kernels.cuda_sparse import SparseDeviceIndex, SparseDeviceRows
from asif.kernels.torch_ import unpack_scores

OURS, TORCH, TORCH_DENSE, CUPYX = "ours", "torch csr @ csr", "torch csr @ dense", "cupyx csr @ csr"
BEST = 10  # rows of a gallery that are searched
DENSE_BYTES = 2**35  # the largest dense gallery that a peer may use


def rows(count: int, width: int, k: int, device: torch.device, seed: int) -> SparseDeviceRows:
    """Make unit rows of k entries, one at a random place of each of k equal parts of the anchors."""
    chance = torch.Generator(device).manual_seed(seed)
    offsets = torch.rand((count, k), generator=chance, device=device, dtype=torch.float64)
    places = ((torch.arange(k, device=device) + offsets) * (width // k)).long().clamp(max=width - 1)
    values = torch.rand((count, k), generator=chance, device=device) ** 4
    return SparseDeviceRows(places, torch.nn.functional.normalize(values, dim=1), width)


def csr(some: SparseDeviceRows) -> torch.Tensor:
    """Convert rows to torch's CSR format."""
    count, k = some.indices.shape
    starts = torch.arange(count + 1, device=some.indices.device) * k
    indices = some.indices.sort(dim=1)
    values = some.values.gather(1, indices.indices)
    return torch.sparse_csr_tensor(starts, indices.values.ravel(), values.ravel(), (count, some.width))


def contenders(queries: SparseDeviceRows, gallery: SparseDeviceRows, best: bool) -> dict[str, Callable[[], Any]]:
    """Return the contenders, which score all pairs or find the best rows; rows are prepared outside the timed part."""
    index = SparseDeviceIndex(gallery)
    left = csr(queries)

    def finished(scores: torch.Tensor) -> torch.Tensor:
        return scores.topk(min(BEST, scores.shape[1]), dim=1).values if best else scores

    def ours() -> torch.Tensor:
        return unpack_scores(index.topk(queries, min(BEST, len(gallery)))) if best else index.similarity(queries)

    def torch_pairs() -> torch.Tensor:
        return finished((left @ turned).to_dense())

    def torch_dense() -> torch.Tensor:
        return finished(left @ spread)

    def cupyx_pairs() -> torch.Tensor:
        return finished(torch.from_dlpack((cupy_left @ cupy_turned).toarray()))

    turned = csr(gallery).to_sparse_coo().t().coalesce().to_sparse_csr()
    made: dict[str, Callable[[], Any]] = {OURS: ours, TORCH: torch_pairs}
    if 4 * len(gallery) * gallery.width <= DENSE_BYTES:
        spread = gallery.to_dense().float().T.contiguous()
        made[TORCH_DENSE] = torch_dense
    try:
        import cupy
        from cupyx.scipy.sparse import csr_matrix
    except ImportError:
        return made

    def moved(tensor: torch.Tensor) -> Any:
        parts = (tensor.values(), tensor.col_indices().int(), tensor.crow_indices().int())
        return csr_matrix(tuple(map(cupy.from_dlpack, parts)), shape=tuple(tensor.shape))

    cupy_left, cupy_turned = moved(left), moved(turned)
    made[CUPYX] = cupyx_pairs
    return made


def error(scores: torch.Tensor, queries: SparseDeviceRows, gallery: SparseDeviceRows, best: bool) -> float:
    """Return the largest difference to float64 products of the first queries."""
    some = queries[:4]
    parts = [some.to_dense() @ gallery[at : at + 250].to_dense().T for at in range(0, len(gallery), 250)]
    exact = torch.cat(parts, dim=1) * some.scales * gallery.scales.T
    wanted = exact.topk(min(BEST, exact.shape[1]), dim=1).values if best else exact
    return float((scores[:4].double() - wanted).abs().max())
