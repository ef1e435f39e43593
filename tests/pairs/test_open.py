"""Each kind of input: what it is taken for, which columns are found, what is read, and what is no input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damaged_pairs import refusal
from support.pair_files import EMBEDDED, KINDS, pixels, table, vector_table

from asif.errors import InputRefused, UsageError
from asif.pairs import Columns, Pair, PairRecord, open_pairs, read_records, write_records
from asif.pairs.columns import find_columns

TWO = [("first", ("a dog",)), ("second", ("a cat",))]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_every_kind_of_input_gives_the_same_two_pairs(make: Any, tmp_path: Path) -> None:
    source = open_pairs(make(tmp_path))
    kind, columns = KINDS[make]
    assert source.kind == kind
    assert source.columns.by_role() == columns
    pairs = list(source.read())
    assert [(pixels(pair), pair.captions) for pair in pairs] == TWO
    assert [pair.row for pair in pairs] == [0, 1] and source.rows == 2
    assert [pair.row for pair in source.read(1)] == [1] and list(source.read(2)) == []
    assert source.bytes == sum(file.stat().st_size for file in source.files)
    assert source.dims is None


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32(), 2), pa.list_(pa.float16()), pa.list_(pa.float64(), 2)], ids=str
)
def test_vectors_in_parquet(kind: Any, tmp_path: Path) -> None:
    source = open_pairs(vector_table(tmp_path, kind, caption=["a", "b"], key=[7, 8]))
    assert (source.kind, source.dims, source.rows) == ("precomputed vectors (parquet)", (2, 3), 2)
    pairs = list(source.read())
    assert [(pair.id, pair.image, pair.captions) for pair in pairs] == [("7", None, ("a",)), ("8", None, ("b",))]
    assert [pair.image_embedding.tolist() for pair in pairs] == [[1, 2], [3, 4]]
    assert [pair.text_embedding.tolist() for pair in pairs] == [[1, 2, 3], [4, 5, 6]]
    assert pairs[0].image_embedding.dtype == kind.value_type.to_pandas_dtype()


def test_captions_of_bare_vectors_are_ids_or_rows(tmp_path: Path) -> None:
    pairs = list(open_pairs(vector_table(tmp_path, id=["x", None])).read())
    assert [pair.captions for pair in pairs] == [("x",), ("row 1",)]


def test_images_beside_vectors_are_read_only_when_named(tmp_path: Path) -> None:
    path = vector_table(tmp_path, image=EMBEDDED, text=["a dog", "a cat"])
    source = open_pairs(path)
    assert source.columns.image is None and "not read: image" in source.describe()
    named = open_pairs(path, columns={"image": "image"})
    assert named.dims is None and [(pixels(pair), pair.captions) for pair in named.read()] == TWO


DETECTION: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "lists of captions first": (
        {"image": "image", "title": "text", "caption": "text", "captions": "texts"},
        {"image": "image", "captions": "captions"},
    ),
    "Karpathy": (
        {"filepath": "text", "sentids": "other", "filename": "text", "sentences": "texts", "imgid": "number"},
        {"image": "filepath", "captions": "sentences", "id": "imgid"},
    ),
    "case": ({"IMAGE": "bytes", "Text": "text", "URL": "text"}, {"image": "IMAGE", "captions": "Text", "url": "URL"}),
    "pixels before paths": (
        {"image": "text", "jpg": "bytes", "text": "text"},
        {"image": "jpg", "captions": "text"},
    ),
    "struct by shape": (
        {"scan": "image", "file_name": "text", "text": "text"},
        {"image": "scan", "captions": "text"},
    ),
    "paths before unnamed binary": (
        {"phash": "bytes", "file_name": "text", "text": "text"},
        {"image": "file_name", "captions": "text"},
    ),
    "the only binary": ({"data": "bytes", "text": "text"}, {"image": "data", "captions": "text"}),
    "binary caption is no image": ({"img": "bytes", "caption": "bytes"}, {"image": "img", "captions": "caption"}),
    "licence": (
        {"image": "image", "text": "text", "license": "text", "dataset": "text"},
        {"image": "image", "captions": "text", "licence": "license", "source": "dataset"},
    ),
    "status without key": ({"jpg": "bytes", "text": "text", "status": "text"}, {"image": "jpg", "captions": "text"}),
    "one embedding is none": (
        {"image": "image", "text": "text", "image_embedding": "vector"},
        {"image": "image", "captions": "text"},
    ),
    "status": (
        {"png": "bytes", "caption": "text", "status": "text", "url": "text"},
        {"image": "png", "captions": "caption", "status": "status", "url": "url"},
    ),
}


@pytest.mark.parametrize("case", DETECTION)
def test_columns_are_found(case: str) -> None:
    shapes, expected = DETECTION[case]
    assert find_columns(shapes, {}, "a").by_role() == expected  # type: ignore[arg-type]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=EMBEDDED, photo=[b"p", b"q"], text=["t", "u"], note=["n", "o"])
    source = open_pairs(path, columns={"image": "photo", "captions": "note", "source": "text"})
    assert source.columns == Columns(image="photo", captions="note", source="text")
    assert list(source.read()) == [Pair(0, None, b"p", ("n",), source="t"), Pair(1, None, b"q", ("o",), source="u")]
    assert source.unused == ("image",)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"picture": "image"}, "unknown role 'picture'"),
        ({"image": "foto"}, "image (image), text (text), n (number), v (vector)"),
        ({"image": "n"}, "column 'n' of"),
        ({"captions": "image"}, "holds image"),
        ({"image_embedding": "v"}, "vectors for one side only"),
        ({"image_embedding": "v", "text_embedding": "v", "image": "image"}, "name one of the two"),
    ],
)
def test_a_choice_that_cannot_be_followed_is_a_usage_error(
    chosen: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = table(tmp_path / "a.parquet", image=EMBEDDED, text=["t", "u"], n=[1, 2], v=[[1.0], [2.0]])
    with pytest.raises(UsageError) as caught:
        open_pairs(path, columns=chosen)
    assert message in str(caught.value)


def test_describe_says_what_will_be_read(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=EMBEDDED, caption=["a", "b"], title=["c", "d"], width=[1, 2])
    assert open_pairs(path).describe().splitlines() == [
        f"{path}: parquet (Hugging Face)",
        f"  2 rows, {path.stat().st_size:,} bytes in 1 file",
        "  image: image",
        "  captions: caption",
        "  not read: title, width",
    ]


def test_identity_changes_with_the_file_and_the_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=EMBEDDED, caption=["a", "b"], title=["c", "d"])
    first = open_pairs(path).identity
    assert open_pairs(path).identity == first and len(first) == 64
    assert open_pairs(path, columns={"captions": "title"}).identity != first
    os.utime(path, ns=(0, 0))
    touched = open_pairs(path).identity
    assert touched != first
    table(path, image=EMBEDDED, caption=["a", "b"], title=["c", "dd"])
    os.utime(path, ns=(0, 0))
    assert open_pairs(path).identity != touched


def test_zero_rows_open(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", image=EMBEDDED[:0], caption=pa.array([], pa.string()))
    assert open_pairs(path).rows == 0 and list(open_pairs(path).read()) == []
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    assert open_pairs(tmp_path / "metadata.csv").rows == 0


def test_records_come_back_and_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    records = [PairRecord("1", ("a", "b"), "0" * 64, "s", None, "u"), PairRecord("2", ("c 🐕",), "1" * 64)]
    for name in "ab":
        write_records(tmp_path / name, records)
    assert read_records(tmp_path / "a") == records
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_source_with_only_urls_points_to_img2dataset(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", url=["https://x/a.jpg"], caption=["a"])
    with pytest.raises(InputRefused) as caught:
        open_pairs(path)
    assert "only URLs" in caught.value.came and "img2dataset" in caught.value.fix


def test_a_column_that_occurs_twice_is_not_taken(tmp_path: Path) -> None:
    twice = pa.table([pa.array([b"x"]), pa.array(["a"]), pa.array(["b"])], ["image", "text", "text"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert "no column that looks like captions" in refusal(tmp_path / "a.parquet")[1].came
    (tmp_path / "metadata.csv").write_text("file_name,text,text\na.jpg,a,b\n")
    assert "text (repeated)" in refusal(tmp_path / "metadata.csv")[1].came


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


def test_a_file_that_disappears_is_refused(parquet: bytes, tar: bytes, tmp_path: Path) -> None:
    contents = {"a.parquet": parquet, "a.tar": tar, "metadata.csv": b"file_name,text\na.jpg,a\n"}
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        source = open_pairs(path)
        path.unlink()
        with pytest.raises(InputRefused, match=f"{name} cannot be read"):
            list(source.read())


def test_importing_the_room_does_not_import_pyarrow() -> None:
    code = "import sys, asif.pairs; print(sorted({'pyarrow', 'PIL', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
