"""Pairs in parquet are read in order: from any row, over shards, in bounded memory, and real ones."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.pair_files import IMAGE
from support.paths import ROOT

from asif.pairs import Pair, Reject, open_pairs


def rows(first: int, count: int) -> pa.Table:
    """Make rows of which every seventh has no caption."""
    numbers = range(first, first + count)
    image = pa.array([{"bytes": f"pixels {number}".encode(), "path": None} for number in numbers], IMAGE)
    texts = [None if number % 7 == 3 else [f"a {number}", f"b {number}"] for number in numbers]
    return pa.table(
        {"image": image, "captions": pa.array(texts, pa.list_(pa.string())), "id": [str(n) for n in numbers]}
    )


def expected(count: int) -> list[Pair | Reject]:
    return [
        Reject(n, str(n), "caption is null")
        if n % 7 == 3
        else Pair(n, str(n), f"pixels {n}".encode(), (f"a {n}", f"b {n}"))
        for n in range(count)
    ]


def shards(folder: Path, counts: Sequence[int], group: int) -> Path:
    for number, count in enumerate(counts):
        pq.write_table(rows(sum(counts[:number]), count), folder / f"part-{number}.parquet", row_group_size=group)
    return folder


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 50), st.data())
def test_reading_from_any_row_is_the_tail_of_reading_all(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], group: int, data: st.DataObject
) -> None:
    source = open_pairs(shards(tmp_path_factory.mktemp("shards"), counts, group))
    total = sum(counts)
    start = data.draw(st.integers(0, total + 2))
    assert source.rows == total
    assert list(source.read()) == expected(total)
    assert list(source.read(start)) == expected(total)[start:]


def test_starts_inside_and_between_batches(tmp_path: Path) -> None:
    source = open_pairs(shards(tmp_path, [700, 300], 600))
    for start in (0, 1, 255, 256, 257, 599, 600, 601, 699, 700, 701, 999, 1000):
        assert list(source.read(start)) == expected(1000)[start:]


def test_row_groups_before_the_start_are_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(rows(0, 30), path, row_group_size=10, compression="none")
    about = pq.ParquetFile(path).metadata.row_group(1).column(0)
    damaged = bytearray(path.read_bytes())
    damaged[4 : about.data_page_offset] = bytes(about.data_page_offset - 4)
    path.write_bytes(damaged)
    assert [item.row for item in open_pairs(path).read(20)] == list(range(20, 30))


def test_shards_are_in_numerical_order(tmp_path: Path) -> None:
    source = open_pairs(shards(tmp_path, [1] * 12, 5))
    assert [file.name for file in source.files[8:]] == [f"part-{number}.parquet" for number in (8, 9, 10, 11)]
    (tmp_path / "._part-0.parquet").write_bytes(b"left by a Mac")
    assert len(open_pairs(tmp_path).files) == 12


PEAK = """
import sys, pyarrow
from asif.pairs import open_pairs
count = sum(1 for _ in open_pairs(sys.argv[1]).read(int(sys.argv[2])))
print(count, pyarrow.default_memory_pool().max_memory())
"""


def big(path: Path, rows: int, group: int) -> Path:
    rng = random.Random(0)
    schema = pa.schema([("image", IMAGE), ("text", pa.string())])
    batch = [{"bytes": rng.randbytes(20_000), "path": None} for _ in range(rows)]
    table = pa.table({"image": pa.array(batch, IMAGE), "text": ["a"] * rows}, schema=schema)
    pq.write_table(table, path, row_group_size=group)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "limit"), [(200, 32 << 20), (6000, 72 << 20)], ids=["many row groups", "one row group"]
)
def test_memory_does_not_grow_with_the_file(group: int, limit: int, tmp_path: Path) -> None:
    path = big(tmp_path / "big.parquet", 6000, group)
    assert path.stat().st_size > 120_000_000
    for start in (0, 5990):
        run = [sys.executable, "-c", PEAK, str(path), str(start)]
        count, peak = map(int, subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())
        assert count == 6000 - start
        assert peak < limit


@pytest.mark.realdata
def test_flickr8k() -> None:
    default = ROOT.parent / "shared" / "data"
    path = Path(os.environ.get("ASIF_REALDATA", default)) / "flickr8k" / "train.parquet"
    if not path.is_file():
        pytest.skip(f"no real data: {path}")
    source = open_pairs(path)
    assert source.kind == "parquet (Hugging Face)" and source.rows == 6000
    assert source.columns.by_role() == {"image": "image", "captions": "captions", "id": "id"}
    pairs = [pair for pair in source.read() if isinstance(pair, Pair)]
    assert len(pairs) == 6000 and {len(pair.captions) for pair in pairs} == {5}
    assert all(isinstance(pair.image, bytes) and pair.image[:2] == b"\xff\xd8" for pair in pairs)
    assert len({pair.id for pair in pairs}) == 6000
    assert list(source.read(5555)) == pairs[5555:]
