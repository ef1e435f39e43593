"""Samples of labelled rows: every class, whatever the order of the rows; the same rows again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.evaluation_sets import image_column
from support.pair_files import table

from asif.evaluate.label_sample import choose_rows_by_class, read_sample
from asif.pairs import Pair, open_labelled


@pytest.mark.parametrize("size", [1, 3, 4, 7, 20, 200])
def test_classes_differ_by_one_row_unless_they_are_small(size: int) -> None:
    labels = ["a"] * 50 + [None] * 5 + ["b"] * 2 + ["c"] * 40 + ["d"] * 30
    chosen = choose_rows_by_class(labels, size).tolist()
    assert chosen == sorted(set(chosen)) and len(chosen) == min(size, 122)
    counts = Counter(labels[row] for row in chosen)
    assert None not in counts
    if size in (4, 7, 20):
        large = [counts[name] for name in "acd"]
        assert counts["b"] == min(2, size // 4) and max(large) - min(large) <= 1
    backwards = choose_rows_by_class(labels[::-1], size)
    assert Counter(labels[::-1][row] for row in backwards) == counts


def test_numbered_labels_of_a_table_are_sampled_by_name(tmp_path: Path) -> None:
    data = open_labelled(table(tmp_path / "a.parquet", image=image_column(9), label=["a"] * 7 + ["-1"] + ["b"]))
    items, sample = read_sample(data, 3)
    assert [(item.row, item.label) for item in items if isinstance(item, Pair)] == [(0, "a"), (6, "a"), (8, "b")]
    assert sample is not None and (sample.rows, sample.total) == (3, 9)
    assert list(data.read_labels()) == ["a"] * 7 + [None, "b"]
    items, sample = read_sample(data, 9)
    assert len(list(items)) == 9 and sample is None


def test_class_folders_are_sampled_without_reading_images(tmp_path: Path) -> None:
    for name in ("cat", "dog", "eel"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for at in range(4):
            (tmp_path / "set" / name / f"{at}.jpg").write_bytes(f"{name} {at}".encode())
    items, _ = read_sample(open_labelled(tmp_path / "set"), 6)
    found = [item.id for item in items if isinstance(item, Pair)]
    assert found == [f"{name}/{at}.jpg" for name in ("cat", "dog", "eel") for at in (0, 3)]
