"""Exact top-k, sparse comparison and labelling against peers: every cell on the same data, in one run.

`--quick` measures a small part in a minute or two, `--only` one section, `--resume` what an earlier run lacks.
Cells go to bench/results/kernels.jsonl (kernels-quick.jsonl) as they are measured; tables are printed at the end.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from importlib.metadata import version

import kernels_dense
import kernels_end
import kernels_plot
import kernels_report
import kernels_sparse
from common import ROOT, machine
from kernels_timing import Record, Results

SECTIONS = {"dense": ("dense", "memory"), "sparse": ("sparse",), "end": ("end",)}  # and the records each writes
SLOW = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # set on some machines for old OpenBLAS builds; they slow numpy's own
LIBRARIES = ("faiss-cpu", "usearch", "scipy")


def main() -> None:
    """Measure, print the tables, draw the plot."""
    if any(name in os.environ for name in SLOW):
        kept = {name: value for name, value in os.environ.items() if name not in SLOW}
        os.execve(sys.executable, sys.orig_argv, kept)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small part of everything")
    parser.add_argument("--only", choices=SECTIONS, help="measure one section")
    parser.add_argument("--queries", help="numbers of queries of dense cells, separated by commas")
    parser.add_argument("--data", choices=["real", "random"], help="dense cells over these rows alone")
    parser.add_argument("--resume", action="store_true", help="keep the cells that an earlier run measured")
    options = parser.parse_args()
    sections = (options.only,) if options.only else tuple(SECTIONS)

    def keep(record: Record) -> bool:
        return options.resume or (options.only and record["section"] not in SECTIONS[options.only])

    file = ROOT / "bench" / "results" / ("kernels-quick.jsonl" if options.quick else "kernels.jsonl")
    results = Results(file, keep)
    here = {"section": "machine", "text": machine() + ", " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES)}
    if not results.select(**here):
        results.add(here)
    if "dense" in sections:
        kernels_dense.run(results, choose_grid(options))
    if "sparse" in sections:
        kernels_sparse.run(results, kernels_sparse.QUICK if options.quick else kernels_sparse.Sizes())
    if "end" in sections:
        kernels_end.run(results, kernels_end.QUICK if options.quick else kernels_end.Sizes())
    print("\n\n".join(record["text"] for record in results.select(section="machine")))
    kernels_report.report(results)
    if results.select(section="dense"):
        kernels_plot.plot(results, file.with_suffix(".png"))


def choose_grid(options: argparse.Namespace) -> kernels_dense.Grid:
    """Return the dense cells that the options name."""
    grid = kernels_dense.QUICK if options.quick else kernels_dense.Grid()
    if options.queries:
        grid = replace(grid, queries=tuple(map(int, options.queries.split(","))))
    return replace(grid, **{"real": {"random": ()}, "random": {"real": ()}}.get(options.data, {}))


if __name__ == "__main__":
    main()
