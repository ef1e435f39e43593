"""Sparse comparison: all pairs of two sides, and the best rows of a gallery."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from kernels_dense import SAMPLE, TIE
from kernels_rows import (
    OURS,
    OURS_INDEX,
    POWER,
    SCIPY,
    TORCH,
    TORCH_DENSE,
    Right,
    csr,
    keep,
    pick,
    real_pairs,
    represent,
    scatter,
    torch_csr,
)
from kernels_timing import Record, Results, interleaved

from asif.kernels import sparse_similarity, sparse_topk
from asif.vectors import Float32, Int64, SparseRows

BEST = 10
BUDGET = 4.0  # seconds for one contender in one cell
PATTERNS = ("real", "random")
SAID = (
    "Left sides and queries are images, right sides and galleries captions, as asif with k = 800 and p = "
    f"{POWER:g} represents them over N real pairs (`real`), or the same values at random positions (`random`). "
    f"k = 50: the 50 largest of the 800. Galleries are searched for the best {BEST}. Prepared once, outside the "
    "timing: our inverted index; scipy's and torch's formats. Peers return what ours does: dense float32, or the best "
    "few. torch csr @ dense: the left csr times the right side's dense columns, or the gallery's csr times the "
    "queries' dense columns. Worst: the largest error against float64 of all pairs, the smallest recall of the exact "
    "best of a gallery, among the contenders, on a sample of rows."
)
Actions = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Sizes:
    """Hold the cases: pairs as (left rows, right rows, N), and queries against a gallery of (rows, N)."""

    pairs: tuple[tuple[int, int, int], ...] = ((10_000, 1_000, 100_000), (1_000, 1_000, 1_000))
    gallery: tuple[int, int] = (100_000, 100_000)
    queries: tuple[int, ...] = (512, 64, 1)
    ks: tuple[int, ...] = (800, 50)


QUICK = Sizes(pairs=((1_000, 200, 10_000), (200, 200, 1_000)), gallery=(5_000, 10_000))


def run(results: Results, sizes: Sizes) -> None:
    """Measure every case that is not in the results yet."""
    cases = [("pairs", (left,), right, anchors) for left, right, anchors in sizes.pairs]
    cases.append(("gallery", sizes.queries, *sizes.gallery))
    for case, lefts, right, anchors in cases:
        where = {"section": "sparse", "case": case, "right": right, "N": anchors}
        todo = [
            (k, pattern, [left for left in lefts if not results.select(**where, k=k, pattern=pattern, left=left)])
            for k, pattern in itertools.product(sizes.ks, PATTERNS)
            if k <= anchors
        ]
        if not any(missing for *_, missing in todo):
            continue
        pairs = real_pairs(anchors)
        a, b = represent("image", max(lefts), pairs, max(sizes.ks)), represent("text", right, pairs, max(sizes.ks))
        for k, pattern, missing in todo:
            for record in measured(case, pattern, keep(a, k), keep(b, k), missing) if missing else ():
                results.add({**where, "k": k, "pattern": pattern, **record})


def measured(case: str, pattern: str, a: SparseRows, b: SparseRows, lefts: list[int]) -> Iterator[Record]:
    """Measure one right side against the first rows of the left one, for each number of rows."""
    if pattern == "random":
        a, b = scatter(a, seed=0), scatter(b, seed=1)
    right = Right.prepare(b)
    for count in lefts:
        left = a[:count]
        timed = interleaved((pairs_actions if case == "pairs" else gallery_actions)(left, right), BUDGET)
        at = np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64)
        truth = right.exact(pick(left, at))
        check = {name: worst(case, output[at], truth) for name, output in timed.outputs.items()}
        yield {
            "left": count,
            "ms": timed.milliseconds(),
            "runs": timed.runs(),
            "prepared_ms": right.prepared_ms,
            "error" if case == "pairs" else "recall": check,
        }
        print(f"sparse {case} {pattern} {count}: {timed.milliseconds()}", file=sys.stderr)


def pairs_actions(left: SparseRows, right: Right) -> Actions:
    """Return the contenders that compare all rows of two sides: each returns dense products."""
    by_row, dense = csr(left), torch.from_numpy(np.ascontiguousarray(right.rows.to_dense().T))
    tensor, turned = torch_csr(by_row), torch_csr(right.transposed)

    def scipy_products() -> Float32:
        return (by_row @ right.transposed).toarray()

    def torch_products() -> Float32:
        return (tensor @ turned).to_dense().numpy()

    def torch_dense_products() -> Float32:
        return (tensor @ dense).numpy()

    return {
        OURS: partial(sparse_similarity, left, right.rows),
        SCIPY: scipy_products,
        OURS_INDEX: partial(sparse_similarity, left, right.index),
        TORCH: torch_products,
        TORCH_DENSE: torch_dense_products,
    }


def gallery_actions(left: SparseRows, right: Right) -> Actions:
    """Return the contenders that find the best rows of a gallery: each returns their indices."""
    by_row, dense = csr(left), torch.from_numpy(np.ascontiguousarray(left.to_dense().T))
    tensor, turned, gallery = torch_csr(by_row), torch_csr(right.transposed), torch_csr(right.csr)

    def ours_best() -> Int64:
        return sparse_topk(left, right.index, BEST).indices

    def scipy_best() -> Int64:
        scores = (by_row @ right.transposed).toarray()
        at = np.argpartition(scores, scores.shape[1] - BEST, axis=1)[:, -BEST:]
        return np.take_along_axis(at, np.argsort(-np.take_along_axis(scores, at, axis=1), axis=1), axis=1)

    def torch_best() -> Int64:
        return (tensor @ turned).to_dense().topk(BEST).indices.numpy()

    def torch_dense_best() -> Int64:
        return (gallery @ dense).T.topk(BEST).indices.numpy()

    return {OURS_INDEX: ours_best, SCIPY: scipy_best, TORCH: torch_best, TORCH_DENSE: torch_dense_best}


def worst(case: str, output: Any, truth: Any) -> float:
    """Return the largest error of products, or the recall of the exact best."""
    if case == "pairs":
        return float(np.abs(output - truth).max())
    kth = np.partition(truth, -BEST, axis=1)[:, [-BEST]]
    return float((np.take_along_axis(truth, output, axis=1) >= kth - TIE).mean())
