"""P3: whatever is cut, flipped or misnamed is refused, naming the file and the place."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asif.errors import InputRefused, UsageError
from asif.pairs import Pair, Reject, open_pairs

RNG = random.Random(0)
DATA = [RNG.randbytes(400) for _ in range(30)]


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.parquet"
    image = pa.array(
        [{"bytes": data, "path": None} for data in DATA], pa.struct([("bytes", pa.binary()), ("path", "str")])
    )
    table = pa.table({"image": image, "text": [f"caption {row}" for row in range(30)]})
    pq.write_table(table, path, row_group_size=10, write_page_checksum=True, compression="none")
    return path.read_bytes()


@pytest.fixture(scope="module")
def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for row, data in enumerate(DATA):
            for name, content in ((f"{row}.jpg", data), (f"{row}.txt", b"caption")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]


def refusal(path: Path) -> tuple[int, InputRefused]:
    """Read until refused; return the number of items that came before."""
    items: list[Pair | Reject] = []
    with pytest.raises(InputRefused) as caught:
        items.extend(open_pairs(path).read())
    assert str(path) in caught.value.came and caught.value.exit_code == 3
    assert caught.value.expected and caught.value.fix
    return len(items), caught.value


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


def test_a_file_that_disappears_is_refused(parquet: bytes, tar: bytes, tmp_path: Path) -> None:
    contents = {"a.parquet": parquet, "a.tar": tar, "metadata.csv": b"file_name,text\na.jpg,a\n"}
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        source = open_pairs(path)
        path.unlink()
        with pytest.raises(InputRefused, match=f"{name} cannot be read"):
            list(source.read())


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


def save(path: Path, **arrays: object) -> None:
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", np.asarray(array), allow_pickle=True)


ONES = np.ones((4, 2), np.float32)
PARTS: dict[str, tuple[dict[str, object], str]] = {
    "no texts": ({"img_emb_0": ONES}, "text_emb_*.npy do not go together: parts 0"),
    "no images": ({"text_emb_0": ONES}, "do not go together: parts 0"),
    "other numbers": ({"img_emb_0": ONES, "text_emb_1": ONES}, "do not go together: parts 0, 1"),
    "lengths": ({"img_emb_0": ONES, "text_emb_0": ONES[:3]}, "img_emb_0.npy has 4, text_emb_0.npy has 3"),
    "widths": (
        {"img_emb_0": ONES, "text_emb_0": ONES, "img_emb_1": ONES[:, :1], "text_emb_1": ONES},
        "different widths: [(1, 2), (2, 2)]",
    ),
    "numbers": ({"img_emb_0": ONES.astype(int), "text_emb_0": ONES}, "holds int64 [4, 2]"),
    "one axis": ({"img_emb_0": ONES[0], "text_emb_0": ONES}, "holds float32 [2]"),
    "objects": ({"img_emb_0": np.array([[{}]], object), "text_emb_0": ONES}, "Python objects"),
}


@pytest.mark.parametrize("fault", PARTS)
def test_npy_parts_that_do_not_fit_are_refused(fault: str, tmp_path: Path) -> None:
    arrays, message = PARTS[fault]
    save(tmp_path, **arrays)
    assert message in refusal(tmp_path)[1].came


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04]\x94.", b"\x93NUMPY\x01\x00", None], ids=["0", "pickle", "head", "cut"]
)
def test_damaged_npy_is_named(content: bytes | None, tmp_path: Path) -> None:
    save(tmp_path, img_emb_0=ONES, text_emb_0=ONES)
    path = tmp_path / "text_emb_0.npy"
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    assert f"{path} cannot be read" in refusal(tmp_path)[1].came


def test_metadata_of_another_length_is_refused(tmp_path: Path) -> None:
    save(tmp_path, img_emb_0=ONES, text_emb_0=ONES)
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "metadata_0.parquet")
    assert "metadata_0.parquet has 1" in refusal(tmp_path)[1].came


def test_metadata_of_another_kind_is_refused(tmp_path: Path) -> None:
    save(tmp_path, img_emb_0=ONES, text_emb_0=ONES, img_emb_1=ONES, text_emb_1=ONES)
    for number, name in enumerate(["caption", "title"]):
        pq.write_table(pa.table({name: ["a"] * 4}), tmp_path / f"metadata_{number}.parquet")
    with pytest.raises(InputRefused, match=r"metadata_1\.parquet has no column 'caption'"):
        open_pairs(tmp_path)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty (0 bytes)"), (b"\xef\xbb\xbf", "no columns"), (b"\n", "no columns")]
)
def test_empty_tables_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path)[1].came


def test_a_column_that_occurs_twice_is_not_taken(tmp_path: Path) -> None:
    twice = pa.table([pa.array([b"x"]), pa.array(["a"]), pa.array(["b"])], ["image", "text", "text"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert "no column that looks like captions" in refusal(tmp_path / "a.parquet")[1].came
    (tmp_path / "metadata.csv").write_text("file_name,text,text\na.jpg,a,b\n")
    assert "text (other)" in refusal(tmp_path / "metadata.csv")[1].came


def test_unknown_and_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_pairs(tmp_path / "gone.parquet")
    assert "holds no file that is known" in refusal(tmp_path)[1].came
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "is a .zip file" in refusal(tmp_path / "a.zip")[1].came


@pytest.mark.parametrize("names", [("metadata.csv", "metadata.jsonl"), ("a.tar", "b.parquet")])
def test_a_folder_with_two_kinds_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=f"holds both {names[0]} and {names[1]}"):
        open_pairs(tmp_path)
