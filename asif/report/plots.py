"""The plots of a comparison as SVG: quality against pairs, and quality against seconds of fitting.

Text and axes have the colour of the surrounding text, and every method's colour is a CSS variable, so that a page can
be dark; alone, a plot is black on a transparent ground.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from asif.errors import MissingDependency
from asif.evaluate.comparison.result import ComparedDataset, Comparison
from asif.evaluate.comparison.statistics import collect_cost, collect_standing
from asif.report.plot_labels import place_labels, spread_heights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"  # a placeholder, replaced by the colour of the surrounding text
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
LINE_STYLES: dict[str, Any] = {"training-free": "-", "published": ":", "trained": (0, (5, 2))}
_MARKERS = {"training-free": "osD^v", "published": "x", "trained": "PX*<"}
_FONT_SIZE = 9.5  # points
_LabelledPoint = tuple[str, str, float, float]  # label, colour, x, y


@dataclass(frozen=True)
class PlotShape:
    """Hold the size of a plot in inches, its margins as shares, and the angle of the labels below it."""

    size: tuple[float, float]
    left: float
    bottom: float
    labels_from: float  # where the labels of line ends begin
    angle: int = 0
    spread: float = 0.26  # of the points of a plot by seconds, so that labels fit beside them
    right: float = 0.985
    top: float = 0.97


WIDE = PlotShape((7.6, 4.4), 0.085, 0.125, 0.8)
NARROW = PlotShape((4.0, 4.4), 0.15, 0.17, 0.6, 45, 0.45, 0.93)
"""The shape for screens of 400 pixels: as large as it is shown there."""


def assign_styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Give every method a colour, a line and a marker."""
    styles: dict[str, dict[str, Any]] = {}
    for kind, shades in COLOURS.items():
        names = [method.name for method in comparison.methods if method.kind == kind]
        for at, name in enumerate(names):
            colour, marker = list(shades)[at % len(shades)], _MARKERS[kind][at % len(_MARKERS[kind])]
            styles[name] = {"color": colour, "marker": marker, "linestyle": LINE_STYLES[kind]}
    return styles


def plot_by_pairs(comparison: Comparison, dataset: ComparedDataset, shape: PlotShape = WIDE) -> str:
    """Draw the primary figure against the number of pairs: means as lines, the range over seeds as bands."""
    axes, ends = _open_axes(dataset, "pairs (logarithmic)", shape), []
    counts = sorted(comparison.counts)
    for name, style in assign_styles(comparison).items():
        every = {pairs: collect_standing(comparison, dataset, name, pairs) for pairs in counts}
        standings = {pairs: standing for pairs, standing in every.items() if standing is not None}
        if not standings:
            continue
        xs, means = list(standings), [100 * standing.mean for standing in standings.values()]
        low = [100 * standing.low for standing in standings.values()]
        high = [100 * standing.high for standing in standings.values()]
        axes.fill_between(xs, low, high, color=style["color"], alpha=0.13, linewidth=0)
        axes.plot(xs, means, linewidth=1.8, markersize=4.5, **style)
        ends.append((f"{name} {means[-1]:.1f}", style["color"], float(xs[-1]), means[-1]))
    axes.set_xticks(counts, [f"{pairs:,}" for pairs in counts], rotation=shape.angle)
    axes.set_ylim(bottom=0)
    _label_line_ends(axes, ends, shape)
    return _write_svg(axes, f"{dataset.primary} on {comparison.title_of(dataset)} against the number of pairs")


