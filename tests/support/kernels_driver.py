"""Run by test_kernels_processes in processes of their own, one for each function below that prints JSON."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from asif.errors import AsifError
from asif.kernels import SparseIndex, cpu, sparse_topk, topk_similarity
from asif.vectors import SparseRows, TopK


def unit(count: int, dim: int, seed: int) -> Any:
    rows = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def equal(found: TopK, expected: TopK) -> bool:
    return np.array_equal(found.indices, expected.indices) and np.array_equal(found.scores, expected.scores)


def plainly(queries: Any, anchors: Any, k: int) -> list[list[int]]:
    """Find the best by a product in float64; random rows have no ties."""
    return np.argsort(-(queries.astype(np.float64) @ anchors.T.astype(np.float64)), axis=1)[:, :k].tolist()


def interrupt() -> dict[str, Any]:
    """Send this process SIGINT after 0.3 of some three seconds of searching."""
    cpu.MIN_INTERRUPTIBLE_PRODUCTS = 0
    anchors, queries = unit(20_000, 384, 1).astype(np.float16), unit(64, 384, 2)
    begun = time.perf_counter()
    for _ in range(4):
        topk_similarity(queries, [anchors], 10, engine="cpu")
    once = (time.perf_counter() - begun) / 4
    times = int(3 / once) + 1  # three seconds of work
    wide = np.tile(queries, (times, 1))
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.perf_counter()
    try:
        topk_similarity(wide, [anchors], 10, engine="cpu")
        heard = False
    except KeyboardInterrupt:
        heard = True
    took = time.perf_counter() - begun
    again = topk_similarity(queries, [anchors], 10, engine="cpu")
    return {"heard": heard, "took": took, "usable": again.indices.tolist() == plainly(queries, anchors, 10)}


def fork() -> dict[str, Any]:
    """Search, fork, and search in the child and in the parent."""
    anchors, queries = unit(20_000, 64, 1).astype(np.float16), unit(130, 64, 2)
    some = SparseRows(np.random.default_rng(3).integers(0, 500, (9_000, 1)), np.ones((9_000, 1), np.float32), 500)
    index = SparseIndex(some)

    def search() -> tuple[TopK, TopK]:
        return topk_similarity(queries, [anchors], 10, engine="cpu"), sparse_topk(some[:300], index, 5)

    before = search()
    child = os.fork()
    if child == 0:
        same = all(map(equal, search(), before))
        os._exit(0 if same else 3)
    same = all(map(equal, search(), before))
    return {"child": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "parent": same}


def memory_of(call: Callable[[], Any]) -> float:
    """Return how far memory rises above its present state during a call, in MB."""

    def tell(what: str) -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
        return int(line.split()[1]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = tell("VmRSS")
    call()
    return tell("VmHWM") - before


def memory() -> dict[str, Any]:
    """Search 60,000 anchors for 2,048 queries; tell what that took beyond the inputs, in MB."""
    anchors, queries = unit(60_000, 64, 1).astype(np.float16), unit(2_048, 64, 2)
    sparse = SparseRows(
        np.random.default_rng(3).permuted(np.tile(np.arange(200), (60_000, 1)), axis=1)[:, :8].copy(),
        unit(60_000, 8, 4),
        200,
    )
    return {
        "dense": memory_of(lambda: topk_similarity(queries, [anchors], 50, engine="cpu")),
        "sparse": memory_of(lambda: sparse_topk(sparse[:2_048], sparse, 50)),
        "matrix": memory_of(lambda: np.ones((len(queries), len(anchors)), np.float32)),
    }


def exhausted(call: Callable[[], Any], megabytes: int) -> str:
    """Name the error of a call that gets no more than so much memory."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20, limits[1]))
    try:
        call()
        return "none"
    except AsifError as error:
        return type(error).__name__
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def exhaust_dense() -> dict[str, Any]:
    """Search with too little memory for the lists of candidates, then with enough."""
    anchors, queries = unit(60_000, 8, 1), unit(130, 8, 2)
    error = exhausted(lambda: topk_similarity(queries, [anchors], 5_000, engine="cpu"), 20)
    again = topk_similarity(queries, [anchors], 5, engine="cpu")
    return {"error": error, "usable": again.indices.tolist() == plainly(queries, anchors, 5)}


def exhaust_sparse() -> dict[str, Any]:
    """Compare with too little memory for the lists of candidates, then with enough."""
    rows = SparseRows(np.random.default_rng(3).integers(0, 50, (20_000, 1)), np.ones((20_000, 1), np.float32), 50)
    index = SparseIndex(rows)
    before = sparse_topk(rows[:5], index, 10)
    error = exhausted(lambda: sparse_topk(rows, index, 100), 45)
    return {"error": error, "usable": equal(sparse_topk(rows[:5], index, 10), before)}


if __name__ == "__main__":
    commands = {each.__name__: each for each in (interrupt, fork, memory, exhaust_dense, exhaust_sparse)}
    sys.stdout.write(json.dumps(commands[sys.argv[1]]()))
