"""Large columns read value by value: the values that pyarrow reads, damage refused, memory bounded."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pair_files import IMAGE

from asif.errors import InputRefused
from asif.pairs import Pair, Reject, open_pairs
from asif.pairs.parquet_pages import _decode_hybrid

RANDOM = random.Random(3)
CODECS = ("none", "snappy", "zstd", "gzip", "brotli")
CELLS = [None if row % 7 == 3 else RANDOM.randbytes(RANDOM.randrange(1, 60)) for row in range(400)]
REPEATED = [cell and (b"same", b"other", cell)[row % 3] for row, cell in enumerate(CELLS)]
WRITERS: dict[str, dict[str, Any]] = {
    "dictionary": {},
    "plain": {"use_dictionary": False},
    "small pages": {"use_dictionary": False, "data_page_size": 100, "write_batch_size": 7},
    "a dictionary that ends": {"dictionary_pagesize_limit": 300, "write_batch_size": 10},
    "second version": {"data_page_version": "2.0"},
    "second version, plain": {"data_page_version": "2.0", "use_dictionary": False},
    "checksums": {"write_page_checksum": True, "data_page_size": 100, "write_batch_size": 7},
    "required": {"required": True},
    "row groups": {"row_group_size": 90},
}
EDGES = [60, 61, 16_383, 16_384, 65_531, 65_536, 65_537, 131_072, 200_000]
REPEATING = RANDOM.randbytes(29) * 7_000
LARGE = [
    None if row % 5 == 4 else (RANDOM.randbytes(EDGES[row % 9]), REPEATING)[row % 2][: EDGES[row % 9]]
    for row in range(30)
]


def columns(shape: str, cells: list[bytes | None]) -> Any:
    if shape == "image":
        paths = [{"bytes": cell, "path": f"{row}.jpg"} if row % 5 else None for row, cell in enumerate(cells)]
        return pa.array(paths, IMAGE)
    return pa.array(cells, pa.large_binary())


def write(
    path: Path,
    shape: str,
    cells: list[bytes | None],
    required: bool = False,
    compression: str = "none",
    **options: Any,
) -> Path:
    table = pa.table({"image": columns(shape, cells), "caption": [f"{row}" for row in range(len(cells))]})
    if required and shape == "bytes":
        kept = [cell or b"x" for cell in cells]
        schema = pa.schema([pa.field("image", pa.binary(), False), pa.field("caption", pa.string())])
        table = pa.table([kept, table["caption"].to_pylist()], schema=schema)
    pq.write_table(table, path, compression=compression, **options)
    return path


def read(path: Path, start: int = 0) -> list[Pair | Reject]:
    return list(open_pairs(path).read(start))


@pytest.fixture
def value_by_value(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes all columns large, and blocks of snappy too; images are then never read with pyarrow."""

    def apply() -> None:
        monkeypatch.setattr("asif.pairs.parquet_file._LARGE_COLUMN_BYTES", 0)
        monkeypatch.setattr("asif.pairs.snappy._WHOLE_BYTES", 0)
        monkeypatch.setattr("asif.pairs.dictionary_page._HELD_BYTES", 1)
        monkeypatch.setattr("asif.pairs.parquet.read_cell", refuse_images)

    return apply


@pytest.mark.parametrize("shape", ["bytes", "image"])
@pytest.mark.parametrize("cells", [CELLS, REPEATED], ids=["distinct", "repeated"])
@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("codec", ["none", "snappy"])
def test_values_are_those_that_pyarrow_reads(
    codec: str,
    shape: str,
    cells: list[bytes | None],
    options: dict[str, Any],
    tmp_path: Path,
    value_by_value: Callable[[], None],
) -> None:
    path = write(tmp_path / "a.parquet", shape, cells, compression=codec, **options)
    expected, late = read(path), read(path, 123)
    value_by_value()
    assert read(path) == expected and len(expected) == 400
    assert read(path, 123) == late == expected[123:]


@pytest.mark.parametrize("cells", [LARGE, [None] * 30, [b""] * 30], ids=["large", "null", "empty"])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}], ids=str)
@pytest.mark.parametrize("codec", CODECS)
def test_values_of_every_compression_are_those_that_pyarrow_reads(
    codec: str,
    options: dict[str, Any],
    cells: list[bytes | None],
    tmp_path: Path,
    value_by_value: Callable[[], None],
) -> None:
    path = write(tmp_path / "a.parquet", "image", cells, compression=codec, **options)
    expected = read(path)
    value_by_value()
    assert read(path) == expected and len(expected) == 30
    assert read(path, 17) == expected[17:]


def test_another_compression_is_left_to_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", "bytes", CELLS, compression="lz4")
    expected = read(path)
    monkeypatch.setattr("asif.pairs.parquet_file._LARGE_COLUMN_BYTES", 0)
    assert read(path) == expected and len(expected) == 400


