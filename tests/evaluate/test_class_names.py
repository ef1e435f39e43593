"""Class names: readable labels, WordNet names, files of names."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.evaluation_sets import (
    WORDS,
    image_column,
    labelled,
)
from support.pair_files import table

from asif.errors import InputRefused, UsageError
from asif.evaluate import read_classnames, resolve_classes
from asif.pairs import LabelledImages, open_labelled


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_labels_become_readable_by_default(tmp_path: Path) -> None:
    classes = resolve_classes(labelled(tmp_path), None)
    assert classes.labels == tuple(sorted(WORDS))
    assert dict(zip(classes.labels, classes.names, strict=True))["car_side"] == ("car side",)
    assert classes.origin == "readable labels"


@pytest.mark.parametrize("names", [False, True])
def test_wordnet_ids_have_names(tmp_path: Path, names: bool) -> None:
    ids = ["n01440764", "n02119789"]
    image = image_column(2)
    data = open_labelled(table(tmp_path / "a.parquet", image=image, label=ids))
    if names:
        data = LabelledImages(data.source, tuple(ids))
    classes = resolve_classes(data, {"n02119789": ("small fox",)} if names else None)
    assert classes.labels == tuple(ids)
    assert classes.names == (("tench",), ("small fox" if names else "kit fox",))
    assert classes.origin == ("file, else WordNet" if names else "WordNet")
    unknown = open_labelled(table(tmp_path / "b.parquet", image=image, label=["n01440764", "n99999999"]))
    assert resolve_classes(unknown, None).names == (("n01440764",), ("n99999999",))


@pytest.mark.parametrize(
    "content",
    [
        "car_side\tthe side of a car | car\nowl\tbarn owl\nunknown\tx\n",
        '{"car_side": ["the side of a car", "car"], "owl": "barn owl", "unknown": "x"}',
    ],
)
def test_a_file_of_names_goes_before_labels(content: str, tmp_path: Path) -> None:
    classes = resolve_classes(labelled(tmp_path), read_classnames(write(tmp_path / "names", content)))
    names = dict(zip(classes.labels, classes.names, strict=True))
    assert names["car_side"] == ("the side of a car", "car")
    assert (names["owl"], names["inline-skate"]) == (("barn owl",), ("inline skate",))
    assert classes.unused == ("unknown",)


@pytest.mark.parametrize(
    "content",
    [
        "cat\n# dogs\ndog\n\nowl\n",
        '["cat", "dog", "owl"]',
        "id,name\n0,cat\n1,dog\n2,owl\n",
        "0\tcat\n1\tdog\n2\towl\n",
    ],
)
def test_numbers_get_their_names_from_the_file(content: str, tmp_path: Path) -> None:
    data = open_labelled(table(tmp_path / "a.parquet", image=image_column(2), label=[1, 0]))
    with pytest.raises(InputRefused, match="are numbers, for which there is no name: 0, 1"):
        resolve_classes(data, None)
    classes = resolve_classes(data, read_classnames(write(tmp_path / "names", content)))
    assert (classes.labels, classes.names) == (("0", "1", "2"), (("cat",), ("dog",), ("owl",)))
    with pytest.raises(InputRefused, match="for some of which there is no name: 1"):
        resolve_classes(data, {"0": ("cat",)})


NUMBERS: list[list[object]] = [
    [0, 1],
    [1.0, 0.0],
    ["3.0", "4.0"],
    ["03", "1e1"],
    ["0", "1", "-1"],
    ["0", "1", "", None, "nan", "None"],
    ["0", "unknown"],
    ["class 0", "Class_1"],
    ["LABEL_0", "LABEL_1"],
]


@pytest.mark.parametrize("labels", NUMBERS, ids=str)
def test_numbers_in_any_spelling_need_names(labels: list[object], tmp_path: Path) -> None:
    data = open_labelled(table(tmp_path / "a.parquet", image=image_column(len(labels)), label=labels))
    with pytest.raises(InputRefused, match="are numbers, for which there is no name"):
        resolve_classes(data, None)


def test_names_that_are_numbers_are_no_names(tmp_path: Path) -> None:
    data = LabelledImages(labelled(tmp_path).source, ("0", "1"))
    with pytest.raises(InputRefused, match="are numbers, for which there is no name: 0, 1"):
        resolve_classes(data, None)
    assert resolve_classes(data, {"0": ("cat",), "1": ("dog",)}).names == (("cat",), ("dog",))
    digits = LabelledImages(data.source, ("0", "1"), ('the number "{c}"',), literal=True)
    assert resolve_classes(digits, None).names == (("0",), ("1",))
    with pytest.raises(InputRefused, match="are numbers"):
        resolve_classes(LabelledImages(data.source, ("0", "1"), (), literal=True), None)


def test_numbers_are_named_by_their_value(tmp_path: Path) -> None:
    data = open_labelled(table(tmp_path / "a.parquet", image=image_column(3), label=["01", "2.0", "-1"]))
    classes = resolve_classes(data, {"0": ("owl",), "1": ("cat",), "2": ("dog",)})
    assert (classes.labels, classes.names) == (("0", "01", "2.0"), (("owl",), ("cat",), ("dog",)))
    twice = open_labelled(table(tmp_path / "b.parquet", image=image_column(2), label=["1", "1.0"]))
    with pytest.raises(InputRefused, match=r"the labels '1' and '1\.0' of .* are the same number"):
        resolve_classes(twice, {"1": ("cat",)})


def test_a_file_for_other_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of the 2 labels of the class names \(a, b …\)"):
        resolve_classes(labelled(tmp_path), {"a": ("x",), "b": ("y",)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{}", "is empty"),
        ("{oops", "is not JSON"),
        ('{"a": 3}', "has 3 for 'a'"),
        ('{"a": [" "]}', "has [' '] for 'a'"),
        ('{"a": "x", "a": "y"}', "names 'a' twice"),
        ("a\tx\na\ty\n", "names 'a' twice"),
        ("a\tx\nb\n", "line 2 of"),
        ("a\t\n", "line 1 of"),
        ("a\tx | \n", "line 1 of"),
        ("\tx\n", "line 1 of"),
        ("0\n1\n2\n", "are numbers: 0, 1, 2"),
        ('{"cat": "0", "dog": "1"}', "are numbers: 0, 1"),
        ("cat\n\nnan\n", "line 3 of"),
    ],
)
def test_files_of_names_that_cannot_be_used(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_classnames(write(tmp_path / "names", content))
    assert message in caught.value.came
