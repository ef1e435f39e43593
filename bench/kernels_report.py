"""The report of the kernel benchmarks: tables of cells, ratios, and the check of the stated targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import kernels_data
import kernels_dense
import kernels_end
import kernels_peers
import kernels_rows
import kernels_sparse
from common import show
from kernels_peers import BARE, OURS, OURS_32, PEERS
from kernels_timing import RUNS, TURNS, Record, Results

DENSE = (*PEERS, OURS, OURS_32, BARE)


def number(value: float) -> str:
    """Format milliseconds with about three digits."""
    digits = next((digits for digits, below in ((3, 1), (2, 10), (1, 100)) if value < below), 0)
    return f"{value:,.{digits}f}"


def ratio(value: float | None) -> str:
    """Format a ratio, or the sign for none."""
    return "-" if value is None else f"{value:.2f}"


def cost(record: Record, name: str) -> str:
    """Format a contender's time, or the predicted time if it was skipped."""
    if name in record["ms"]:
        return number(record["ms"][name])
    return f"> {record['predicted_ms'][name] / 1000:.0f} s"


def best_peer(record: Record, peers: tuple[str, ...] = PEERS) -> str | None:
    """Name the fastest peer that was run."""
    run = [name for name in peers if name in record["ms"]]
    return min(run, key=record["ms"].__getitem__, default=None)


def speedup(record: Record, name: str = OURS) -> float | None:
    """Return the time of the best peer divided by ours."""
    best = best_peer(record)
    return record["ms"][best] / record["ms"][name] if best else None


def over_bare(record: Record) -> float:
    """Return our time divided by that of the bare product."""
    return float(record["ms"][OURS] / record["ms"][BARE])


def place(record: Record) -> list[str]:
    """Return the table cells that identify a dense cell."""
    return [record["data"], str(record["d"]), f"{record['N']:,}", f"{record['q']:,}"]


def dense(results: Results) -> None:
    """Print the dense tables."""
    cells = sorted(
        results.select(section="dense"), key=lambda c: (c["data"] != "real", c["d"], c["N"], c["q"], -c["k"])
    )
    largest = max(cell["k"] for cell in cells)
    print(f"\n## Dense top-k, k = {largest}\n")
    times = (
        f"Contenders take {TURNS} turns of up to {RUNS} runs within {cells[0]['budget_s'] / TURNS:.2g} s each; a turn's"
        " first run counts only if it is the only one. Median milliseconds."
    )
    print("\n\n".join((times, kernels_data.SAID, kernels_peers.SAID, kernels_dense.SAID)) + "\n")
    rows = []
    for cell in cells:
        if cell["k"] == largest:
            best = best_peer(cell)
            ratios = [ratio(value) for value in (speedup(cell), speedup(cell, OURS_32), over_bare(cell))]
            recall = [f"{cell['recall'][name]:.4f}" if name else "-" for name in (OURS, best)]
            rows.append([*place(cell), *(cost(cell, name) for name in DENSE), *ratios, *recall])
    ratios = ["best peer / ours", "best peer / ours float32", "ours / bare", "recall ours", "recall best peer"]
    show(["data", "d", "N", "q", *DENSE, *ratios], rows)
    smaller = sorted({cell["k"] for cell in cells} - {largest})
    if smaller:
        print(f"\n## Dense top-k, k = {' and '.join(map(str, smaller))}\n")
        header = ["best peer", "ms", OURS, "best peer / ours", "ours / bare"]
        table: dict[tuple[str, ...], dict[int, list[str]]] = {}
        for cell in (cell for cell in cells if cell["k"] in smaller):
            best = best_peer(cell)
            shown = [best or "all skipped", cost(cell, best) if best else "-", cost(cell, OURS)]
            shown += [ratio(speedup(cell)), ratio(over_bare(cell))]
            table.setdefault(tuple(place(cell)), {})[cell["k"]] = shown
        blank = ["-"] * len(header)
        show(
            ["data", "d", "N", "q", *(f"k = {k}: {name}" for k in smaller for name in header)],
            [[*at, *(entry for k in smaller for entry in by_k.get(k, blank))] for at, by_k in table.items()],
        )
    slower(cells)
    inexact(cells)
    targets([cell for cell in cells if cell["k"] == largest])


def slower(cells: list[Record]) -> None:
    """List the cells in which the best peer is faster than ours."""
    behind = [cell for cell in cells if (speedup(cell) or 1.0) < 1.0]
    print(f"\n## Cells where the best peer is faster: {len(behind)} of {len(cells)}\n")
    rows = [[*place(c), str(c["k"]), str(best_peer(c)), ratio(speedup(c))] for c in behind]
    if rows:
        show(["data", "d", "N", "q", "k", "best peer", "best peer / ours"], rows)