def plot_by_seconds(comparison: Comparison, dataset: ComparedDataset, shape: PlotShape = WIDE) -> str:
    """Draw the primary figure against the seconds of fitting, at the largest number of pairs; fainter at others."""
    axes, labels = _open_axes(dataset, "seconds to fit (logarithmic)", shape), []
    counts = sorted(comparison.counts)
    for name, style in assign_styles(comparison).items():
        points = {}
        for pairs in counts:
            standing = collect_standing(comparison, dataset, name, pairs)
            seconds = collect_cost(comparison, dataset, name, pairs).fit_seconds
            if standing is not None and seconds:
                points[pairs] = (seconds, 100 * standing.mean)
        if not points:
            continue
        axes.plot(*zip(*points.values(), strict=True), alpha=0.35, linewidth=0.9, markersize=3, **style)
        if counts[-1] in points:
            x, y = points[counts[-1]]
            axes.plot([x], [y], **{**style, "linestyle": "none"}, markersize=8)
            labels.append((f"{name} {y:.1f}", style["color"], x, y))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.margins(x=shape.spread)
    axes.tick_params(axis="x", labelrotation=shape.angle)
    axes.set_ylim(bottom=0)
    _label_points(axes, labels, shape)
    return _write_svg(axes, f"{dataset.primary} on {comparison.title_of(dataset)} against the seconds of fitting")


def _open_axes(dataset: ComparedDataset, x_label: str, shape: PlotShape) -> Axes:
    """Open axes without a frame, on a transparent ground."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        install = "pip install 'asif-engine[report]'"
        raise MissingDependency("a report has plots", "the library matplotlib", install) from error
    axes = Figure(figsize=shape.size).subplots()
    axes.set(xscale="log", xlabel=x_label, ylabel=f"{dataset.primary} in %")
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.5)
    axes.tick_params(colors=INK, labelsize=_FONT_SIZE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, size=_FONT_SIZE)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    return axes


def _label_line_ends(axes: Axes, ends: Sequence[_LabelledPoint], shape: PlotShape) -> None:
    """Label each line on the right of the axes."""
    axes.figure.subplots_adjust(left=shape.left, right=shape.labels_from, top=shape.top, bottom=shape.bottom)
    ends = sorted(ends, key=lambda end: end[3])
    low, high = axes.get_ylim()
    apart = 1.25 * _FONT_SIZE / 72 / (shape.size[1] * (shape.top - shape.bottom))
    heights = spread_heights([(y - low) / (high - low) for *_, y in ends], apart)
    for (text, colour, x, y), height in zip(ends, heights, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 4}
        style: dict[str, Any] = {"color": colour, "size": _FONT_SIZE, "va": "center"}
        axes.annotate(text, (x, y), (1.035, height), textcoords="axes fraction", arrowprops=leader, **style)


def _label_points(axes: Axes, labels: Sequence[_LabelledPoint], shape: PlotShape) -> None:
    """Label points next to them, in free space."""
    axes.figure.subplots_adjust(left=shape.left, right=shape.right, top=shape.top, bottom=shape.bottom)
    axes.autoscale_view()  # fixes the limits, on which the places of labels depend
    pixels = axes.figure.dpi / 72
    points = [tuple(axes.transData.transform((x, y))) for *_, x, y in labels]
    widths = [0.58 * _FONT_SIZE * len(text) * pixels for text, *_ in labels]
    boxes = place_labels(points, widths, 1.2 * _FONT_SIZE * pixels, axes.get_window_extent().extents)
    for (text, colour, x, y), at, box in zip(labels, points, boxes, strict=True):
        offset = ((box[0] - at[0]) / pixels, ((box[1] + box[3]) / 2 - at[1]) / pixels)
        axes.annotate(text, (x, y), offset, textcoords="offset points", va="center", color=colour, size=_FONT_SIZE)


def _write_svg(axes: Axes, title: str) -> str:
    """Write a figure as an SVG element, reproducibly."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = axes.figure
    assert isinstance(figure, Figure)
    written = StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # ids are salted by title and size, so that several plots can be on one page
    salt = f"{title} {figure.get_size_inches()}"
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    text = written.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for colour in (colour for shades in COLOURS.values() for colour in shades):
        text = text.replace(colour, f"var(--{colour[1:]}, {colour})")
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def list_colour_variables() -> tuple[str, str]:
    """Return the plots' colours as CSS variables, on a light page and on a dark one."""
    pairs = [pair for shades in COLOURS.values() for pair in shades.items()]
    light = "".join(f"--{name[1:]}:{name};" for name, _ in pairs)
    return light, "".join(f"--{name[1:]}:{shade};" for name, shade in pairs)
