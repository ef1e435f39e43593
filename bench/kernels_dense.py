"""Dense top-k: the grid of cells, which contenders run in each, and the check of their results."""

from __future__ import annotations

import gc
import itertools
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from kernels_data import Data, queries, rows
from kernels_peers import BARE, OURS, OURS_32, PEERS, Contenders, blocks
from kernels_timing import Record, Results, interleaved
from numpy.typing import NDArray

from asif.evaluate.comparison.peak_memory import read_peak_memory
from asif.kernels import topk_similarity
from asif.vectors import Float32, Int64

CAP_SECONDS = 40.0  # a peer's run predicted to be longer is skipped
CAP_SMALLER_K = 8.0  # the same if k is not the largest
CAP_USEARCH = 8.0
SAMPLE = 16  # queries per cell whose results are checked
TIE = 1e-7  # float64 products this close count as equal
STEP = 20_000  # rows multiplied in float64 at a time
SAID = (
    f"A peer's run that would take more than {CAP_SECONDS:.0f} s at the largest k, {CAP_SMALLER_K:.0f} s at smaller "
    f"ones ({CAP_USEARCH:.0f} s for usearch), judged from fewer anchors and linearly, is skipped: `> X s`, X being the "
    "prediction. "
    f"Recall: the share of the exact top k (float64 products, at most {SAMPLE} queries per cell, products within "
    f"{TIE:g} of the k-th count as equal) that was found."
)


@dataclass(frozen=True)
class Grid:
    """Hold the cells: every real dimension and the random one, by anchors, queries and k."""

    real: tuple[int, ...] = (384, 768, 1280)
    random: tuple[int, ...] = (768,)
    anchors: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    queries: tuple[int, ...] = (1, 16, 64, 512, 4096)
    ks: tuple[int, ...] = (800, 100, 10)
    random_ks: tuple[int, ...] = (800, 10)
    seconds: float = 0.6  # for one contender in one cell
    memory: tuple[tuple[int, int, int, int], ...] = (  # d, anchors, queries, k
        (768, 100_000, 64, 800),
        (768, 100_000, 4096, 800),
        (768, 1_000_000, 64, 800),
        (768, 1_000_000, 4096, 800),
        (1280, 1_000_000, 1, 10),
    )

    def cells(self, data: Data, dims: int, anchors: int) -> list[Record]:
        """List the cells over one set of rows."""
        ks = self.ks if data == "real" else self.random_ks
        where = {"section": "dense", "data": data, "d": dims, "N": anchors}
        return [{**where, "q": q, "k": k} for q, k in itertools.product(self.queries, ks) if k <= anchors]


QUICK = Grid(
    real=(384,),
    random=(384,),
    anchors=(1_000, 10_000, 100_000),
    queries=(1, 64, 512),
    random_ks=(800,),
    seconds=0.2,
    memory=((384, 100_000, 64, 800),),
)


def run(results: Results, grid: Grid) -> None:
    """Measure every cell that is not in the results yet."""
    for dims, anchors, q, k in grid.memory:
        cell = {"section": "memory", "data": "real", "d": dims, "N": anchors, "q": q, "k": k}
        if not results.select(**cell):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                results.add({**cell, "MiB": fresh.submit(memory_beside_inputs, dims, anchors, q, k).result()})
    sets: list[tuple[Data, int]] = [*(("real", d) for d in grid.real), *(("random", d) for d in grid.random)]
    for data, dims in sets:
        todo = {n: [c for c in grid.cells(data, dims, n) if not results.select(**c)] for n in grid.anchors}
        if any(todo.values()):
            every = rows(data, "train", dims, max(n for n, cells in todo.items() if cells))
            asked = queries(data, dims, max(grid.queries))
            for anchors, cells in todo.items():
                if cells:
                    measure(results, every[:anchors], asked, cells, grid)
                    gc.collect()


def measure(results: Results, anchors: NDArray[np.float16], asked: Float32, cells: list[Record], grid: Grid) -> None:
    """Measure all cells over one set of rows."""
    contenders = Contenders(anchors)
    asked_for = sorted({cell["q"] for cell in cells})
    sampled = {q: np.linspace(0, q - 1, min(q, SAMPLE)).astype(int) for q in asked_for}
    every = np.unique(np.concatenate(list(sampled.values())))
    best = dict(zip(every, best_products(asked[every], contenders.wide, max(grid.ks)), strict=True))
    for cell in cells:
        q, k = cell["q"], cell["k"]
        predicted = {name: predict(results, cell, name) for name in PEERS}
        skipped = {name: ms for name, ms in predicted.items() if ms > 1000 * cap(name, k == max(grid.ks))}
        actions = contenders.actions(asked[:q], k, {OURS, OURS_32, *PEERS} - set(skipped))
        timed = interleaved(actions, grid.seconds)
        recall = {
            name: float(np.mean([found(asked[i], output[i], contenders.wide, best[i][k - 1]) for i in sampled[q]]))
            for name, output in timed.outputs.items()
            if name != BARE
        }
        results.add(
            {
                **cell,
                "ms": timed.milliseconds(),
                "runs": timed.runs(),
                "budget_s": grid.seconds,
                "predicted_ms": skipped,
                "recall": recall,
            }
        )
        print(f"{cell}: " + ", ".join(f"{name} {ms:.1f}" for name, ms in timed.milliseconds().items()), file=sys.stderr)


def cap(peer: str, largest_k: bool) -> float:
    """Return the predicted seconds above which a peer's run is skipped."""
    seconds = CAP_SECONDS if largest_k else CAP_SMALLER_K
    return min(seconds, CAP_USEARCH) if peer == "usearch" else seconds


def predict(results: Results, cell: Record, name: str) -> float:
    """Predict a peer's milliseconds from the next smaller number of anchors; 0 if there is none."""
    same = {key: value for key, value in cell.items() if key != "N"}
    smaller = [record for record in results.select(**same) if record["N"] < cell["N"]]
    if not smaller:
        return 0.0
    nearest = max(smaller, key=lambda record: record["N"])
    known = {**nearest["ms"], **nearest["predicted_ms"]}
    return float(known[name] * cell["N"] / nearest["N"])


def best_products(asked: Float32, anchors: Float32, k: int) -> NDArray[np.float64]:
    """Return the k largest float64 products of each query, descending [q, k]."""
    wide, best = asked.astype(np.float64), np.empty((len(asked), 0))
    for start in range(0, len(anchors), STEP):
        every = np.concatenate([best, wide @ anchors[start : start + STEP].astype(np.float64).T], axis=1)
        best = np.partition(every, max(every.shape[1] - k, 0), axis=1)[:, -k:]
    return -np.sort(-best, axis=1)


def found(query: Float32, indices: Int64, anchors: Float32, kth: float) -> float:
    """Return the share of indices that belong to the exact top k: distinct, and not worse than the k-th product."""
    products = anchors[np.unique(indices)].astype(np.float64) @ query.astype(np.float64)
    return float((products >= kth - TIE).sum() / len(indices))


def memory_beside_inputs(dims: int, anchors: int, q: int, k: int) -> float:
    """Return the peak memory of one call of ours without its inputs, in MiB; to be run in a new process."""
    stored, asked = blocks(rows("real", "train", dims, anchors)), queries("real", dims, q)
    topk_similarity(asked[:1], [stored[0][:k]], 1)  # imports and compilation are not counted
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident memory now
    before = read_peak_memory()
    topk_similarity(asked, stored, k)
    return read_peak_memory() - before
