"""Cells that hold an image as base64, and columns that hold what cannot be used."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.build_images import random_png
from support.damaged_pairs import refusal
from support.pair_files import table

from asif.errors import UsageError
from asif.pairs import Pair, Reject, open_pairs
from asif.pairs.cell_forms import parse_list

PNG = random_png(1, 20, 20)
VECTORS = np.arange(32, dtype=np.float32).reshape(8, 4) + 1


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_base64_images_are_decoded(prefix: str, encode: Any, tmp_path: Path) -> None:
    cells = [prefix + encode(PNG).decode()] * 3
    source = open_pairs(table(tmp_path / "a.parquet", image=[*cells, "?" * 9], caption=list("abcd")))
    assert source.columns.forms == {}
    source = open_pairs(table(tmp_path / "a.parquet", image=[*cells * 30, "?" * 9], caption=["a"] * 91))
    items = list(source.read())
    assert [item.image for item in items if isinstance(item, Pair)] == [PNG] * 90
    assert items[-1] == Reject(90, None, "image is not valid base64")
    assert "image: image (base64 in each cell, parsed)" in source.describe()


def test_rejects_are_as_long_as_200_characters_at_most(tmp_path: Path) -> None:
    cells = ["x" * 100_000, "a/" * 300, "https://host/" + "y" * 9000]
    items = list(open_pairs(table(tmp_path / "a.parquet", image=cells, caption=list("abc"))).read())
    assert [len(item.reason) for item in items if isinstance(item, Reject)] == [200] * 3


@pytest.mark.parametrize(
    ("column", "holds", "advice"),
    [
        (pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS), "tensor [4] of float", ".storage"),
        (pa.array(VECTORS.astype("i1").tolist(), pa.list_(pa.int8())), "list of int8", "pa.list_(pa.float32())"),
        (pa.array([json.dumps(row) for row in VECTORS.tolist()]), "text", "json.loads"),
        (pa.array([[row] for row in VECTORS.tolist()]), "list of lists", "reshape"),
    ],
    ids=["tensor", "int8", "JSON", "nested"],
)
def test_a_column_that_is_no_vector_is_named(column: Any, holds: str, advice: str, tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image_embedding=column, text_embedding=pa.array(VECTORS.tolist()))
    came = refusal(path)[1]
    assert f"column 'image_embedding' of {path} holds {holds}, not float vectors" in came.came
    assert advice in came.fix and "image=COLUMN" not in str(came)


def test_the_conversions_that_are_advised_work(tmp_path: Path) -> None:
    tensor, small = (pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS), pa.array(VECTORS.astype("i1").tolist()))
    columns = [
        pa.table({"v": tensor})["v"].combine_chunks().storage,
        pa.table({"v": small})["v"].cast(pa.list_(pa.float32())),
    ]
    for column in columns:
        path = table(tmp_path / "a.parquet", image_embedding=column, text_embedding=pa.array(VECTORS.tolist()))
        assert np.array_equal([pair.image_embedding for pair in open_pairs(path).read()], VECTORS)


def test_lists_of_images_are_named(tmp_path: Path) -> None:
    cells = pa.array([[{"bytes": b"x", "path": "a"}]])
    came = refusal(table(tmp_path / "a.parquet", images=cells, image=cells, caption=["a"]))[1]
    assert "column 'image' of" in came.came and "holds list of structs" in came.came


@pytest.mark.parametrize("ids", [[float("nan"), 1.0, 2.0], [0.5, 1.5, 2.5]])
def test_a_float_column_is_no_id(ids: list[float], tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", id=ids, image=[b"x"] * 3, caption=list("abc"))
    assert [pair.id for pair in open_pairs(path).read()] == [None] * 3
    with pytest.raises(UsageError, match="holds float"):
        open_pairs(path, columns={"id": "id"})


def test_an_empty_name_means_no_column(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", id=[1, 2], url=["u", "v"], image=[b"x"] * 2, caption=["a", "b"])
    source = open_pairs(path, columns={"id": "", "url": ""})
    assert [(pair.id, pair.url) for pair in source.read() if isinstance(pair, Pair)] == [(None, None)] * 2
    assert source.unused == ("id", "url")


def test_several_caption_columns_are_combined(tmp_path: Path) -> None:
    cells = {"caption_1": ["a", None, None], "caption_2": ["b", "c", " "], "caption": ["no"] * 3}
    path = table(tmp_path / "a.parquet", image=[b"x"] * 3, **cells)
    source = open_pairs(path, columns={"captions": "caption_1, caption_2"})
    found = list(source.read())
    assert [item.captions for item in found if isinstance(item, Pair)] == [("a", "b"), ("c",)]
    assert found[2] == Reject(2, None, "caption is empty")
    assert source.identity != open_pairs(path, columns={"captions": "caption_1"}).identity
    with pytest.raises(UsageError, match="has no column 'caption_3'"):
        open_pairs(path, columns={"captions": "caption_1,caption_3"})


def test_only_lists_of_texts_are_lists() -> None:
    numpy_list = "['a cat' 'a dog']"
    for text in ("[1, 2]", "a", "[a]", '{"a": 1}', "[" * 9999 + "]" * 9999, numpy_list, "[red] a car [blue]"):
        assert parse_list(text, "JSON list") is None and parse_list(text, "Python list") is None
