"""Data sets to evaluate on: every layout gives the same labelled images; what cannot be used is refused, naming it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.labelled_files import IMAGES, LAYOUTS, benchmark, class_folders, found, labelled, with_vectors
from support.pair_files import IMAGE, files, pixels, table

from asif.errors import InputRefused, UsageError
from asif.pairs import Pair, Reject, open_captioned, open_labelled, open_pairs

THREE = [("first", "dog"), ("second", "cat"), ("third", "dog")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same(layout: str, tmp_path: Path) -> None:
    data = open_labelled(LAYOUTS[layout](tmp_path / "data"))
    assert sorted(found(data)) == THREE
    assert data.classes == ("cat", "dog")
    assert data.source.rows == 3
    assert len(data.source.sha256) == 64
    assert found(data) == found(data)


def test_names_templates_and_lines_of_clip_benchmark(tmp_path: Path) -> None:
    path = benchmark(
        tmp_path / "a", classnames="cat \n\ndog\n", zeroshot_classification_templates="a {c}.\n\nthe {c}\n"
    )
    data = open_labelled(path)
    assert (data.names, data.templates, data.literal) == (("cat", "dog"), ("a {c}.", "the {c}"), True)
    pairs = list(open_captioned(benchmark(tmp_path / "b", "retrieval")).read())
    assert [pair.captions for pair in pairs if isinstance(pair, Pair)] == [("a dog", "it runs"), ("a cat",), ("a dog",)]
    assert [pixels(pair) for pair in pairs] == ["first", "second", "third"]


def test_captions_elsewhere_are_those_of_pairs(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=pa.array(IMAGES, IMAGE), captions=[["a", "b"], ["c"], ["d"]])
    assert list(open_captioned(path).read()) == list(open_pairs(path).read())


def test_numbers_without_a_name_are_rejected(tmp_path: Path) -> None:
    data = open_labelled(labelled(tmp_path, [1, -1, 2], ["cat", "dog"]))
    assert found(data) == [("first", "dog")]
    reasons = [item.reason for item in data.read() if isinstance(item, Reject)]
    assert reasons == [f"label {label} is not among the 2 classes" for label in (-1, 2)]


def test_marks_of_images_without_a_label_are_rejected(tmp_path: Path) -> None:
    data = open_labelled(labelled(tmp_path, ["dog", "-1", "nan"]))
    assert (data.classes, found(data)) == (("dog",), [("first", "dog")])
    reasons = [item.reason for item in data.read() if isinstance(item, Reject)]
    assert reasons == ["label is '-1': unlabelled", "label is 'nan': unlabelled"]
    files(tmp_path / "c" / "cat", a=b"first")
    files(tmp_path / "c" / "unlabeled", a=b"second")
    folders = open_labelled(tmp_path / "c")
    assert (folders.classes, found(folders)) == (("cat",), [("first", "cat")])


def test_numbers_in_another_spelling_have_their_name(tmp_path: Path) -> None:
    assert found(open_labelled(labelled(tmp_path, ["1.0", "00", "2.0"], ["cat", "dog"]))) == [
        ("first", "dog"),
        ("second", "cat"),
    ]
    assert found(open_labelled(labelled(tmp_path, ["1", "0"], ["1", "0"]))) == [("first", "0"), ("second", "1")]


@pytest.mark.parametrize(
    ("label", "reasons"),
    [
        (["dog", None, " "], ["label is null", "label is empty"]),
        ([1.5, float("nan"), 1.0], ["label is 1.5, no whole number", "label is null"]),
        ([b"dog", b"\xff", b"a\0"], ["label is not valid UTF-8", "label contains a NUL byte"]),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, label: Any, reasons: list[str]) -> None:
    data = open_labelled(labelled(tmp_path, label))
    assert [item.reason for item in data.read() if isinstance(item, Reject)] == reasons
    assert len(data.classes) == 1


def test_names_that_come_twice_are_told_apart(tmp_path: Path) -> None:
    data = open_labelled(labelled(tmp_path, [0, 1, 2], ["crane", "heron", "crane"]))
    assert [label for _, label in found(data)] == ["crane #0", "heron", "crane #2"]
    assert data.names == ("crane", "heron", "crane")


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    assert open_labelled(labelled(tmp_path, [10, 9, 1])).classes == ("1", "9", "10")


def test_an_empty_class_is_a_class(tmp_path: Path) -> None:
    path = class_folders(tmp_path / "data")
    (path / "owl").mkdir()
    assert open_labelled(path).classes == ("cat", "dog", "owl")


def test_images_outside_of_class_folders_are_named(tmp_path: Path) -> None:
    path = class_folders(tmp_path / "data")
    files(path, loose=b"x")
    assert "not read: loose.jpg" in open_labelled(path).source.describe()
    files(path, **{f"loose{number}": b"x" for number in range(9)})
    assert "not read: 10 images outside of class folders" in open_labelled(path).source.describe()


def split_folders(path: Path) -> Path:
    for split in ("train", "test"):
        class_folders(path / split)
    return path


def shards_of_splits(path: Path) -> Path:
    for split in ("test", "train"):
        table(path / "data" / f"{split}-00000-of-00001.parquet", image=pa.array(IMAGES, IMAGE), label=["a", "b", "c"])
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], type[Exception], str]] = {
    "missing": (lambda path: path / "nowhere", UsageError, "does not exist"),
    "empty folder": (lambda path: path.mkdir() or path, InputRefused, "holds no file that is known here"),
    "splits": (split_folders, InputRefused, "holds the splits test, train"),
    "shards of splits": (shards_of_splits, InputRefused, "holds the splits test, train"),
    "no label": (lambda path: table(path / "a.parquet", image=pa.array(IMAGES, IMAGE)), InputRefused, "like label"),
    "many labels": (lambda path: labelled(path, [["a"], ["b"], []]), InputRefused, "holds texts, not"),
    "no image": (lambda path: table(path / "a.parquet", label=["dog"]), InputRefused, "looks like image"),
    "retrieval": (lambda path: benchmark(path, "retrieval"), UsageError, "is for retrieval"),
    "multilabel": (lambda path: benchmark(path, "multilabel"), UsageError, "is for multilabel"),
    "shards": (lambda path: benchmark(path, shards="4"), InputRefused, "lacks 2.tar, 3.tar, 2 of 4"),
    "no number": (lambda path: benchmark(path, shards="two"), InputRefused, "says 'two'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    make, error, message = REFUSED[case]
    with pytest.raises(error) as caught:
        open_labelled(make(tmp_path / "data"))
    assert message in str(caught.value)


def test_captions_of_a_folder_of_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is for classification"):
        open_captioned(benchmark(tmp_path / "data"))
    with pytest.raises(InputRefused, match="looks like captions"):
        open_captioned(labelled(tmp_path, ["dog", "cat", "dog"]))


@pytest.mark.parametrize("role", ["captions", "text_embedding", "colour"])
def test_roles_that_labels_have_no_use_for(role: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"unknown role '{role}'"):
        open_labelled(labelled(tmp_path, ["dog", "cat", "dog"]), columns={role: "label"})
    with pytest.raises(UsageError, match="unknown role 'label'"):
        open_pairs(labelled(tmp_path, ["dog", "cat", "dog"]), columns={"label": "label"})


def test_damaged_metadata_is_refused(tmp_path: Path) -> None:
    written = pa.table({"image": pa.array(IMAGES, IMAGE), "label": [0, 1, 0]})
    for broken in ("{", "[]", '{"info": 3}'):
        pq.write_table(written.replace_schema_metadata({"huggingface": broken}), tmp_path / "a.parquet")
        with pytest.raises(InputRefused, match="Hugging Face metadata cannot be read"):
            open_labelled(tmp_path / "a.parquet")


def test_vectors_with_labels(tmp_path: Path) -> None:
    data = open_labelled(with_vectors(tmp_path / "v.parquet"))
    assert (data.source.kind, data.source.dims, data.classes) == (
        "precomputed vectors (parquet)",
        (2, 0),
        ("cat", "dog"),
    )
    assert "vectors: 2 (image)" in data.source.describe() and "(text)" not in data.source.describe()
    *pairs, bad = data.read()
    assert [(pair.image_embedding.tolist(), pair.image, pair.label) for pair in pairs] == [
        ([1, 2], None, "dog"),
        ([3, 4], None, "cat"),
    ]
    assert bad.reason == "image embedding zero"


def test_images_go_before_vectors_unless_these_are_named(tmp_path: Path) -> None:
    path = with_vectors(tmp_path / "v.parquet", image=pa.array(IMAGES, IMAGE), url=["a", "b", "c"])
    assert open_labelled(path).source.dims is None
    named = open_labelled(path, columns={"image_embedding": "image_embedding"}).source
    assert (named.dims, named.columns.image) == ((2, 0), None)
    with pytest.raises(UsageError, match="both an image column and an embedding column"):
        open_labelled(path, columns={"image_embedding": "image_embedding", "image": "image"})
    assert open_labelled(with_vectors(path, url=["a", "b", "c"])).source.dims == (2, 0)
