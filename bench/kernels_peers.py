"""The searches that dense top-k is compared with: each prepares rows once and returns a function of (queries, k)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, TypeVar

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from usearch.index import MetricKind
from usearch.index import search as usearch

from asif.kernels import topk_similarity
from asif.vectors import Float32, Int64

Search = Callable[[Float32, int], Int64]
Rows = TypeVar("Rows", Float32, torch.Tensor)

OURS, OURS_32, BARE = "ours, float16", "ours, float32", "bare product"
PEERS = ("torch", "faiss", "numpy", "usearch", "published")
CHUNK = 100_000  # anchors that the published code reads at a time
BLOCK = 8192  # rows per block of an anchor set
SLICE_BYTES = 2**30  # similarities that a peer has in memory at a time
SAID = (
    f"Peers search float32 rows, and take queries in slices of at most {SLICE_BYTES / 2**30:.0f} GiB of similarities "
    f"(faiss and ours cut by themselves). Ours gets read-only blocks of {BLOCK:,} rows, as an anchor set has them, "
    "and keeps them in int8, or up to 2,048 rows as whole numbers, from the second search on. Both are prepared "
    "outside the timing. faiss takes BLAS for every number of queries (left alone, it multiplies small batches "
    "without). "
    "The bare product is bfloat16 x bfloat16 -> bfloat16 in torch, no selection, same slices as torch."
)


def slices(queries: Rows, held: int) -> Iterator[Rows]:
    """Split queries into slices for which `held` similarities per query fit into SLICE_BYTES."""
    step = max(1, SLICE_BYTES // (4 * held))
    return (queries[start : start + step] for start in range(0, len(queries), step))


def torch_search(rows: Float32) -> Search:
    """Multiply and select with torch."""
    anchors = torch.from_numpy(rows)

    def answer(queries: Float32, k: int) -> Int64:
        parts = [(torch.from_numpy(some) @ anchors.T).topk(k).indices for some in slices(queries, len(rows))]
        return torch.cat(parts).numpy()

    return answer


def numpy_search(rows: Float32) -> Search:
    """Multiply, select and sort with numpy."""

    def best(some: Float32, k: int) -> Int64:
        scores = some @ rows.T
        at = np.argpartition(scores, len(rows) - k, axis=1)[:, len(rows) - k :]
        order = np.argsort(-np.take_along_axis(scores, at, axis=1), axis=1)
        return np.take_along_axis(at, order, axis=1)

    return lambda queries, k: np.concatenate([best(some, k) for some in slices(queries, len(rows))])


def usearch_search(rows: Float32) -> Search:
    """Search with usearch's exact search."""

    def answer(queries: Float32, k: int) -> Int64:
        parts = [usearch(rows, some, k, MetricKind.IP, exact=True) for some in slices(queries, len(rows))]
        return np.concatenate([np.atleast_2d(part.keys) for part in parts]).astype(np.int64)

    return answer


def published_search(rows: Float32) -> Search:
    """Search as the published ASIF code does: chunks of anchors, the top k of each merged into a running top k."""
    anchors = torch.from_numpy(rows)

    def best(some: torch.Tensor, k: int) -> torch.Tensor:
        values, indices = torch.empty(len(some), 0), torch.empty(len(some), 0, dtype=torch.int64)
        for start in range(0, len(anchors), CHUNK):
            similarities = torch.einsum("qd,nd->qn", some, anchors[start : start + CHUNK])
            of_chunk = similarities.topk(min(k, similarities.shape[1]))
            values, at = torch.cat([values, of_chunk.values], dim=1).topk(k)
            indices = torch.cat([indices, of_chunk.indices + start], dim=1).gather(1, at)
        return indices

    def answer(queries: Float32, k: int) -> Int64:
        parts = [best(torch.from_numpy(some), k) for some in slices(queries, min(len(rows), CHUNK))]
        return torch.cat(parts).numpy()

    return answer


def bare_product(rows: Float32) -> Callable[[torch.Tensor], None]:
    """Multiply in bfloat16 without selection: the lower limit of the time. Queries are in bfloat16."""
    anchors = torch.from_numpy(rows).to(torch.bfloat16)

    def answer(queries: torch.Tensor) -> None:
        for some in slices(queries, len(rows)):
            some @ anchors.T

    return answer


class Contenders:
    """Hold all contenders over the same rows [n, d] of float16; all peers read the float32 copy in faiss's index."""

    def __init__(self, rows: NDArray[np.float16]) -> None:
        self.index = faiss.IndexFlatIP(rows.shape[1])
        self.index.add(rows.astype(np.float32))
        self.wide: Float32 = faiss.rev_swig_ptr(self.index.get_xb(), rows.size).reshape(rows.shape)
        self.searches: dict[str, Search] = {
            OURS: ours(rows),
            "torch": torch_search(self.wide),
            "faiss": lambda queries, k: self.index.search(queries, k)[1],
            "numpy": numpy_search(self.wide),
            OURS_32: ours(self.wide),
            "usearch": usearch_search(self.wide),
            "published": published_search(self.wide),
        }
        self.bare = bare_product(self.wide)

    def actions(self, queries: Float32, k: int, names: Collection[str]) -> dict[str, Callable[[], Int64 | None]]:
        """Return the functions to time for some of the contenders, and the bare product; queries are prepared here."""
        faiss.cvar.distance_compute_blas_threshold = 1
        narrow = torch.from_numpy(queries).to(torch.bfloat16)
        named = {name: partial(search, queries, k) for name, search in self.searches.items() if name in names}
        return {**named, BARE: partial(self.bare, narrow)}


def ours(rows: NDArray[Any]) -> Search:
    """Search with the kernel, over the blocks of an anchor set; two searches make the form that further ones use."""
    cut = blocks(rows)
    for _ in range(2):
        topk_similarity(np.zeros((1, rows.shape[1]), np.float32), cut, 1)
    return lambda queries, k: topk_similarity(queries, cut, k).indices


def blocks(rows: NDArray[Any]) -> list[NDArray[Any]]:
    """Split rows into blocks as long as those of an anchor set, and read-only like them."""
    memory = memoryview(rows).cast("B").toreadonly()
    frozen: NDArray[Any] = np.frombuffer(memory, rows.dtype).reshape(rows.shape)
    return [frozen[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
