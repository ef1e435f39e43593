"""Tables, plots and the page of a comparison: the figures are those of the results, and hostile text stays text."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.report_results import METHODS
from support.report_results import results as nine_methods

from asif.errors import MissingDependency
from asif.report import html_page, plots, tables
from asif.report.plot_labels import cross, heights, places

Results = dict[str, Any]
HOSTILE = (
    '<script src=http://evil.example/x.js>alert(\'1\')</script>"><img src=x onerror="alert(2)"> $\\frac{1}$ &amp; 犬'
)


@pytest.fixture(scope="module")
def nine() -> Results:
    return nine_methods()


@pytest.fixture(scope="module")
def page(nine: Results) -> str:
    return html_page(nine)


class Read(HTMLParser):
    """Read a page: its elements, their attributes, its text, and whether every element is closed in its turn."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_tables_hold_the_means_of_the_results(nine: Results) -> None:
    shown = tables(nine)
    assert [table.title.split(",")[0] for table in shown] == ["flickr8k-test"] * 2 + ["caltech101"] * 2
    for dataset, largest, counts in zip(nine["datasets"], shown[::2], shown[1::2], strict=True):
        assert {row[0] for row in largest.rows} == {row[0] for row in counts.rows} == set(METHODS)
        for row in counts.rows:
            for pairs, cell in zip(nine["counts"], row[1:], strict=True):
                assert cell == mean(nine, dataset, row[0], pairs)
        for row in largest.rows:
            assert row[2].split(" ± ")[0] == mean(nine, dataset, row[0], 6000)
        figures = [float(row[-1]) for row in counts.rows]
        assert figures == sorted(figures, reverse=True)
    by_name = {row[0]: row for row in shown[0].rows}
    assert by_name["cca"][2:4] == ("33.0", "29.8") and by_name["auto"][3] == "-"
    assert by_name["ape"][6:] == ("213", "60", "890", "213") and by_name["cca"][6:] == ("0.21", "4.2", "210", "0.05")
    assert by_name["cca"][4:6] == ("37.3", "28.7")  # image→text 33.0 x 1.13, text→image 33.0 x 0.87


def mean(some: Results, dataset: Results, method: str, pairs: int) -> str:
    """Compute a cell the long way: the last result of each run, which is the corrected one where there is one."""
    figures = []
    for run in some["runs"]:
        if (run["method"], run["pairs"]) == (method, pairs):
            found = [each for each in run["results"] if each["dataset"] == dataset["name"]]
            figures.append(found[-1]["metrics"][dataset["primary"]])
    return f"{100 * sum(figures) / len(figures):.1f}"


