"""Tar archives: damage is named, broken samples are rejected, memory is bounded."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from support.damaged_pairs import flip, refusal, split

from asif.errors import InputRefused
from asif.pairs import open_pairs

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
