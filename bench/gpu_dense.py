"""Dense top-k on a GPU: rows, contenders, the check of their results, and the expected times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from asif.kernels import cuda, torch_

Search = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]

OURS, TORCH, LOOP, CUPY = "ours", "torch matmul + topk", "chunked torch loop", "cupy"
SLICE_BYTES = 2**32  # products that a peer has in memory at a time
CHUNK = 100_000  # anchors that the published procedure reads at a time
CHECKED = 4  # queries of a cell whose results are compared with float64
TIE = 1e-7


def unit_rows(count: int, dim: int, dtype: torch.dtype, device: torch.device, seed: int) -> torch.Tensor:
    """Make random unit rows [count, dim] on the device, in batches."""
    chance = torch.Generator(device).manual_seed(seed)
    out = torch.empty((count, dim), dtype=dtype, device=device)
    for at in range(0, count, CHUNK):
        some = torch.randn((min(CHUNK, count - at), dim), generator=chance, device=device)
        out[at : at + CHUNK] = torch.nn.functional.normalize(some, dim=1).to(dtype)
    return out


def ours(queries: torch.Tensor, anchors: torch.Tensor, k: int) -> torch.Tensor:
    return cuda.topk_of_tensors(queries, [anchors], k)[0]


def torch_search(queries: torch.Tensor, anchors: torch.Tensor, k: int) -> torch.Tensor:
    step = max(1, SLICE_BYTES // (anchors.element_size() * len(anchors)))
    parts = torch.split(queries.to(anchors.dtype), step)
    return torch.cat([(some @ anchors.T).topk(k, dim=1).indices for some in parts])


def loop_search(queries: torch.Tensor, anchors: torch.Tensor, k: int) -> torch.Tensor:
    """Search as the published code does: chunks of anchors, the top k of each merged into a running top k."""
    asked = queries.to(anchors.dtype)
    values = torch.empty((len(asked), 0), dtype=asked.dtype, device=asked.device)
    indices = torch.empty((len(asked), 0), dtype=torch.int64, device=asked.device)
    for start in range(0, len(anchors), CHUNK):
        chunk = anchors[start : start + CHUNK]
        found = (asked @ chunk.T).topk(min(k, len(chunk)), dim=1)
        values, at = torch.cat([values, found.values], dim=1).topk(k, dim=1)
        indices = torch.cat([indices, found.indices + start], dim=1).gather(1, at)
    return indices


def cupy_search(queries: torch.Tensor, anchors: torch.Tensor, k: int) -> torch.Tensor:
    import cupy

    rows = cupy.from_dlpack(anchors)
    step = max(1, SLICE_BYTES // (16 * len(anchors)))
    parts = []
    for some in torch.split(queries.to(anchors.dtype), step):
        scores = cupy.from_dlpack(some) @ rows.T
        at = cupy.argpartition(scores, len(anchors) - k, axis=1)[:, len(anchors) - k :]
        order = cupy.argsort(-cupy.take_along_axis(scores, at, axis=1), axis=1)
        parts.append(torch.from_dlpack(cupy.take_along_axis(at, order, axis=1)))
    return torch.cat(parts)


PEERS: dict[str, Search] = {TORCH: torch_search, LOOP: loop_search, CUPY: cupy_search}


class Truth:
    """Hold the true results of some queries: canonical top-k, and the k-th largest float64 product."""

    def __init__(self, queries: torch.Tensor, anchors: torch.Tensor, k: int) -> None:
        self.at = torch.linspace(0, len(queries) - 1, min(CHECKED, len(queries)), device=queries.device).long()
        self.asked, self.anchors, self.k = queries[self.at], anchors, k
        grid = torch_.round_to_grid(self.asked)
        keys = torch.empty((len(grid), 0), dtype=torch.int64, device=queries.device)
        best = torch.empty((len(grid), 0), dtype=torch.float64, device=queries.device)
        for start in range(0, len(anchors), CHUNK):
            rows = anchors[start : start + CHUNK]
            scores = torch_.score_grid_rows(grid, torch_.round_to_grid(rows))
            keys = torch_.merge_keys(keys, torch_.pack_keys(scores, start), k)
            products = torch.cat([best, self.asked.double() @ rows.double().T], dim=1)
            best = products.topk(min(k, products.shape[1]), dim=1).values
        self.indices, self.kth = torch_.unpack_indices(keys), best[:, -1:]

    def exact(self, indices: torch.Tensor) -> bool:
        """Tell whether indices [q, k] are the canonical ones, in their order."""
        return bool(torch.equal(indices[self.at], self.indices))

    def recall(self, indices: torch.Tensor) -> float:
        """Return the share of the exact top k that was found; products within TIE of the k-th count as equal."""
        rows = self.anchors[indices[self.at]].double()
        products = torch.einsum("qd,qkd->qk", self.asked.double(), rows)
        return float((products >= self.kth - TIE).double().mean())


def expected(cell: dict[str, Any], ceilings: dict[str, float], item: int) -> float:
    """Predict seconds: the sample, the product or one pass over the anchors, scoring and sorting the candidates.

    Assumes matrix products at 55 % of the measured rate, streams at 85 % of the copy rate, scattered rows at 60 %, and
    half a millisecond per 100 launches.
    """
    count, dim, asked, k = (cell[name] for name in ("N", "d", "q", "k"))
    plan = cuda.SearchPlan(count, k)
    share = 1 + plan.size / count
    reading = count * dim * item * share / (0.85 * ceilings["bytes"])
    multiplying = 2.0 * asked * count * dim * share / (0.55 * ceilings["bf16"])
    passing = asked * plan.rank * count / plan.size
    scoring = passing * dim * item / (0.6 * ceilings["bytes"])
    selecting = asked * (2 * plan.size * 3 + plan.capacity * 8 * 6) / (0.6 * ceilings["bytes"])
    return max(reading, multiplying) + scoring + selecting + 0.2e-3
