"""Exact top-k and sparse products on a CUDA device, compared with torch and cupy: each cell on equal data, in one run.

Cells that decide the stated figures come first, the rest of the grid while the time lasts. Each goes to
bench/results/gpu.jsonl as it is measured; tables are printed at the end, with what was predicted. `--dry-run` runs tiny
cells on the CPU, in Triton's interpreter: the times are then meaningless.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from common import ROOT, show
from kernels_timing import Record, Results

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
BUDGET = 420.0  # seconds, the default of --seconds
OF_CELL = 1.0  # seconds for the runs of one contender in a cell
SLOW = 20.0  # a peer is skipped if it is expected to take longer, by its time for fewer anchors


def first_cells() -> Iterator[Record]:
    """Yield the cells that the stated figures depend on."""
    million = {"N": 1_600_000, "d": 768, "k": 800, "dtype": "float16"}
    yield from ({**million, "q": q} for q in (64, 1, 1024, 16, 16_384))
    yield {**million, "N": 10_000_000, "q": 10_000}
    yield from ({**million, "q": q, "dtype": dtype} for dtype in ("bfloat16", "float32") for q in (1, 1024))


def grid() -> Iterator[Record]:
    """Yield every cell, cheap ones first."""
    for count, dim, k in itertools.product((100_000, 1_600_000, 10_000_000), (768, 384, 1024), (800, 100, 10)):
        yield from ({"N": count, "d": dim, "k": k, "dtype": "float16", "q": q} for q in (1, 16, 64, 1024, 16_384))


SPARSE = (  # queries, rows, anchors, entries of a row, whether to find the best rows only
    (10_000, 1_000, 1_600_000, 800, False),
    (1_000, 100_000, 1_600_000, 800, True),
    (10_000, 1_000, 100_000, 100, False),
    (1, 100_000, 1_600_000, 800, True),
    (10_000, 1_000, 1_000, 50, False),
)
TINY = [{"N": 6_000, "d": 64, "k": 10, "dtype": "float32", "q": q} for q in (1, 12)]
TINY_SPARSE = ((3, 40, 300, 9, False), (3, 40, 300, 9, True))


def main() -> None:
    """Measure until the time is used up, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=BUDGET, help="stop before a cell after so long")
    parser.add_argument("--dry-run", action="store_true", help="tiny cells on the CPU")
    options = parser.parse_args()
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported
    elif not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; --dry-run does without")
    device = torch.device("cpu" if options.dry_run else "cuda")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    end = time.monotonic() + options.seconds

    from gpu_timing import ceilings

    results = Results(ROOT / "bench" / "results" / "gpu.jsonl", lambda record: False)
    results.add({"section": "machine", "text": machine(device), "ceilings": ceilings(device, options.dry_run)})
    of_dense, of_sparse = (TINY, TINY_SPARSE) if options.dry_run else ([*first_cells()], SPARSE)
    dense(results, of_dense, device, end)
    sparse(results, of_sparse, device, end)
    if not options.dry_run:
        dense(results, [cell for cell in grid() if not results.select(section="dense", **cell)], device, end)
    report(results)


def machine(device: torch.device) -> str:
    """Describe the device, the versions and the commit."""
    import triton

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} (interpreter)"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True, capture_output=True, check=False
    )
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, triton {triton.__version__}"
    return f"{name}, {versions}, CUDA {torch.version.cuda}, commit {commit.stdout.strip() or '?'}"


