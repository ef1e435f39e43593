"""Tables in CSV and JSON lines: empty ones are refused, broken rows rejected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.damaged_pairs import refusal, split

from asif.pairs import Pair, open_pairs


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty (0 bytes)"), (b"\xef\xbb\xbf", "no columns"), (b"\n", "no columns")]
)
def test_empty_tables_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path)[1].came


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
