"""Files of pairs for tests, in every layout that can be read."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asif.pairs import Pair, Reject

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


EMBEDDED = pa.array([{"bytes": b"first", "path": "a.jpg"}, {"bytes": b"second", "path": None}], IMAGE)


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


def tar_members(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    """Write a tar of (name, data), which may repeat a name, and of bare headers."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
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
