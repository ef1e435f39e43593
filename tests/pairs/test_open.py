"""Each kind of input: what it is taken for, which columns are found, what is read."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asif.errors import InputRefused, UsageError
from asif.pairs import Columns, Pair, PairRecord, Reject, open_pairs, read_records, write_records
from asif.pairs.columns import find_columns

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
EMBEDDED = pa.array([{"bytes": b"first", "path": "a.jpg"}, {"bytes": b"second", "path": None}], IMAGE)
TWO = [("first", ("a dog",)), ("second", ("a cat",))]


def table(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def files(folder: Path, **data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in data.items():
        (folder / f"{name}.jpg").write_bytes(content)


def pixels(pair: Pair | Reject) -> str:
    assert isinstance(pair, Pair), pair
    assert pair.image is not None
    return (pair.image.read_bytes() if isinstance(pair.image, Path) else pair.image).decode()


def hugging_face(path: Path) -> Path:
    return table(path / "a.parquet", image=EMBEDDED, text=["a dog", "a cat"])


def hugging_face_folder(path: Path) -> Path:
    for shard, (data, text) in enumerate([(b"first", "a dog"), (b"second", "a cat")]):
        image = pa.array([{"bytes": data, "path": None}], IMAGE)
        table(path / f"data/train-{shard:05}-of-00002.parquet", image=image, caption=[text])
    return path


def hugging_face_paths(path: Path) -> Path:
    files(path / "images", a=b"first", b=b"second")
    cells = [{"bytes": None, "path": f"images/{name}.jpg"} for name in "ab"]
    return table(path / "a.parquet", image=pa.array(cells, IMAGE), sentences=[["a dog"], ["a cat"]])


def binary(path: Path) -> Path:
    return table(path / "a.pq", picture=pa.array([b"first", b"second"], pa.large_binary()), TEXT=["a dog", "a cat"])


def dictionaries(path: Path) -> Path:
    return table(
        path / "a.parquet", img=[b"first", b"second"], alt_text=pa.array(["a dog", "a cat"]).dictionary_encode()
    )


def img2dataset(path: Path) -> Path:
    for shard, (data, text) in enumerate([(b"first", "a dog"), (b"second", "a cat")]):
        table(path / f"{shard:05}.parquet", jpg=[data], caption=[text], status=["success"], key=[f"{shard}"], url=["u"])
    return path


def image_paths(path: Path) -> Path:
    files(path / "images", a=b"first", b=b"second")
    absolute = str(path.absolute() / "images/b.jpg")
    return table(path / "a.parquet", image_path=["images/a.jpg", absolute], title=["a dog", "a cat"])


def metadata_csv(path: Path) -> Path:
    files(path, a=b"first", b=b"second")
    with (path / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "text"], ["a.jpg", "a dog"], ["b.jpg", "a cat"]])
    return path


def metadata_jsonl(path: Path) -> Path:
    files(path, a=b"first", b=b"second")
    lines = [
        json.dumps({"file_name": f"{name}.jpg", "captions": [text]})
        for name, text in zip("ab", ("a dog", "a cat"), strict=True)
    ]
    (path / "metadata.jsonl").write_text("\n\n".join(lines))
    return path


def tar_texts(path: Path) -> Path:
    return tar(path / "a.tar", {"1.jpg": b"first", "1.txt": b"a dog\n", "2.png": b"second", "2.txt": b"a cat"})


def tar_folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    for shard, (data, text) in enumerate([(b"first", "a dog"), (b"second", "a cat")]):
        fields = {"caption": text, "key": f"{shard}", "url": "u"}
        tar(path / f"{shard:05}.tar", {f"x/{shard}.jpg": data, f"x/{shard}.json": json.dumps(fields).encode()})
        table(path / f"{shard:05}.parquet", caption=[text], key=[f"{shard}"], url=["u"])
    return path


KINDS = {
    hugging_face: ("parquet (Hugging Face)", {"image": "image", "captions": "text"}),
    hugging_face_folder: ("parquet (Hugging Face)", {"image": "image", "captions": "caption"}),
    hugging_face_paths: ("parquet (Hugging Face)", {"image": "image", "captions": "sentences"}),
    binary: ("parquet with image bytes", {"image": "picture", "captions": "TEXT"}),
    dictionaries: ("parquet with image bytes", {"image": "img", "captions": "alt_text"}),
    img2dataset: (
        "parquet (img2dataset)",
        {"image": "jpg", "captions": "caption", "id": "key", "url": "url", "status": "status"},
    ),
    image_paths: ("parquet with image paths", {"image": "image_path", "captions": "title"}),
    metadata_csv: ("folder with metadata.csv", {"image": "file_name", "captions": "text"}),
    metadata_jsonl: ("folder with metadata.jsonl", {"image": "file_name", "captions": "captions"}),
    tar_texts: ("webdataset (tar)", {"image": "image", "captions": "txt", "id": "__key__"}),
    tar_folder: ("webdataset (tar)", {"image": "image", "captions": "caption", "id": "key", "url": "url"}),
}


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_every_kind_of_input_gives_the_same_two_pairs(make: Any, tmp_path: Path) -> None:
    source = open_pairs(make(tmp_path))
    kind, columns = KINDS[make]
    assert source.kind == kind
    assert source.columns.named() == columns
    pairs = list(source.read())
    assert [(pixels(pair), pair.captions) for pair in pairs] == TWO
    assert [pair.row for pair in pairs] == [0, 1] and source.rows == 2
    assert [pair.row for pair in source.read(1)] == [1] and list(source.read(2)) == []
    assert source.bytes == sum(file.stat().st_size for file in source.files)
    assert source.dims is None


def vector_table(path: Path, kind: Any = None, **more: Any) -> Path:
    kind = kind or pa.list_(pa.float32(), 2)
    text = pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.float64()))
    image = pa.array([[np.float16(1), np.float16(2)], [np.float16(3), np.float16(4)]], pa.list_(pa.float16()))
    image = image if pa.types.is_list(kind) else pa.array([[1.0, 2.0], [3.0, 4.0]], kind)
    return table(path / "v.parquet", image_embedding=image, text_embedding=text, **more)


def vector_parts(path: Path, nested: bool, metadata: bool) -> Path:
    for number, rows in ((2, [[1.0, 2.0]]), (10, [[3.0, 4.0]])):
        for name, width in (("img_emb", 2), ("text_emb", 3)):
            folder = path / name if nested else path
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{name}_{number}.npy", np.array(rows * 1, np.float16)[:, [0, 1, 1][:width]])
        if metadata:
            folder = path / "metadata" if nested else path
            table(folder / f"metadata_{number}.parquet", caption=[f"caption {number}"], key=[f"k{number}"])
    return path


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


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("metadata", [True, False])
def test_npy_parts_are_joined_in_numerical_order(nested: bool, metadata: bool, tmp_path: Path) -> None:
    source = open_pairs(vector_parts(tmp_path, nested, metadata))
    assert (source.kind, source.dims, source.rows) == ("precomputed vectors (.npy)", (2, 3), 2)
    pairs = list(source.read())
    assert [pair.image_embedding.tolist() for pair in pairs] == [[1, 2], [3, 4]]
    assert [pair.text_embedding.tolist() for pair in pairs] == [[1, 2, 2], [3, 4, 4]]
    expected = [("k2", "caption 2"), ("k10", "caption 10")] if metadata else [(None, "row 0"), (None, "row 1")]
    assert [(pair.id, *pair.captions) for pair in pairs] == expected
    assert [(pair.row, pair.captions) for pair in source.read(1)] == [(1, pairs[1].captions)]


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
    assert find_columns(shapes, {}, "a").named() == expected  # type: ignore[arg-type]


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
