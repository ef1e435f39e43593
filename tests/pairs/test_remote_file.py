"""Files elsewhere are read by ranges: only what is needed, and the right bytes or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.build_fakes import write_parquet
from support.pair_files import table
from support.remote_pairs import FORMS, contents
from support.remote_stores import ToyStore, install_store, put_folder, serve_folder

from asif.errors import InputRefused, Unreachable
from asif.pairs import open_pairs, remote_file
from asif.pairs.remote import RemotePath, connect

pytestmark = pytest.mark.usefixtures("stores")


def test_shards_in_natural_order_and_their_footers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 1 << 12)
    for shard in range(12):
        images = [np.random.default_rng(shard).bytes(400_000), b"x"]
        table(tmp_path / f"part-{shard}.parquet", image=images, caption=[f"{shard}", "more"])
    put_folder(tmp_path, "bucket")
    source = open_pairs("toys://bucket")
    assert [file.name for file in source.files] == [f"part-{shard}.parquet" for shard in range(12)]
    assert sum(end - start for _, start, end in ToyStore.requests) < source.bytes / 2
    assert contents(source) == contents(open_pairs(tmp_path))


def test_a_tar_that_is_done_is_not_read_again(tmp_path: Path) -> None:
    folder = FORMS["tar_folder"](tmp_path / "data")
    put_folder(folder, "bucket")
    source = open_pairs("toys://bucket")
    assert source.rows == 2
    ToyStore.requests.clear()
    assert [item.row for item in source.read(1)] == [1]
    assert {path for path, _, _ in ToyStore.requests} == {"bucket/00001.tar"}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    moves=st.lists(st.tuples(st.sampled_from(["start", "here", "end"]), st.integers(-50, 350), st.integers(0, 120))),
    broken=st.sets(st.integers(1, 60), max_size=20),
    cut=st.sets(st.integers(1, 60), max_size=20),
)
def test_any_reading_gives_the_bytes_or_an_error(
    data: bytes, moves: list[tuple[str, int, int]], broken: set[int], cut: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails or comes short on the way: what is read is right, or Unreachable is raised."""
    install_store()
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(remote_file, "_CACHED_BLOCKS", 3)

    def answer(number: int, content: bytes) -> bytes:
        if number in broken:
            raise TimeoutError("no answer")
        return content[: len(content) // 2] if number in cut else content

    ToyStore.files["bucket/a"], ToyStore.answer = data, staticmethod(answer)
    file, at = connect("toys://bucket/a").open("rb"), 0
    for whence, offset, count in moves:
        base = {"start": 0, "here": at, "end": len(data)}[whence]
        target = max(0, base + offset)
        file.seek(target)
        try:
            got = file.read(count)
        except Unreachable:
            assert broken | cut
            return
        assert got == data[target : target + count]
        at = file.tell()
        assert at == target + len(got)


def test_a_file_that_changes_is_refused() -> None:
    ToyStore.files["bucket/a.csv"] = b"file_name,text\na.jpg,a dog\n"
    source = open_pairs("toys://bucket/a.csv")
    ToyStore.files["bucket/a.csv"] += b"b.jpg,a cat\n"
    with pytest.raises(InputRefused, match="had 27 bytes and now has 39"):
        list(source.read())


def test_a_server_without_ranges(tmp_path: Path, web: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "_BLOCK_BYTES", 1 << 10)
    path = write_parquet(tmp_path / "a.parquet", [b"%d" % row * 500 for row in range(9)], ["a"] * 9)
    with serve_folder(tmp_path, ranges=False) as (url, _):
        with pytest.raises(InputRefused, match=f"simplecache::{url}a.parquet"):
            contents(open_pairs(f"{url}a.parquet"))
        assert contents(open_pairs(f"simplecache::{url}a.parquet")) == contents(open_pairs(path))
        copies = open_pairs(f"simplecache::{url}a.parquet")
        assert isinstance(copies.path, RemotePath) and str(copies.path) == f"simplecache::{url}a.parquet"