def refuse_images(column: Any, row: int) -> Any:
    """Read a cell with pyarrow, which must not have the bytes."""
    cell = column[row].as_py()
    assert not isinstance(cell, bytes) and not (isinstance(cell, dict) and "bytes" in cell)
    return cell


def test_large_texts_are_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = pa.array([b"a.jpg", b"\xff", None], pa.binary())
    names = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    table = pa.table({"image": names, "caption": list("abc"), "id": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none")
    expected = read(tmp_path / "a.parquet")
    monkeypatch.setattr("asif.pairs.parquet_file._LARGE_COLUMN_BYTES", 0)
    assert read(tmp_path / "a.parquet") == expected
    assert [item.reason for item in expected if isinstance(item, Reject)][1:] == [
        "image is not valid UTF-8",
        "image is null",
    ]


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}], ids=str)
@pytest.mark.parametrize("codec", CODECS)
def test_damage_is_refused_or_harmless(
    codec: str, options: dict[str, Any], tmp_path: Path, value_by_value: Callable[[], None]
) -> None:
    path = write(tmp_path / "a.parquet", "bytes", CELLS, compression=codec, **options)
    value_by_value()
    good = path.read_bytes()
    end = pq.ParquetFile(path).metadata.row_group(0).column(0).total_compressed_size
    damage = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        bad = bytearray(good)
        bad[int(damage.integers(4, 200 if damage.integers(2) else end))] ^= int(damage.integers(1, 256))
        path.write_bytes(bad)
        try:
            assert len(read(path)) == 400
        except InputRefused as error:
            refused += "row group 0 of 1" in error.came
    assert refused > 5


def test_a_checksum_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        tmp_path / "a.parquet",
        "bytes",
        [b"first", b"second"],
        write_page_checksum=True,
        use_dictionary=False,
        write_statistics=False,
    )
    monkeypatch.setattr("asif.pairs.parquet_file._LARGE_COLUMN_BYTES", 0)
    path.write_bytes(path.read_bytes().replace(b"second", b"secund", 1))
    with pytest.raises(InputRefused, match="does not have its checksum"):
        read(path)


@pytest.mark.parametrize("width", [0, 1, 3, 8, 17])
def test_runs_and_packed_groups_are_decoded(width: int) -> None:
    numbers = [row * 7919 % (1 << width) for row in range(24)]
    packed = sum(number << (width * at) for at, number in enumerate(numbers)).to_bytes(3 * width, "little")
    run = (5 << 1).to_bytes(1, "little") + (numbers[1]).to_bytes((width + 7) // 8, "little")
    data = run + bytes([(3 << 1) | 1]) + packed
    assert _decode_hybrid(data, width, 29).tolist() == [numbers[1]] * 5 + numbers


READ = (
    "import sys\nfrom asif.pairs import open_pairs\nn = sum(1 for _ in open_pairs(sys.argv[1]).read())\n"
    "print(n, *[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
)


def peak(path: Path) -> tuple[int, int]:
    """Return the rows of a file and the megabytes that reading them took, in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    rows, kilobytes = map(int, ran.stdout.split())
    return rows, kilobytes >> 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("codec", "dictionary"),
    [
        ("none", True),
        ("none", False),
        ("snappy", True),
        ("snappy", False),
        ("zstd", True),
        ("gzip", False),
        ("brotli", False),
    ],
)
def test_memory_does_not_grow_with_a_row_group(codec: str, dictionary: bool, tmp_path: Path) -> None:
    peaks = []
    for rows in (70, 210):
        cells = [
            RANDOM.randbytes((row % 4) << 19) + bytes((2 - row % 4) << 19 if row % 4 < 2 else 0) for row in range(rows)
        ]
        table = pa.table({"image": cells, "caption": ["a"] * rows})
        pq.write_table(table, tmp_path / "a.parquet", compression=codec, use_dictionary=dictionary)
        assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 1
        peaks.append(peak(tmp_path / "a.parquet"))
    assert [rows for rows, _ in peaks] == [70, 210]
    assert peaks[1][1] < 1.2 * peaks[0][1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_long_caption_in_a_dictionary_takes_no_memory_per_row(tmp_path: Path) -> None:
    captions = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), ["a" * (16 << 20)])
    table = pa.table({"image": [b"x"] * 300, "caption": captions})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    rows, megabytes = peak(tmp_path / "a.parquet")
    assert rows == 300 and megabytes < 700
    (reason,) = {item.reason for item in read(tmp_path / "a.parquet") if isinstance(item, Reject)}
    assert reason == "caption has 16,777,216 characters, more than 1,048,576"
