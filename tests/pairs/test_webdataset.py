"""Tar archives: damage is named, broken samples are rejected, memory is bounded."""

from __future__ import annotations

import base64
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.damaged_pairs import flip, refusal, split
from support.pair_files import pixels, tar_members

from asif.errors import InputRefused, UsageError
from asif.pairs import Pair, open_labelled, open_pairs

TARS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "0 bytes": (lambda good: b"", "empty file"),
    "not a tar": (lambda good: b"x" * 5000, "cannot be read as a tar archive"),
    "cut in a member": (lambda good: good[: 20 * 2048 + 700], "unexpected end of data"),
    "cut between members": (lambda good: good[: 20 * 2048], "no member and no end mark at byte 40,960"),
    "flipped header": (lambda good: flip(good, 20 * 2048), "no member and no end mark at byte 40,960"),
}


@pytest.mark.parametrize("fault", TARS)
def test_damaged_tar_is_refused(fault: str, tar: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar)
    assert open_pairs(path).rows == len(list(open_pairs(path).read())) == 30
    make, message = TARS[fault]
    path.write_bytes(make(tar))
    assert message in refusal(path)[1].came
    with pytest.raises(InputRefused):
        _ = open_pairs(path).rows


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


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "0.jpg"
    return info


def sparse(name: str, size: int) -> tarfile.TarInfo:
    """Make the header of a sparse member of `size` bytes without any data."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {"GNU.sparse.size": str(size), "GNU.sparse.numblocks": "0", "GNU.sparse.map": "0,0"}
    return info


def pair(name: str) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    data = name.encode(errors="surrogateescape")
    return (f"{name}.jpg", data), (f"{name}.txt", data)


GOOD = pair("0")
# the members, the rows that are kept, and the reasons for the others
RECORDS: dict[str, tuple[tuple[Any, ...], list[int], dict[int, str]]] = {
    "two images": (
        (*GOOD, ("1.jpg", b"a"), ("1.png", b"b"), ("1.txt", b"c")),
        [0],
        {1: "1.jpg and 1.png are two members for image in one record (--column image=SUFFIX chooses one)"},
    ),
    "one image in two spellings": (
        (*GOOD, ("1.jpg", b"a"), ("1.JPG", b"b"), ("1.txt", b"c")),
        [0],
        {1: "1.jpg and 1.JPG are two members for image in one record (--column image=SUFFIX chooses one)"},
    ),
    "two captions": (
        (*GOOD, ("1.jpg", b"a"), ("1.txt", b"b"), ("1.txt", b"c")),
        [0],
        {1: "1.txt and 1.txt are two members for txt in one record"},
    ),
    "two of what is not read": ((*GOOD, *pair("1"), ("1.cls", b"1"), ("1.cls", b"2")), [0, 1], {}),
    "a record that continues": (
        (*GOOD, ("1.jpg", b"a"), *pair("2"), ("1.txt", b"c")),
        [0, 2],
        {1: "caption is null", 3: "1.txt: record '1' began before other records"},
    ),
    "a complete record again": ((*GOOD, *pair("1"), *pair("0")), [0, 1, 2], {}),
    "a hard link": ((*GOOD, link("1.jpg", tarfile.LNKTYPE), pair("1")[1]), [0], {1: "1.jpg is a link in the archive"}),
    "only links": (
        (*GOOD, link("1.jpg", tarfile.SYMTYPE), link("1.txt", tarfile.SYMTYPE)),
        [0],
        {1: "1.jpg is a link in the archive"},
    ),
    "no file": ((*GOOD, link("1.jpg", tarfile.FIFOTYPE)), [0], {1: "1.jpg is no file in the archive"}),
    "sparse": ((*GOOD, sparse("1.jpg", 1 << 30), pair("1")[1]), [0], {1: "1.jpg is stored as a sparse file"}),
    "folders": ((link("a", tarfile.DIRTYPE), *pair("a/0"), link("b", tarfile.DIRTYPE), *pair("b/0")), [0, 1], {}),
    "no suffix": ((*GOOD, ("README", b"x")), [0], {1: "image is null"}),
    "hidden": ((("._0.jpg", b"x"), *GOOD, (".DS_Store", b"x"), ("__MACOSX/1.jpg", b"x"), *pair("1")), [0, 1], {}),
    "a long name": (
        (*GOOD, ("1" * 300 + ".jpg", b"a"), ("1" * 300 + ".png", b"b")),
        [0],
        {1: f"{'1' * 59}…{'1' * 56}.jpg and {'1' * 59}…{'1' * 56}.png are two members for image in one record"},
    ),
    "a name that is no text": ((*GOOD, *pair("\udcff")), [0], {1: "caption is not valid UTF-8"}),
}


@pytest.mark.parametrize("case", RECORDS)
def test_no_member_is_lost(case: str, tmp_path: Path) -> None:
    members, expected, reasons = RECORDS[case]
    path = tar_members(tmp_path / "a.tar", *members)
    kept, found = split(path)
    assert kept == expected
    assert found.keys() == reasons.keys() and all(found[row].startswith(reasons[row]) for row in found)
    assert open_pairs(path).rows == len(kept) + len(found)
    for start in range(len(kept) + len(found) + 1):
        assert [item.row for item in open_pairs(path).read(start)] == list(range(start, len(kept) + len(found)))


def test_one_of_two_images_can_be_chosen(tmp_path: Path) -> None:
    path = tar_members(tmp_path / "a.tar", ("0.jpg", b"a"), ("0.png", b"b"), ("0.txt", b"c"))
    source = open_pairs(path, columns={"image": "jpg"})
    assert [pixels(item) for item in source.read()] == ["a"]
    assert "not read: 1 member (.png: 1)" in source.describe()


def test_members_that_are_not_read_are_counted(tmp_path: Path) -> None:
    late = [member for row in range(70) for member in pair(str(row))]
    path = tar_members(tmp_path / "a.tar", *late, ("._a.jpg", b""), *pair("x"), ("x.seg.png", b""), (".DS_Store", b""))
    assert open_pairs(path).describe().endswith("\n  not read: 3 members (._*: 1, .png: 1, hidden: 1)")
    assert "not read" not in open_pairs(tar_members(path, *GOOD)).describe()


DOTTED = [member for row in range(300) for member in pair(f"x/IMG.{row:04}")]


def test_dots_in_keys(tmp_path: Path) -> None:
    path = tar_members(tmp_path / "a.tar", *DOTTED, *pair("plain"), ("St. Louis.v2.jpg", b"alone"), *pair("St. Paul"))
    source = open_pairs(path)
    *found, alone, paul = source.read()
    assert [item.id for item in found] == [f"x/IMG.{row:04}" for row in range(300)] + ["plain"]
    assert [pixels(item) for item in found] == [item.id for item in found]
    assert (alone.reason, paul.id, source.rows) == ("caption is null", "St. Paul", 303)


def test_dots_in_columns_stay(tmp_path: Path) -> None:
    members = [(f"{row}.{name}", b"x") for row in range(3) for name in ("left.jpg", "left.txt", "right.jpg")]
    path = tar_members(tmp_path / "a.tar", *members)
    named = open_pairs(path, columns={"image": "left.jpg", "captions": "left.txt"})
    assert [item.id for item in named.read()] == ["0", "1", "2"]
    mixed = [(f"{row}.{name}", b"x") for row in range(3) for name in ("jpg", "seg.png", "seg.json", "txt")]
    assert [item.id for item in open_pairs(tar_members(path, *mixed)).read()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("members", "form"),
    [
        ([{"txt": b'["a dog", "it runs"]'}, {"txt": b'["a cat"]'}], "JSON list"),
        ([{"cap": b"['a dog', 'it runs']\n"}, {"cap": b"['a cat']"}], "Python list"),
        (
            [{"json": b'{"caption": "[\\"a dog\\", \\"it runs\\"]"}'}, {"json": b'{"caption": "[\\"a cat\\"]"}'}],
            "JSON list",
        ),
        ([{"json": b'["a dog", "it runs"]'}, {"json": b'["a cat"]'}], None),
        ([{"json": b'["a dog", "it runs"]'}, {"json": b'"a cat"'}], None),
    ],
)
def test_lists_in_members_are_parsed_where_every_row_has_one(
    members: list[dict[str, bytes]], form: str | None, tmp_path: Path
) -> None:
    named = [(f"{row}.{end}", text) for row, each in enumerate(members) for end, text in {"jpg": b"x", **each}.items()]
    source = open_pairs(tar_members(tmp_path / "a.tar", *named))
    assert [item.captions for item in source.read() if isinstance(item, Pair)] == [("a dog", "it runs"), ("a cat",)]
    assert source.columns.forms == ({} if form is None else {"captions": form})
    assert (form or "parsed") in source.describe() or form is None


def test_a_text_that_only_looks_like_a_list_stays(tmp_path: Path) -> None:
    named = [("0.jpg", b"x"), ("0.txt", b'["a dog"]'), ("1.jpg", b"x"), ("1.txt", b"[a cat]")]
    source = open_pairs(tar_members(tmp_path / "a.tar", *named))
    assert [item.captions for item in source.read() if isinstance(item, Pair)] == [('["a dog"]',), ("[a cat]",)]


@pytest.mark.parametrize("end", ["b64", "json"])
def test_base64_images_in_members_are_decoded(end: str, tmp_path: Path) -> None:
    images = [b"\x89PNG" + bytes([row] * 400_000) for row in range(3)]
    named: list[tuple[str, bytes]] = []
    for row, image in enumerate(images):
        text = base64.b64encode(image)
        named += [(f"{row}.txt", b"a dog"), (f"{row}.{end}", text if end == "b64" else b'{"image": "%b"}' % text)]
    columns = {"image": "b64"} if end == "b64" else {}
    source = open_pairs(tar_members(tmp_path / "a.tar", *named), columns=columns)
    assert [item.image for item in source.read() if isinstance(item, Pair)] == images
    assert "base64 in each cell, parsed" in source.describe()


def test_records_without_end_are_refused(tmp_path: Path) -> None:
    path = tar_members(tmp_path / "a.tar", *((f"IMG.{row}.jpg", b"x") for row in range(1001)))
    refused = refusal(path)[1]
    assert "record 'IMG' has more than 1,000 members, such as IMG.1000.jpg" in refused.came
    assert "no dots but that of the suffix" in refused.fix


def test_records_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asif.pairs.webdataset.MAX_MEMBER_BYTES", 1000)
    path = tar_members(tmp_path / "a.tar", *GOOD, ("1.jpg", b"x" * 600), ("1.mp4", b"x" * 5000), ("1.txt", b"x" * 600))
    assert split(path) == ([0], {1: "the record of 1.txt has more than 1,000 bytes"})


@pytest.mark.parametrize("empty", [0, 1, 2])
@pytest.mark.parametrize("open_source", [open_pairs, open_labelled])
def test_an_empty_tar_among_others(empty: int, open_source: Any, tmp_path: Path) -> None:
    for number in range(3):
        members = [member for row in range(2) for member in (*pair(f"{number}{row}"), (f"{number}{row}.cls", b"a"))]
        tar_members(tmp_path / f"{number}.tar", *([] if number == empty else members))
    source = open_source(tmp_path)
    source = getattr(source, "source", source)
    assert source.rows == 4
    expected = [f"{number}{row}" for number in range(3) if number != empty for row in range(2)]
    for start in range(5):
        assert [item.id for item in source.read(start)] == expected[start:]
    for number in range(3):
        tar_members(tmp_path / f"{number}.tar")
    with pytest.raises(InputRefused, match="has no member in 3 tars"):
        open_source(tmp_path)


def test_columns_that_come_late_are_found(tmp_path: Path) -> None:
    path = tar_members(tmp_path / "0.tar", *((f"a{row:03}.jpg", b"x") for row in range(100)))
    tar_members(tmp_path / "1.tar", *pair("b"), *pair("c"))
    for columns in ({}, {"captions": "txt"}):
        source = open_pairs(tmp_path, columns=columns)
        assert (source.rows, source.columns.captions) == (102, "txt")
        assert sum(isinstance(item, Pair) for item in source.read()) == 2
    assert "no column that looks like captions" in refusal(path)[1].came
    with pytest.raises(UsageError, match="no column 'cap'"):
        open_pairs(tmp_path, columns={"captions": "cap"})


def test_all_images_before_all_captions_is_refused(tmp_path: Path) -> None:
    names = [f"{row:03}" for row in range(100)]
    members = [(f"{name}.{suffix}", b"x") for suffix in ("jpg", "txt") for name in names]
    refused = refusal(tar_members(tmp_path / "a.tar", *members))[1]
    assert "000.txt: record '000' began before other records" in refused.came
    assert "sorted by name" in refused.fix


@pytest.mark.parametrize(("extra", "named"), [(b"x" * 600, "data"), (None, "the member 0.jpg")])
def test_data_after_the_end_mark_are_refused(extra: bytes | None, named: str, tmp_path: Path) -> None:
    path = tar_members(tmp_path / "a.tar", *GOOD)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(70_000))
    assert open_pairs(path).rows == 1
    path.write_bytes(whole + bytes(70_144) + (extra or whole))
    with pytest.raises(InputRefused, match=f"has {named} at byte {len(whole) + 70_144:,}, after its end mark"):
        list(open_pairs(path).read())


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("size", [-512, 1 << 80])
def test_sizes_that_cannot_be_are_refused(kind: bytes, size: int, tmp_path: Path) -> None:
    path = tar_members(tmp_path / "a.tar", *GOOD)
    header = bytearray(path.read_bytes()[:512])
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[124] |= 0x80
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(path.read_bytes()[:1024] + header + path.read_bytes()[1024:])
    with pytest.raises(InputRefused, match="cannot be read as a tar archive"):
        list(open_pairs(path).read())


def test_opening_reads_headers_only(tmp_path: Path) -> None:
    """Else a tar of large images is held in memory."""
    blob = bytes(1 << 20)
    path = tar_members(tmp_path / "a.tar", *((f"IMG.{row}.{end}", blob) for row in range(20) for end in ("jpg", "txt")))
    tracemalloc.start()
    source = open_pairs(path)
    assert source.rows == 20
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    assert sum(1 for _ in source.read()) == 20
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_members_of_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for row in range(2000):
            for name in (f"{row}.jpg", f"{row}.txt"):
                info = tarfile.TarInfo(name)
                info.size = 1
                archive.addfile(info, io.BytesIO(b"x"))
    source = open_pairs(tmp_path / "a.tar")
    del archive
    tracemalloc.start()
    assert source.rows == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
