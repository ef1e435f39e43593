"""The plots of a comparison as SVG: quality against pairs, and quality against seconds of fitting.

Text and axes take the colour of the text around them, and every method's colour is a CSS variable, so that a page can
be dark; alone, a plot is black and lies on nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from asif.errors import MissingDependency
from asif.evaluate.comparison.statistics import Results, cost, standing
from asif.report.plot_labels import heights, places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"  # stands for the text's own colour
COLOURS = {  # on light and on dark; hues of one family for each kind
    "training-free": {
        "#08519c": "#7db8f0",
        "#2b8cbe": "#5ec8e5",
        "#2171b5": "#9ccbf5",
        "#5b6fc4": "#a8b3f5",
        "#0b7a8f": "#5fd3cf",
    },
    "published": {"#6b7280": "#a3aab5"},
    "trained": {"#c2410c": "#ff9a5c", "#a16207": "#f0c04a", "#be185d": "#ff8fb8", "#7f1d1d": "#ffb4a2"},
}
LINES: dict[str, Any] = {"training-free": "-", "published": ":", "trained": (0, (5, 2))}
MARKERS = {"training-free": "osD^v", "published": "x", "trained": "PX*<"}
SIZE = (7.6, 4.4)  # inches
MARGINS = {"left": 0.085, "top": 0.97, "bottom": 0.125}
POINTS = 9.5  # size of text
End = tuple[str, str, float, float]  # a name, its colour, and the point that it is for


def looks(results: Results) -> dict[str, dict[str, Any]]:
    """Give every method a colour, a line and a marker."""
    found: dict[str, dict[str, Any]] = {}
    for kind, shades in COLOURS.items():
        names = [method["name"] for method in results["methods"] if method["kind"] == kind]
        for at, name in enumerate(names):
            colour, marker = list(shades)[at % len(shades)], MARKERS[kind][at % len(MARKERS[kind])]
            found[name] = {"color": colour, "marker": marker, "linestyle": LINES[kind]}
    return found


def by_pairs(results: Results, dataset: Results) -> str:
    """Draw the primary figure against the number of pairs: means as lines, the range over seeds as bands."""
    axes, ends = blank(dataset, "pairs (logarithmic)"), []
    counts = sorted(results["counts"])
    for name, look in looks(results).items():
        found = {pairs: each for pairs in counts if (each := standing(results, dataset, name, pairs)) is not None}
        if not found:
            continue
        xs, means = list(found), [100 * each.mean for each in found.values()]
        low, high = ([100 * getattr(each, end) for each in found.values()] for end in ("low", "high"))
        axes.fill_between(xs, low, high, color=look["color"], alpha=0.13, linewidth=0)
        axes.plot(xs, means, linewidth=1.8, markersize=4.5, **look)
        ends.append((f"{name} {means[-1]:.1f}", look["color"], float(xs[-1]), means[-1]))
    axes.set_xticks(counts, [f"{pairs:,}" for pairs in counts])
    axes.set_ylim(bottom=0)
    name_ends(axes, ends)
    return svg(axes, f"{dataset['primary']} on {dataset['name']} against the number of pairs")


def by_seconds(results: Results, dataset: Results) -> str:
    """Draw the primary figure against the seconds of fitting, at the largest number of pairs; fainter at others."""
    axes, named = blank(dataset, "seconds to fit (logarithmic)"), []
    counts = sorted(results["counts"])
    for name, look in looks(results).items():
        points = {}
        for pairs in counts:
            found, seconds = standing(results, dataset, name, pairs), cost(results, name, pairs).fit_seconds
            if found is not None and seconds:
                points[pairs] = (seconds, 100 * found.mean)
        if not points:
            continue
        axes.plot(*zip(*points.values(), strict=True), alpha=0.35, linewidth=0.9, markersize=3, **look)
        if counts[-1] in points:
            x, y = points[counts[-1]]
            axes.plot([x], [y], **{**look, "linestyle": "none"}, markersize=8)
            named.append((f"{name} {y:.1f}", look["color"], x, y))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.margins(x=0.26)
    axes.set_ylim(bottom=0)
    name_points(axes, named)
    return svg(axes, f"{dataset['primary']} on {dataset['name']} against the seconds of fitting")


def blank(dataset: Results, along: str) -> Axes:
    """Open axes without a frame, on nothing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        install = "pip install 'asif-engine[report]'"
        raise MissingDependency("a report has plots", "the library matplotlib", install) from error
    axes = Figure(figsize=SIZE).subplots()
    axes.set(xscale="log", xlabel=along, ylabel=f"{dataset['primary']} in %")
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.5)
    axes.tick_params(colors=INK, labelsize=POINTS)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, size=POINTS)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    return axes


def name_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Name each line on the right of the axes."""
    axes.figure.subplots_adjust(right=0.8, **MARGINS)
    ends = sorted(ends, key=lambda end: end[3])
    low, high = axes.get_ylim()
    apart = 1.25 * POINTS / 72 / (SIZE[1] * (MARGINS["top"] - MARGINS["bottom"]))
    beside = heights([(y - low) / (high - low) for *_, y in ends], apart)
    for (text, colour, x, y), height in zip(ends, beside, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 4}
        look: dict[str, Any] = {"color": colour, "size": POINTS, "va": "center"}
        axes.annotate(text, (x, y), (1.035, height), textcoords="axes fraction", arrowprops=leader, **look)


def name_points(axes: Axes, named: Sequence[End]) -> None:
    """Name points beside them, where there is room."""
    axes.figure.subplots_adjust(right=0.985, **MARGINS)
    axes.autoscale_view()  # else limits come later than the places that follow from them
    pixels = axes.figure.dpi / 72
    points = [tuple(axes.transData.transform((x, y))) for *_, x, y in named]
    widths = [0.58 * POINTS * len(text) * pixels for text, *_ in named]
    boxes = places(points, widths, 1.2 * POINTS * pixels, axes.get_window_extent().extents)
    for (text, colour, x, y), at, box in zip(named, points, boxes, strict=True):
        offset = ((box[0] - at[0]) / pixels, ((box[1] + box[3]) / 2 - at[1]) / pixels)
        axes.annotate(text, (x, y), offset, textcoords="offset points", va="center", color=colour, size=POINTS)


def svg(axes: Axes, title: str) -> str:
    """Write a figure as an element of HTML, the same for the same figure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawn = axes.figure
    assert isinstance(drawn, Figure)
    written = StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # ids are salted by the title, so that several plots can stand on one page
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        drawn.savefig(written, format="svg", transparent=True, metadata=nothing)
    text = written.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for colour in (colour for shades in COLOURS.values() for colour in shades):
        text = text.replace(colour, f"var(--{colour[1:]}, {colour})")
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def variables() -> tuple[str, str]:
    """Return the plots' colours as CSS variables, on a light page and on a dark one."""
    pairs = [pair for shades in COLOURS.values() for pair in shades.items()]
    light = "".join(f"--{name[1:]}:{name};" for name, _ in pairs)
    return light, "".join(f"--{name[1:]}:{shade};" for name, shade in pairs)
