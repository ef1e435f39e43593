"""Rows that cannot become anchors: rejected one by one, with a reason, and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damaged_pairs import split

from asif.pairs import Pair, Reject, open_pairs
from asif.pairs.row_parser import parse_row

NAN, INF = float("nan"), float("inf")

REASONS: list[tuple[dict[str, Any], str]] = [
    ({"image": None}, "image is null"),
    ({"image": {"bytes": None, "path": None}}, "image is null"),
    ({"image": b""}, "image is empty"),
    ({"image": {"bytes": b"", "path": "there.jpg"}}, "image is empty"),
    ({"image": " "}, "image is empty"),
    ({"image": "gone.jpg"}, "image file not found: gone.jpg"),
    ({"image": {"bytes": None, "path": "gone.jpg"}}, "image file not found: gone.jpg"),
    ({"image": "."}, "image file not found: ."),
    ({"image": "x" * 300}, "image file not found: " + "x" * 177 + "…"),
    ({"image": "../there.jpg"}, "image path leaves its folder: ../there.jpg"),
    ({"image": "a/../../there.jpg"}, "image path leaves its folder: a/../../there.jpg"),
    ({"image": "https://x/a.jpg"}, "image is a URL, not a file: https://x/a.jpg"),
    ({"image": "a\0.jpg"}, "image contains a NUL byte"),
    ({"image": 3}, "image is of type int, not text"),
    ({"captions": None}, "caption is null"),
    ({"captions": ""}, "caption is empty"),
    ({"captions": " \n\t\u3000"}, "caption is empty"),
    ({"captions": []}, "caption is empty"),
    ({"captions": ["", None, " "]}, "caption is empty"),
    ({"captions": "a\0b"}, "caption contains a NUL byte"),
    ({"captions": ["fine", "a\0b"]}, "caption contains a NUL byte"),
    ({"captions": "\ud800"}, "caption is not valid UTF-8"),
    ({"captions": b"\xff"}, "caption is not valid UTF-8"),
    ({"captions": 3}, "caption is of type int, not text"),
    ({"captions": [{"tokens": "a"}]}, "caption is of type dict, not text"),
    ({"licence": ["a"]}, "licence is of type list, not text"),
    ({"url": b"\xff"}, "url is not valid UTF-8"),
    ({"status": "failed_to_download"}, "status: failed_to_download"),
    ({"status": None}, "status: null"),
]


@pytest.mark.parametrize(("cells", "reason"), REASONS, ids=[reason[:40] for _, reason in REASONS])
def test_a_bad_row_is_rejected_with_its_reason(cells: dict[str, Any], reason: str, tmp_path: Path) -> None:
    (tmp_path / "there.jpg").write_bytes(b"x")
    good = {"image": "there.jpg", "captions": "a dog", "id": 5, "status": "success", "url": "", "licence": 4}
    assert parse_row(1, good, tmp_path) == Pair(1, "5", tmp_path / "there.jpg", ("a dog",), licence="4")
    assert parse_row(1, {**good, **cells}, tmp_path) == Reject(1, "5", reason)


@pytest.mark.parametrize("name", [None, "", "  ", b"\xff", "a\0", 1.0, float("nan"), "NaN", "None", "x" * 1001])
def test_what_cannot_be_an_id_gives_a_pair_without_one(name: Any) -> None:
    assert parse_row(0, {"image": b"x", "captions": "a", "id": name}, Path()) == Pair(0, None, b"x", ("a",))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  A dog, running.\n", ("A dog, running.",)),
        (["a ", " ", None, "b  c"], ("a", "b  c")),
        ([{"raw": "A Dog.", "tokens": ["a", "dog"]}, {"raw": "B"}], ("A Dog.", "B")),
        (["same", "same"], ("same", "same")),
        ("מים 🐕 \u202e", ("מים 🐕 \u202e",)),
        (b"bytes", ("bytes",)),
    ],
)
def test_captions_are_kept_as_given(given: Any, kept: tuple[str, ...]) -> None:
    pair = parse_row(0, {"image": b"x", "captions": given}, Path())
    assert isinstance(pair, Pair) and pair.captions == kept


def test_parquet_rows_add_up(tmp_path: Path) -> None:
    raw = pa.array([b"a", b"\xff", None, b"d", b"e"], pa.binary())
    columns = {
        "jpg": pa.array([b"1", b"2", b"3", None, b"5"], pa.binary()),
        "caption": pa.Array.from_buffers(pa.string(), 5, raw.buffers()),
        "status": ["success", "success", "success", "failed_to_download", "success"],
        "key": pa.array(["k0", "k1", "k2", "k3", None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    reasons = {1: "caption is not valid UTF-8", 2: "caption is null", 3: "status: failed_to_download"}
    assert split(tmp_path / "a.parquet") == ([0, 4], reasons)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_bad_vectors_are_rejected_one_by_one(fixed: bool, width: int, tmp_path: Path) -> None:
    number = {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}[width]
    cast = np.float16 if width == 16 else float
    rows = [[1, 2], [NAN, 1], [1, INF], [0, 0], None, [1, None], [3, 4], *([] if fixed else [[1, 2, 3], []])]
    vectors = [row and [None if value is None else cast(value) for value in row] for row in rows]
    good = pa.array([[1.0, 1.0]] * len(rows), pa.list_(pa.float32(), 2))
    for bad, other in (("image_embedding", "text_embedding"), ("text_embedding", "image_embedding")):
        kind = pa.list_(number, 2) if fixed else pa.list_(number)
        pq.write_table(pa.table({bad: pa.array(vectors, kind), other: good}), tmp_path / "v.parquet")
        side = bad.replace("_", " ")
        reasons = dict.fromkeys((1, 2, 5), f"{side} not finite") | {3: f"{side} zero", 4: f"{side} is null"}
        if not fixed:
            reasons |= {7: f"{side} has 3 numbers instead of 2", 8: f"{side} is empty"}
        assert split(tmp_path / "v.parquet") == ([0, 6], reasons)


def test_the_width_of_vectors_is_the_most_common_one(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"img_emb": [None, [1.0], [1.0, 2.0], [3.0, 4.0]], "text_emb": [[1.0]] * 4}), tmp_path / "v.pq"
    )
    assert open_pairs(tmp_path / "v.pq").dims == (2, 1)
    none = pa.array([None, None], pa.list_(pa.float32()))
    pq.write_table(pa.table({"img_emb": none, "text_emb": none}), tmp_path / "v.pq")
    assert open_pairs(tmp_path / "v.pq").dims == (0, 0)
    assert split(tmp_path / "v.pq") == ([], dict.fromkeys((0, 1), "image embedding is null"))
