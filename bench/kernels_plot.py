"""The plot of the kernel benchmarks: cost against anchors and against queries, one line per contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from kernels_peers import BARE, OURS, OURS_32, PEERS
from kernels_timing import Record, Results
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

QUERIES, ANCHORS, DIMS = 64, 100_000, 768
COLOURS = {
    "torch": "#d95f02",
    "faiss": "#1b9e77",
    "numpy": "#7570b3",
    "usearch": "#a6761d",
    "published": "#e7298a",
    OURS: "#0b4f9e",
    OURS_32: "#5a9bd8",
    BARE: "#555555",
}
End = tuple[str, float, float]  # the name of a line and its last point
APART = 0.052  # smallest distance of two labels, as a share of the axis


def plot(results: Results, path: Path) -> None:
    """Plot both panels for real rows at the largest k."""
    real = results.select(section="dense", data="real")
    cells = [cell for cell in real if cell["d"] == DIMS] or real
    largest = max(cell["k"] for cell in cells)
    cells = [cell for cell in cells if cell["k"] == largest]
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    ends = [
        (left, lines(left, [cell for cell in cells if cell["q"] == QUERIES], "N")),
        (right, lines(right, [cell for cell in cells if cell["N"] == ANCHORS], "q")),
    ]
    left.set(xlabel="anchors", ylabel="milliseconds", title=f"{QUERIES} queries")
    right.set(xlabel="queries", title=f"{ANCHORS:,} anchors")
    for axes, named in ends:
        label(axes, named)
    figure.suptitle(f"Exact top-{largest}, d = {cells[0]['d']:,}, real rows, CPU")
    figure.savefig(path, dpi=150)


def lines(axes: Axes, cells: list[Record], key: str) -> list[End]:
    """Plot cost against one size, and return the ends of the lines."""
    axes.set(xscale="log", yscale="log", xticks=sorted({cell[key] for cell in cells}))
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ends: list[End] = []
    for name in (*PEERS, BARE, OURS_32, OURS):
        points = sorted((cell[key], cell["ms"][name]) for cell in cells if name in cell["ms"])
        if points:
            xs, ys = zip(*points, strict=True)
            style = {"linewidth": 2.6 if name == OURS else 1.5, "linestyle": "--" if name == BARE else "-"}
            axes.plot(xs, ys, marker="o", markersize=3.5, color=COLOURS[name], **style)
            ends.append((name, xs[-1], ys[-1]))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return ends


def label(axes: Axes, ends: list[End]) -> None:
    """Label each line next to its end; labels are moved apart if lines end close together."""
    low, high = np.log10(axes.get_ylim())
    ends = sorted(ends, key=lambda end: end[2])
    heights = spread([(np.log10(y) - low) / (high - low) for _, _, y in ends], APART)
    for (name, x, y), height in zip(ends, heights, strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.04, height),
            textcoords="axes fraction",
            color=COLOURS[name],
            va="center",
            fontweight="bold" if name == OURS else "normal",
            arrowprops={"arrowstyle": "-", "color": COLOURS[name], "linewidth": 0.6, "alpha": 0.6, "relpos": (0, 0.5)},
        )


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Move ascending heights apart in a few passes that move each as little as possible.

    >>> spread([0.0, 0.0], 0.5)
    [-0.25, 0.25]
    """
    moved = list(heights)
    for _ in range(200):
        for lower in range(len(moved) - 1):
            short = apart - (moved[lower + 1] - moved[lower])
            if short > 1e-9:
                moved[lower] -= short / 2
                moved[lower + 1] += short / 2
    return moved
