"""Plots of a comparison: every method once, labelled with its figure."""

from __future__ import annotations

import re
import sys

import pytest
from support.comparison_results import METHODS, mean_in_percent
from support.html_pages import PageReader

from asif.errors import MissingDependency
from asif.evaluate.comparison.result import Comparison
from asif.report import build_comparison_tables, plots, render_comparison_page


@pytest.mark.parametrize("shape", [plots.WIDE, plots.NARROW])
def test_a_plot_draws_every_method_once_and_names_it_with_its_figure(nine: Comparison, shape: plots.PlotShape) -> None:
    dataset = nine.datasets[0]
    for draw in (plots.plot_by_pairs, plots.plot_by_seconds):
        picture = draw(nine, dataset, shape)
        PageReader(picture)
        assert picture.startswith('<svg role="img" aria-label="mean_recall@1 on flickr8k-test against the ')
        assert picture == draw(nine, dataset, shape)
        assert f'viewBox="0 0 {72 * shape.size[0]:g} {72 * shape.size[1]:g}"' in picture
        texts = re.findall(r"<text[^>]*>(.*?)</text>", picture)
        for name in METHODS:
            assert texts.count(f"{name} {mean_in_percent(nine, dataset, name, 6000)}") == 1
        assert plots.INK not in picture and "currentColor" in picture


def test_colours_tell_kinds_apart_and_the_page_knows_them_all(nine: Comparison, page: str) -> None:
    looks = plots.assign_styles(nine)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(METHODS)
    for name, (kind, *_) in METHODS.items():
        assert looks[name]["color"] in plots.COLOURS[kind] and looks[name]["linestyle"] == plots.LINE_STYLES[kind]
    used = set(re.findall(r"var\(--([0-9a-f]{6}),", page))
    assert used and all(page.count(f"--{colour}:") == 2 for colour in used)  # light and dark


def test_without_matplotlib_the_error_is_the_install_command(nine: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"library matplotlib") as raised:
        render_comparison_page(nine)
    assert raised.value.fix == "pip install 'asif-engine[report]'" and raised.value.exit_code == 1
    assert build_comparison_tables(nine)  # need no plots


def test_a_page_has_each_plot_for_wide_and_for_narrow_screens(page: str) -> None:
    assert page.count('<div class="wide"><svg') == page.count('<div class="narrow"><svg') == 4
    widths = {float(width) for width in re.findall(r'viewBox="0 0 ([0-9.]+) ', page)}
    assert sorted(widths) == pytest.approx([72 * plots.NARROW.size[0], 72 * plots.WIDE.size[0]]) and min(widths) < 400
    ids = re.findall(r'id="([^"]+)"', page)
    shapes = [each for each in ids if re.fullmatch(r"[mpi][0-9a-f]{10}", each)]
    assert shapes and len(shapes) == len(set(shapes))
