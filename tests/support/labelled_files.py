"""Labelled images for tests, in every layout that can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from support.pair_files import IMAGE, files, pixels, tar

from asif.pairs import LabelledImages, Pair

IMAGES = [{"bytes": b"first", "path": None}, {"bytes": b"second", "path": None}, {"bytes": b"third", "path": None}]


def labelled(path: Path, label: Any, names: list[str] | None = None, column: str = "label") -> Path:
    """Write a labelled parquet as datasets does, with names in its metadata."""
    written = pa.table({"image": pa.array(IMAGES[: len(label)], IMAGE), column: label})
    if names is not None:
        features = {column: {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        written = written.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(written, path / "a.parquet")
    return path / "a.parquet"


def benchmark(path: Path, kind: str | None = None, shards: str = "2", **lists: str) -> Path:
    """Lay a folder out as CLIP_benchmark does: two tars of three samples."""
    (path / "test").mkdir(parents=True)
    (path / "test" / "nshards.txt").write_text(shards)
    for name, content in lists.items():
        (path / f"{name}.txt").write_text(content)
    if kind:
        (path / "dataset_type.txt").write_text(kind + "\n")
    words = (
        {"txt": (b"a dog\nit runs\n", b"a cat\n", b"a dog\n")} if kind == "retrieval" else {"cls": (b"1", b"0", b"1")}
    )
    (ending, (a, b, c)) = next(iter(words.items()))
    first = {"s0.webp": b"first", f"s0.{ending}": a, f"s1.{ending}": b, "s1.jpg": b"second"}
    tar(path / "test" / "0.tar", first)
    tar(path / "test" / "1.tar", {"s2.png": b"third", f"s2.{ending}": c})
    return path


def class_folders(path: Path) -> Path:
    files(path / "dog", a=b"first")
    files(path / "cat", z=b"second")
    files(path / "dog" / "more", b=b"third")
    (path / "dog" / "notes.txt").write_text("not an image")
    files(path / ".hidden", x=b"hidden")
    return path


def metadata(path: Path) -> Path:
    files(path, a=b"first", b=b"second", c=b"third")
    rows = "file_name,class\na.jpg,dog\nb.jpg,cat\nc.jpg,dog\n"
    (path / "metadata.csv").write_text(rows)
    return path


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "texts": lambda path: labelled(path, ["dog", "cat", "dog"]),
    "numbers": lambda path: labelled(path, [1, 0, 1], ["cat", "dog"]),
    "floats": lambda path: labelled(path, [1.0, 0.0, 1.0], ["cat", "dog"]),
    "another column": lambda path: labelled(path, ["dog", "cat", "dog"], column="fine_label"),
    "categories": lambda path: labelled(path, pa.array(["dog", "cat", "dog"]).dictionary_encode()),
    "shards": lambda path: labelled(path, ["dog", "cat", "dog"]).parent,
    "class folders": class_folders,
    "metadata": metadata,
    "CLIP_benchmark": lambda path: benchmark(path, classnames="cat\ndog\n"),
    "tar": lambda path: tar(
        path.parent / "a.tar",
        {"0.jpg": b"first", "0.cls": b"dog", "1.jpg": b"second", "1.cls": b"cat", "2.jpg": b"third", "2.cls": b"dog"},
    ),
}


def found(data: LabelledImages) -> list[tuple[str, str | None]]:
    return [(pixels(item), item.label) for item in data.read() if isinstance(item, Pair)]


def with_vectors(path: Path, width: int = 2, **more: Any) -> Path:
    """Write image vectors with labels."""
    rows = [[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]
    vectors = pa.array([row + [0.0] * (width - 2) for row in rows], pa.list_(pa.float32(), width))
    pq.write_table(pa.table({"image_embedding": vectors, "label": ["dog", "cat", "dog"], **more}), path)
    return path
