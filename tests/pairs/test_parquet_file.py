"""P3: a parquet file that was cut, flipped or misnamed is refused, naming the file and the place."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damaged_pairs import DATA, flip, refusal

from asif.errors import InputRefused
from asif.pairs import open_pairs

FAULTS: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "0 bytes": (lambda good, tar: b"", "is empty (0 bytes)"),
    "2 bytes": (lambda good, tar: b"PA", "is not a parquet file"),
    "only the magic": (lambda good, tar: b"PAR1", "the footer cannot be read"),
    "cut at the footer": (lambda good, tar: good[:-100], "the footer cannot be read: the file is cut off"),
    "cut in the middle": (lambda good, tar: good[: len(good) // 2], "the footer cannot be read: the file is cut off"),
    "cut mid-page, footer kept": (lambda good, tar: good[:5000] + good[-2500:], "cannot be read"),
    "wrong magic": (lambda good, tar: b"PARX" + good[4:], "it starts with b'PARX"),
    "footer length": (lambda good, tar: flip(good, len(good) - 6), "the footer cannot be read"),
    "a tar named .parquet": (lambda good, tar: tar, "a tar archive"),
    "a CSV named .parquet": (lambda good, tar: b"image,text\na.jpg,a dog\n", "it starts with b'image,te'"),
    "flipped byte in row group 1": (
        lambda good, tar: flip(good, good.index(DATA[15]) + 9),
        "row group 1 of 3 (rows 10 to 19) cannot be read",
    ),
    "flipped byte in row group 2": (
        lambda good, tar: flip(good, good.index(b"caption 25")),
        "row group 2 of 3 (rows 20 to 29) cannot be read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_parquet_is_named(fault: str, parquet: bytes, tar: bytes, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    path = tmp_path / "pairs.parquet"
    path.write_bytes(make(parquet, tar))
    assert message in refusal(path)[1].came


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({b"\x16\x3c\x19\x3c": b"\x16\x3e\x19\x3c"}, "it says 31 rows, its row groups 30"),
        (
            {b"\x16\x3c\x19\x3c": b"\x16\x3e\x19\x3c", b"\x16\x14\x26": b"\x16\x16\x26"},
            "row group 0 of 3 (rows 0 to 10) cannot be read: 1 rows are missing",
        ),
    ],
)
def test_row_counts_that_lie_are_found(edits: dict[bytes, bytes], message: str, parquet: bytes, tmp_path: Path) -> None:
    for right, wrong in edits.items():  # num_rows in the footer's thrift: of the file (30), of row group 0 (10)
        assert right in parquet
        parquet = parquet.replace(right, wrong, 1)
    path = tmp_path / "pairs.parquet"
    path.write_bytes(parquet)
    assert message in refusal(path)[1].came


def test_a_fault_is_found_only_where_it_lies(parquet: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    path.write_bytes(flip(parquet, parquet.index(DATA[15])))
    assert [item.row for item in open_pairs(path).read(20)] == list(range(20, 30))
    source = open_pairs(path).read()
    assert [next(source).row for _ in range(10)] == list(range(10))
    with pytest.raises(InputRefused):
        next(source)


def test_random_damage_leaks_no_other_error(parquet: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    path.write_bytes(parquet)
    whole = list(open_pairs(path).read())
    rng, refused = random.Random(1), 0
    for _ in range(150):
        at = rng.randrange(len(parquet))
        path.write_bytes(rng.choice([flip(parquet, at), parquet[:at], parquet[:at] + parquet[at + 50 :]]))
        try:
            assert list(open_pairs(path).read()) == whole  # with checksums: refused, or not touched
        except InputRefused:
            refused += 1
    assert refused > 100


def test_a_damaged_shard_is_named(parquet: bytes, tmp_path: Path) -> None:
    (tmp_path / "a-0.parquet").write_bytes(parquet)
    (tmp_path / "a-1.parquet").write_bytes(flip(parquet, parquet.index(DATA[5])))
    with pytest.raises(InputRefused) as caught:
        list(open_pairs(tmp_path).read())
    assert f"{tmp_path / 'a-1.parquet'}: row group 0 of 3" in caught.value.came
    (tmp_path / "a-1.parquet").write_bytes(parquet[:-9])
    with pytest.raises(InputRefused, match=r"a-1\.parquet: the footer"):
        open_pairs(tmp_path)


def test_a_shard_without_the_columns_is_named(parquet: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet)
    for table in (pa.table({"image": [b"x"], "title": ["a"]}), pa.table({"image": [b"x"], "text": [True]})):
        pq.write_table(table, tmp_path / "b.parquet")
        with pytest.raises(InputRefused, match=r"b\.parquet has no column 'text' that can be used as captions"):
            open_pairs(tmp_path)


def test_a_file_that_changes_is_refused(parquet: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    path.write_bytes(parquet)
    source = open_pairs(path)
    pq.write_table(pa.table({"image": [b"x"], "text": ["a"]}), path)
    with pytest.raises(InputRefused, match="had 30 rows and now has 1"):
        list(source.read())
