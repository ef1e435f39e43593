"""Tables in CSV and JSON lines: empty ones are refused, broken rows rejected."""

from __future__ import annotations

import base64
import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.damaged_pairs import refusal, split

from asif.pairs import Pair, Reject, open_pairs


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
    assert reasons.pop(3).startswith("line 4: not JSON: ")
    assert reasons == {
        1: "line 2: not JSON: Expecting property name enclosed in double quotes at column 2",
        2: "line 3: not a JSON object but a list",
        4: "caption is not valid UTF-8",
        5: "caption contains a NUL byte",
        6: "caption is null",
    }


def test_broken_csv_rows_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    lines = [
        b'\xef\xbb\xbffile_name,text\r\na.jpg,"a dog,\r\nrunning"\r\n\r\na.jpg\r\na.jpg,a,b\r\na.jpg,\xff',
        b'a.jpg,"b"c',
        b"a.jpg,last\r\n",
    ]
    (tmp_path / "metadata.csv").write_bytes(b"\r\n".join(lines))
    kept, reasons = split(tmp_path)
    assert kept == [0, 5]
    assert reasons.pop(4).startswith("line 8: not CSV in UTF-8: ")
    assert reasons == {
        1: "line 5 has 1 fields instead of 2, separated by ','",
        2: "line 6 has 3 fields instead of 2, separated by ','",
        3: "caption is not valid UTF-8",
    }
    assert [pair.captions for pair in open_pairs(tmp_path).read() if isinstance(pair, Pair)] == [
        ("a dog,\r\nrunning",),
        ("last",),
    ]


def rows_of(path: Path, content: str) -> tuple[list[tuple[str, ...]], list[str]]:
    path.write_text(content)
    items = list(open_pairs(path).read())
    kept = [item.captions for item in items if isinstance(item, Pair)]
    return kept, [item.reason for item in items if isinstance(item, Reject)]


def test_an_open_quote_costs_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    lines = ["file_name,text", "a.jpg,one", 'a.jpg,"two', *(f"a.jpg,{number}" for number in range(50))]
    kept, reasons = rows_of(tmp_path / "metadata.csv", "\n".join(lines))
    assert kept == [("one",), *((f"{number}",) for number in range(50))]
    assert reasons == ["line 3: not CSV in UTF-8: unexpected end of data"]
    kept, reasons = rows_of(tmp_path / "metadata.csv", "\n".join([*lines, 'a.jpg,"three, and"', "a.jpg,four"]))
    assert (len(kept), kept[-2:]) == (53, [("three, and",), ("four",)])
    assert [reason[:8] for reason in reasons] == ["line 3: "]


def test_an_open_quote_before_much_text_costs_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    lines = ["file_name,text", 'a.jpg,"two', *(f"a.jpg,{number:01000}" for number in range(200))]
    kept, reasons = rows_of(tmp_path / "metadata.csv", "\n".join(lines))
    assert len(kept) == 200
    assert reasons == ["line 2: not CSV in UTF-8: a cell with more than 131,072 characters in further lines"]


@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.tsv", "metadata.jsonl", "METADATA.CSV"])
def test_images_of_any_size_in_cells(encode: Any, name: str, tmp_path: Path) -> None:
    images = [b"\x89PNG" + random.Random(seed).randbytes(300_000) for seed in range(3)]
    texts = [encode(image).decode() for image in images]
    with (tmp_path / name).open("w", newline="") as file:
        if name.endswith("jsonl"):
            file.writelines(json.dumps({"image": text, "caption": "a dog"}) + "\n" for text in texts)
        else:
            rows = csv.writer(file, delimiter="\t" if name.endswith("tsv") else ",")
            rows.writerows([("image", "caption"), *((text, "a dog") for text in texts)])
    source = open_pairs(tmp_path)
    assert [item.image for item in source.read() if isinstance(item, Pair)] == images
    assert source.columns.forms == {"image": "base64"}


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_line_that_is_too_long_is_one_bad_row(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.pairs.metadata_folder._MAX_LINE", 100)
    (tmp_path / "a.jpg").write_bytes(b"x")
    texts = ["one", "x" * 250, "x" * 300, "two"]
    lines = [json.dumps({"file_name": "a.jpg", "text": text}) for text in texts]
    if name.endswith("csv"):
        lines = ["file_name,text", *(f"a.jpg,{text}" for text in texts)]
    kept, reasons = rows_of(tmp_path / name, "\n".join(lines))
    assert kept == [("one",), ("two",)]
    assert len(reasons) == 2 and all("more than 100 characters" in reason for reason in reasons)


def test_a_header_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text('"file"_name,text\na.jpg,b\n')
    assert "line 1 of" in refusal(tmp_path)[1].came


def test_a_row_of_too_few_fields_ends_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    kept, reasons = rows_of(tmp_path / "a.csv", 'file_name,text\n"a.jpg\na.jpg","b"\na.jpg,c\n"a.jpg\nx"\na.jpg,d\n')
    assert (kept, len(reasons)) == ([("c",), ("d",)], 3)


def test_tabs_separate_a_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert rows_of(tmp_path / "metadata.tsv", "file_name\ttext\na.jpg\tone, two\n") == ([("one, two",)], [])


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_another_separator_is_refused_by_name(separator: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(f"file_name{separator}text\na.jpg{separator}a\n")
    assert f"separated by {name}" in refusal(tmp_path)[1].came


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_another_encoding_is_refused_by_name(encoding: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("file_name,text\na.jpg,a\n", encoding=encoding)
    assert f"is encoded as {encoding.upper()[:6]}" in refusal(tmp_path)[1].came


@pytest.mark.parametrize("cell", ['["a red cat", "it sits"]', "['a red cat', 'it sits']"])
def test_lists_in_cells_are_parsed_where_every_row_has_one(cell: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    quoted = cell.replace('"', '""')
    lines = f'file_name,text\na.jpg,"{quoted}"\na.jpg,nan\na.jpg,"{quoted}"\n'
    kept, reasons = rows_of(tmp_path / "metadata.csv", lines)
    assert (kept, reasons) == ([("a red cat", "it sits"), ("nan",), ("a red cat", "it sits")], [])
    assert "remark: some captions are 'nan'; if" in open_pairs(tmp_path).describe()
    assert "list in each cell, parsed)" in open_pairs(tmp_path).describe()
    kept, reasons = rows_of(tmp_path / "metadata.csv", f"{lines}a.jpg,a plain text\n")
    assert kept[0] == (cell,) and kept[-1] == ("a plain text",)
