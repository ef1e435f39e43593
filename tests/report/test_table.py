"""Tables of a comparison hold the means of its results."""

from __future__ import annotations

from support.comparison_results import METHODS, mean_in_percent

from asif.evaluate.comparison.result import Comparison
from asif.report import build_comparison_tables


def test_tables_hold_the_means_of_the_results(nine: Comparison) -> None:
    shown = build_comparison_tables(nine)
    assert [table.title.split(",")[0] for table in shown] == ["flickr8k-test"] * 2 + ["caltech101"] * 2
    for dataset, largest, counts in zip(nine.datasets, shown[::2], shown[1::2], strict=True):
        assert {row[0] for row in largest.rows} == {row[0] for row in counts.rows} == set(METHODS)
        for row in counts.rows:
            for pairs, cell in zip(nine.counts, row[1:], strict=True):
                assert cell == mean_in_percent(nine, dataset, row[0], pairs)
        for row in largest.rows:
            assert row[2].split(" ± ")[0] == mean_in_percent(nine, dataset, row[0], 6000)
        figures = [float(row[-1]) for row in counts.rows]
        assert figures == sorted(figures, reverse=True)
    by_name = {row[0]: row for row in shown[0].rows}
    assert by_name["cca"][2:4] == ("33.0", "29.8") and by_name["auto"][3] == "-"
    assert by_name["ape"][6:] == ("12", "213", "273", "890", "213")
    assert by_name["cca"][6:] == ("12", "0.21", "4.41", "210", "0.05")
    assert by_name["cca"][4:6] == ("37.3", "28.7")  # image→text 33.0 x 1.13, text→image 33.0 x 0.87
