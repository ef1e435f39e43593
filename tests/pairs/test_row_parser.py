"""Rows that cannot become anchors: rejected one by one, with a reason, and counted."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
    ({"image": "x" * 300}, "image file not found: " + "x" * 300),
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


@pytest.mark.parametrize("name", [None, "", "  "])
def test_an_empty_id_is_none(name: Any) -> None:
    assert parse_row(0, {"image": b"x", "captions": "a", "id": name}, Path()) == Pair(0, None, b"x", ("a",))


def test_an_unreadable_id_rejects_its_row() -> None:
    assert parse_row(0, {"image": b"x", "captions": "a", "id": b"\xff"}, Path()) == Reject(
        0, None, "id is not valid UTF-8"
    )


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


def split(path: Path) -> tuple[list[int], dict[int, str]]:
    """Return the rows kept and the reasons of the others, having checked that they add up."""
    source = open_pairs(path)
    items = list(source.read())
    assert [item.row for item in items] == list(range(source.rows))
    kept = [item.row for item in items if isinstance(item, Pair)]
    reasons = {item.row: item.reason for item in items if isinstance(item, Reject)}
    assert len(kept) + len(reasons) == source.rows
    return kept, reasons


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


def test_bad_npy_rows_are_rejected(tmp_path: Path) -> None:
    vectors = np.ones((300, 2), np.float16)
    vectors[7], vectors[260, 1] = 0, np.nan
    np.save(tmp_path / "img_emb_0.npy", vectors)
    np.save(tmp_path / "text_emb_0.npy", np.ones((300, 3), ">f4"))
    kept, reasons = split(tmp_path)
    assert len(kept) == 298 and reasons == {7: "image embedding zero", 260: "image embedding not finite"}


def test_broken_lines_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    good = json.dumps({"file_name": "a.jpg", "text": "a dog"}).encode()
    nul = json.dumps({"file_name": "a.jpg", "text": "a\0"}).encode()
    broken = [b"{oops", b"[1]", b"[" * 100_000, good.replace(b"dog", b"\xff"), nul, good.replace(b"text", b"test")]
    (tmp_path / "metadata.jsonl").write_bytes(b"\n".join([good, *broken, b"", good]))
    kept, reasons = split(tmp_path)
    assert kept == [0, 7]
    assert reasons.pop(3).startswith("not JSON: ")
    assert reasons == {
        1: "not JSON: Expecting property name enclosed in double quotes at column 2",
        2: "not a JSON object but a list",
        4: "caption is not valid UTF-8",
        5: "caption contains a NUL byte",
        6: "caption is null",
    }


def test_broken_csv_rows_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    lines = [
        b'\xef\xbb\xbffile_name,text\r\na.jpg,"a dog,\r\nrunning"\r\n\r\na.jpg\r\na.jpg,a,b\r\na.jpg,\xff',
        b"a.jpg,b\x00" + b"c" * 200_000,
        b"a.jpg,last\r\n",
    ]
    (tmp_path / "metadata.csv").write_bytes(b"\r\n".join(lines))
    kept, reasons = split(tmp_path)
    assert kept == [0, 5]
    assert reasons.pop(4).startswith("not CSV: ")
    assert reasons == {
        1: "row has 1 fields instead of 2",
        2: "row has 3 fields instead of 2",
        3: "caption is not valid UTF-8",
    }
    assert [pair.captions for pair in open_pairs(tmp_path).read() if isinstance(pair, Pair)] == [
        ("a dog,\r\nrunning",),
        ("last",),
    ]


def test_broken_samples_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.pairs.webdataset.MAX_MEMBER_BYTES", 1000)
    members = {"0.jpg": b"x", "0.txt": b"a", "1.txt": b"no image", "2.jpg": b"no text", "3.jpg": b"", "3.txt": b"a"}
    members |= {"4.jpg": b"x" * 1001, "4.txt": b"a", "5.jpg": b"x", "5.json": b"{", "6.jpg": b"x", "6.txt": b"b"}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    kept, reasons = split(tmp_path / "a.tar")
    assert kept == [0, 6]
    assert reasons.pop(5).startswith("5.json: not JSON: Expecting property name")
    assert reasons == {
        1: "image is null",
        2: "caption is null",
        3: "image is empty",
        4: "4.jpg has 1,001 bytes, more than 1,000",
    }