def inexact(cells: list[Record]) -> None:
    """List every contender whose results are not all exact."""
    print("\n## Recall\n")
    for name in (OURS, OURS_32, *PEERS):
        known = [cell["recall"][name] for cell in cells if name in cell["recall"]]
        if known:
            exact = sum(value == 1.0 for value in known)
            print(f"- {name}: exact in {exact} of {len(known)} cells, worst {min(known):.6f}")


@dataclass(frozen=True)
class Target:
    """Hold a stated target: its cells, the measured value, and the bound for it."""

    what: str
    applies: Callable[[Record], bool]
    measure: Callable[[Record], float | None]
    bound: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


TARGETS = (
    Target("at least 2x the best peer", lambda cell: True, speedup, 2.0),
    Target("at least 3x the best peer, q <= 64", lambda cell: cell["q"] <= 64, speedup, 3.0),
    Target("at most 1.6x the bare product, q >= 64", lambda cell: cell["q"] >= 64, over_bare, 1.6, at_least=False),
)


def targets(cells: list[Record]) -> None:
    """Check the stated targets on cells of the largest k and 100,000 anchors or more."""
    print("\n## Targets: largest k, N >= 100,000\n")
    rows = []
    for target in TARGETS:
        known = [(cell, target.measure(cell)) for cell in cells if cell["N"] >= 100_000 and target.applies(cell)]
        values = {" ".join(place(cell)): value for cell, value in known if value is not None}
        missed = {at: value for at, value in values.items() if not target.met(value)}
        worst = sorted(missed, key=missed.__getitem__, reverse=not target.at_least)
        shown = "; ".join(f"{at}: {missed[at]:.2f}" for at in worst) or "-"
        rows.append(
            [target.what, f"{len(values) - len(missed)} of {len(values)}", str(len(known) - len(values)), shown]
        )
    show(["target", "met in", "no peer was run", "missed (data d N q), worst first"], rows)


def memory(results: Results) -> None:
    """Print the memory of a call without its inputs."""
    print("\n## Peak memory of one call without its inputs (float16, real rows)\n")
    cells = results.select(section="memory")
    show(
        ["d", "N", "q", "k", "MiB"],
        [[*(f"{c[key]:,}" for key in ("d", "N", "q", "k")), f"{c['MiB']:.0f}"] for c in cells],
    )


def sparse(results: Results) -> None:
    """Print the sparse tables."""
    for case, check in (("pairs", "error"), ("gallery", "recall")):
        names = (*kernels_rows.PEERS, *((kernels_rows.OURS,) if case == "pairs" else ()), kernels_rows.OURS_INDEX)
        rows = []
        for cell in results.select(section="sparse", case=case):
            best = best_peer(cell, kernels_rows.PEERS)
            assert best is not None  # no sparse peer is ever skipped
            times = [cost(cell, name) for name in names]
            ours = [ratio(cell["ms"][best] / cell["ms"][name]) for name in names if name not in kernels_rows.PEERS]
            prepared = [number(cell["prepared_ms"][name]) for name in (kernels_rows.OURS_INDEX, kernels_rows.SCIPY)]
            checks = [cell[check][name] for name in names]
            worst = f"{max(checks):.1e}" if check == "error" else f"{min(checks):.4f}"
            size = [f"{cell[key]:,}" for key in ("left", "right", "N", "k")]
            rows.append([cell["pattern"], *size, *times, *ours, *prepared, worst])
        print(f"\n## Sparse: {case}\n")
        if case == "pairs":
            print(f"{kernels_sparse.SAID}\n")
        ratios = [f"best peer / {name}" for name in names if name not in kernels_rows.PEERS]
        left = "left" if case == "pairs" else "queries"
        show(
            ["pattern", left, "right", "N", "k", *names, *ratios, "index prepared", "csr prepared", f"worst {check}"],
            rows,
        )


def end(results: Results) -> None:
    """Print the end-to-end table."""
    print(f"\n## From embeddings to labels\n\n{kernels_end.SAID}\n")
    rows = []
    for cell in results.select(section="end"):
        ours, published = cell["ms"][kernels_end.OURS], cell["ms"][kernels_end.PUBLISHED]
        sizes = [f"{cell[key]:,}" for key in ("images", "labels", "N")]
        rows.append([*sizes, number(published), number(ours), ratio(published / ours), str(cell["differing"])])
    show(["images", "labels", "N", "published", "ours", "published / ours", "labels that differ"], rows)


def report(results: Results) -> None:
    """Print everything that was measured."""
    for section, tables in (("dense", dense), ("memory", memory), ("sparse", sparse), ("end", end)):
        if results.select(section=section):
            tables(results)