def guarded(record: Record, name: str, action: Callable[[], Any]) -> None:
    """Run one contender; an error is written to the record, and the others still run."""
    try:
        action()
    except ImportError:
        record["failed"][name] = "absent"
    except Exception as error:
        record["failed"][name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def dense(results: Results, cells: list[Record], device: torch.device, end: float) -> None:
    """Measure cells; anchors are generated again if they differ from those of the previous cell."""
    from gpu_dense import OURS, PEERS, Truth, expected, ours, unit_rows

    held: tuple[Any, Any] = (None, None)
    for cell in cells:
        if time.monotonic() > end:
            results.add({"section": "left out", "cell": cell})
            continue
        record: Record = {"section": "dense", **cell, "ms": {}, "recall": {}, "failed": {}}
        dtype, wanted = DTYPES[cell["dtype"]], (cell["N"], cell["d"], cell["dtype"])
        try:
            if held[0] != wanted:
                held = (None, None)
                gc.collect()
                held = (wanted, unit_rows(cell["N"], cell["d"], dtype, device, 1))
            anchors, k = held[1], cell["k"]
            queries = unit_rows(cell["q"], cell["d"], torch.float32, device, 2)
            truth = Truth(queries, anchors, k)
        except Exception as error:
            results.add({**record, "failed": {"all": f"{type(error).__name__}"}})
            continue
        record["predicted_ms"] = 1000 * expected(cell, results.records[0]["ceilings"], anchors.element_size())
        for name, search in {OURS: ours, **PEERS}.items():
            smaller = [r for r in results.select(section="dense", d=cell["d"], k=k, q=cell["q"], dtype=cell["dtype"])
                       if name in r["ms"] and r["N"] < cell["N"]]  # fmt: skip
            likely = max((r["ms"][name] * cell["N"] / r["N"] for r in smaller), default=0.0)
            if name != OURS and likely > 1000 * SLOW:
                record["failed"][name] = f"> {likely / 1000:.0f} s"
                continue

            guarded(record, name, partial(measure, record, name, partial(search, queries, anchors, k), truth, device))
        results.add(record)


def measure(record: Record, name: str, search: Callable[[], Any], truth: Any, device: torch.device) -> None:
    """Compare a contender's result with float64, and time it."""
    from gpu_dense import OURS
    from gpu_timing import seconds

    found = search()
    record["recall"][name] = truth.recall(found)
    if name == OURS:
        record["exact"] = truth.exact(found)
    del found
    record["ms"][name] = 1000 * seconds(search, device, OF_CELL)


def sparse(results: Results, cells: Any, device: torch.device, end: float) -> None:
    """Measure comparisons of sparse rows."""
    from gpu_sparse import contenders, error, rows

    for asked, count, width, k, best in cells:
        where = {"queries": asked, "rows": count, "N": width, "k": k, "best": best}
        if time.monotonic() > end:
            results.add({"section": "left out", "cell": where})
            continue
        record: Record = {"section": "sparse", **where, "ms": {}, "error": {}, "failed": {}}
        try:
            queries, gallery = rows(asked, width, k, device, 1), rows(count, width, k, device, 2)
            every = contenders(queries, gallery, best)
        except Exception as problem:
            results.add({**record, "failed": {"all": f"{type(problem).__name__}"}})
            continue
        for name, action in every.items():
            check = partial(error, queries=queries, gallery=gallery, best=best)
            guarded(record, name, partial(measure_pairs, record, name, action, check, device))
        results.add(record)


def measure_pairs(
    record: Record, name: str, action: Callable[[], Any], check: Callable[[Any], float], device: torch.device
) -> None:
    """Compare a contender's scores with float64, and time it."""
    from gpu_timing import seconds

    record["error"][name] = check(action())
    record["ms"][name] = 1000 * seconds(action, device, OF_CELL)


def report(results: Results) -> None:
    """Print the tables."""
    from gpu_dense import CUPY, LOOP, OURS, TORCH

    head = results.records[0]
    copied, multiplied = head["ceilings"]["bytes"], head["ceilings"]["bf16"]
    print(
        f"{head['text']}. Copy: {copied / 1e9:,.0f} GB/s read and written; bf16 product: {multiplied / 1e12:,.0f} T/s."
    )
    print()
    lines = []
    for cell in results.select(section="dense"):
        ours = cell["ms"].get(OURS)
        peers = [cell["ms"][name] for name in (TORCH, LOOP, CUPY) if name in cell["ms"]]
        reading = cell["N"] * cell["d"] * (4 if cell["dtype"] == "float32" else 2)
        rates = ["-", "-", "-"]
        if ours:
            rates = [
                f"{min(peers) / ours:.2f}" if peers else "-",
                f"{1000 * reading / ours / copied:.0%}",
                f"{2000.0 * cell['q'] * cell['N'] * cell['d'] / ours / multiplied:.0%}",
            ]
        times = [shown(cell, name) for name in (OURS, TORCH, LOOP, CUPY)]
        recall = [f"{cell['recall'][name]:.4f}" if name in cell["recall"] else "-" for name in (TORCH, LOOP)]
        where = [cell["dtype"], *(f"{cell[key]:,}" for key in ("N", "d", "q", "k"))]
        predicted = f"{cell['predicted_ms']:,.2f}" if "predicted_ms" in cell else "-"
        lines.append([*where, *times, *rates, predicted, str(cell.get("exact", "-")), *recall])
    header = ["dtype", "N", "d", "q", "k", OURS, TORCH, LOOP, CUPY, "best peer / ours", "of copy", "of bf16 product"]
    show([*header, "predicted", "ours exact", f"recall {TORCH}", f"recall {LOOP}"], lines)
    print()
    names = list(
        dict.fromkeys(name for cell in results.select(section="sparse") for name in (*cell["ms"], *cell["failed"]))
    )
    lines = []
    for cell in results.select(section="sparse"):
        peers = [ms for name, ms in cell["ms"].items() if name != OURS]
        ratio = f"{min(peers) / cell['ms'][OURS]:.2f}" if peers and OURS in cell["ms"] else "-"
        worst = f"{cell['error'][OURS]:.1e}" if OURS in cell["error"] else "-"
        where = [f"{cell[key]:,}" for key in ("queries", "rows", "N", "k")]
        wanted = "best 10" if cell["best"] else "all pairs"
        lines.append([wanted, *where, *(shown(cell, name) for name in names), ratio, worst])
    show(["wanted", "queries", "rows", "N", "k", *names, "best peer / ours", "worst error of ours"], lines)
    print(f"\nMilliseconds. Not reached in time: {len(results.select(section='left out'))} cells.")


def shown(cell: Record, name: str) -> str:
    """Format a contender's time, or why it was not run."""
    if name in cell["ms"]:
        return f"{cell['ms'][name]:,.2f}"
    return str(cell["failed"].get(name, cell["failed"].get("all", "-")))


if __name__ == "__main__":
    main()
