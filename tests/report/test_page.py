"""The page of a comparison: every figure of the results is there, and hostile text stays text."""

from __future__ import annotations

import re

import pytest
from support.comparison_results import results as nine_methods
from support.html_pages import HOSTILE, PageReader

from asif.evaluate.comparison.result import Comparison
from asif.report import render_comparison_page


def test_the_page_holds_every_run_and_the_verdict(nine: Comparison, page: str) -> None:
    read = PageReader(page)
    primary = {dataset.name: dataset.primary for dataset in nine.datasets}
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    cells = {tuple(re.findall(r"<td[^>]*>(.*?)</td>", row)[:5]) for row in rows}
    for run in nine.runs:
        for found in run.results:
            figure = found.metrics[primary[found.dataset]]
            assert figure is not None
            assert (run.method, f"{run.pairs:,}", str(run.seed), found.hubness, f"{100 * figure:.2f}") in cells
    text = "".join(read.texts)
    assert "12 settings) is better at up to 6,000 pairs: auto 34.8" in text
    for said in (nine.origin.anchors.digest, nine.origin.text.spec, nine.budget.what, nine.command):
        assert said is not None and said in text
    assert "3 of 6,085 test images are anchors too" in text and "41.7 %" in text


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    read = PageReader(page)
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
    some["datasets"][0].update(templates=[HOSTILE], data={**some["datasets"][0]["data"], "path": HOSTILE})
    renamed = some["datasets"][0]["name"]
    some["datasets"][0]["name"] = HOSTILE
    for each in [*(found for run in some["runs"] for found in run["results"]), *some["wins"]]:
        each["dataset"] = HOSTILE if each["dataset"] == renamed else each["dataset"]
    some["machine"]["cpu"] = some["versions"]["torch"] = some["runs"][0]["setting"] = HOSTILE
    some["expected"][0].update(what=HOSTILE, source=HOSTILE)
    read = PageReader(render_comparison_page(Comparison.from_json(some)))
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
    text = "".join(PageReader(render_comparison_page(Comparison.from_json(some))).texts)
    assert ("nothing trained to compare with" if "cca" in methods else "no figures") in text
    assert "Bands" not in text and "nan" not in text.lower().split()


def test_tuning_that_took_too_long_is_told() -> None:
    some = nine_methods(["cca", "ape"], counts=[50], seeds=2)
    for run, over in zip([run for run in some["runs"] if run["method"] == "ape"], (1.5, 3.25), strict=True):
        run["tuning"]["over_seconds"] = over
    text = "".join(PageReader(render_comparison_page(Comparison.from_json(some))).texts)
    assert "Tuning took longer than allowed: ape 3.25 s." in text
    assert "Time for tuning ran out before all was tried: ape." in text
