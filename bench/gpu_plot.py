"""Plot times on a GPU: milliseconds by number of queries, ours and the peers', from bench/results/gpu.jsonl."""

from __future__ import annotations

import json

from common import ROOT


def main() -> None:
    """Plot the cells of 1.6M anchors, d = 768, k = 800, float16."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("no plot: matplotlib is absent") from None
    file = ROOT / "bench" / "results" / "gpu.jsonl"
    same = {"section": "dense", "N": 1_600_000, "d": 768, "k": 800, "dtype": "float16"}
    cells = [cell for cell in map(json.loads, file.read_text().splitlines()) if same.items() <= cell.items()]
    if not cells:
        raise SystemExit("no plot: nothing was measured at 1.6M anchors")
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(name for cell in cells for name in cell["ms"]):
        points = sorted((cell["q"], cell["ms"][name]) for cell in cells if name in cell["ms"])
        axes.loglog(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xlabel="queries", ylabel="milliseconds", title="Top 800 of 1.6M float16 anchors, d = 768")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