def test_the_page_holds_every_run_and_the_verdict(nine: Results, page: str) -> None:
    read = Read(page)
    primary = {dataset["name"]: dataset["primary"] for dataset in nine["datasets"]}
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    cells = {tuple(re.findall(r"<td[^>]*>(.*?)</td>", row)[:5]) for row in rows}
    for run in nine["runs"]:
        for found in run["results"]:
            figure = f"{100 * found['metrics'][primary[found['dataset']]]:.2f}"
            assert (run["method"], f"{run['pairs']:,}", str(run["seed"]), found["hubness"], figure) in cells
    text = "".join(read.texts)
    assert "flickr8k-test (search): training buys nothing here up to 6,000 pairs: auto 34.8" in text
    for said in (nine["anchors"]["digest"], nine["encoders"]["text"]["spec"], nine["budget"]["what"], nine["command"]):
        assert said in text
    assert "3 of 6,085 test images are anchors too" in text and "41.7 %" in text


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    read = Read(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(read.elements)
    links = [value or "" for name, value in read.attributes if name in ("src", "href", "xlink:href", "action")]
    assert links and all(link.startswith("#") for link in links)
    outside = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert outside == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page and set(re.findall(r"url\(([^)]*)\)", page)) <= set(
        re.findall(r"url\((#[^)]*)\)", page)
    )


def test_hostile_text_stays_text() -> None:
    some = nine_methods(counts=[50], seeds=1)
    for win in some["wins"]:
        for each in win["queries"]:
            each.update(side="text", text=HOSTILE, id=HOSTILE)
        for each in win["classes"]:
            each["label"] = HOSTILE
    some["anchors"]["name"] = some["command"] = HOSTILE
    some["datasets"][0].update(templates=[HOSTILE], data={"path": HOSTILE})
    renamed = some["datasets"][0]["name"]
    some["datasets"][0]["name"] = HOSTILE
    for each in [*(found for run in some["runs"] for found in run["results"]), *some["wins"]]:
        each["dataset"] = HOSTILE if each["dataset"] == renamed else each["dataset"]
    some["machine"]["cpu"] = some["versions"]["torch"] = some["runs"][0]["setting"] = HOSTILE
    some["expected"][0].update(what=HOSTILE, source=HOSTILE)
    read = Read(html_page(some))
    assert not {"script", "img"} & set(read.elements)
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert sum(HOSTILE in text for text in read.texts) > 20


@pytest.mark.parametrize("methods", [["auto", "cca"], ["ape"]])
def test_one_side_alone_one_count_one_seed_and_nulls_make_a_page(methods: list[str]) -> None:
    some = nine_methods(methods, counts=[50], seeds=1)
    some.update(wins=[], expected=None)
    for found in some["runs"][0]["results"]:
        found["metrics"] = dict.fromkeys(found["metrics"])
    some["runs"][0].update(fit_seconds=None, peak_mib=None, tuning=None, deletion=None)
    text = "".join(Read(html_page(some)).texts)
    assert ("nothing trained to compare with" if "cca" in methods else "no figures") in text
    assert "Bands" not in text and "nan" not in text.lower().split()


def test_a_plot_draws_every_method_once_and_names_it_with_its_figure(nine: Results) -> None:
    dataset = nine["datasets"][0]
    for draw in (plots.by_pairs, plots.by_seconds):
        picture = draw(nine, dataset)
        Read(picture)
        assert picture.startswith('<svg role="img" aria-label="mean_recall@1 on flickr8k-test against the ')
        assert picture == draw(nine, dataset)
        texts = re.findall(r"<text[^>]*>(.*?)</text>", picture)
        for name in METHODS:
            assert texts.count(f"{name} {mean(nine, dataset, name, 6000)}") == 1
        assert plots.INK not in picture and "currentColor" in picture


def test_colours_tell_kinds_apart_and_the_page_knows_them_all(nine: Results, page: str) -> None:
    looks = plots.looks(nine)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(METHODS)
    for name, (kind, *_) in METHODS.items():
        assert looks[name]["color"] in plots.COLOURS[kind] and looks[name]["linestyle"] == plots.LINES[kind]
    used = set(re.findall(r"var\(--([0-9a-f]{6}),", page))
    assert used and all(page.count(f"--{colour}:") == 2 for colour in used)  # light and dark


def test_without_matplotlib_the_error_is_the_install_command(nine: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"library matplotlib") as raised:
        html_page(nine)
    assert raised.value.fix == "pip install 'asif-engine[report]'" and raised.value.exit_code == 1
    assert tables(nine)  # need no plots


@given(st.lists(st.floats(0, 1), max_size=15).map(sorted))
def test_heights_are_apart_in_order_and_inside(wanted: list[float]) -> None:
    moved = heights(wanted, 0.05)
    assert len(moved) == len(wanted)
    assert all(after - before >= 0.05 - 1e-9 for before, after in pairwise(moved))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in moved)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 500)), max_size=3))
def test_names_lie_on_no_other_name_where_there_is_room(points: list[tuple[float, float]]) -> None:
    # of 11 heights on each side two other names take at most 8, and two markers as many, but on one side only
    frame = (-500.0, -500.0, 1500.0, 1000.0)
    boxes = places(points, [60.0] * len(points), 12.0, frame)
    assert not any(cross(one, other) for at, one in enumerate(boxes) for other in boxes[:at])
