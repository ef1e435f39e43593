"""The files and anchor sets that the commands in README.md and docs/*.md name, small, made by stand-in encoders."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from support.build_images import encoded, random_png, tiles
from support.pair_files import IMAGE, tar
from support.paths import ROOT

WORDS = ("bolt", "nut", "washer", "screw")
_LICENCES = ("cc-by", "cc0", "mit")
_FEW = 40
"""Pairs of most sets; `parts` has 1,010, as `--pairs 100,1000,all` needs."""


def photo(seed: int) -> bytes:
    return encoded(tiles(seed), "JPEG")


def write_pairs(
    path: Path, rows: Sequence[int], image: str = "image", caption: str = "caption", **columns: Any
) -> None:
    """Write pairs as Hugging Face does; the documents remove the one of row 4711."""
    images = pa.array([{"bytes": random_png(row, 4, 4), "path": None} for row in rows], IMAGE)
    captions = [f"a {WORDS[row % 4]} of {row} mm" for row in rows]
    pq.write_table(pa.table({image: images, caption: captions, **columns}), path)


def write_labelled(path: Path) -> None:
    features = {"label": {"names": list(WORDS), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    images = pa.array([{"bytes": random_png(row, 4, 4), "path": None} for row in range(9000, 9012)], IMAGE)
    written = pa.table({"image": images, "label": [row % 4 for row in range(12)]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(written.replace_schema_metadata(metadata), path)


def write_shard(folder: Path) -> None:
    """Write a webdataset shard with images and texts."""
    folder.mkdir()
    members: dict[str, bytes] = {}
    for row in range(_FEW):
        members |= {f"{row:04}.jpg": photo(row), f"{row:04}.txt": f"picture {row}".encode()}
    tar(folder / "00000.tar", members)


def make_files(folder: Path) -> None:
    """Write every file that a document names into a folder."""
    sources = {
        "pairs.parquet": range(4000, 5010),
        "few.parquet": range(6000, 6000 + _FEW),
        "others.parquet": range(7000, 7000 + _FEW),
        "new.parquet": range(8000, 8010),
    }
    for name, rows in sources.items():
        about = {
            "id": [str(row) for row in rows],
            "source": ["x" if row % 2 else "flickr" for row in rows],
            "license": [_LICENCES[row % 3] for row in rows],
        }
        write_pairs(folder / name, rows, **about)
    write_pairs(folder / "karpathy.parquet", range(8500, 8510))
    write_pairs(folder / "photos.parquet", range(_FEW), "photo", "remark")
    write_labelled(folder / "test.parquet")
    (folder / "sets.toml").write_text(
        'name = "mine"\nabout = "two sets"\n'
        '[[datasets]]\nname = "photos"\npath = "photos"\ntask = "zeroshot_classification"\n'
        '[[datasets]]\nname = "test"\npath = "test.parquet"\ntask = "zeroshot_classification"\nshift-of = "photos"\n'
    )
    for name in ("cc12m", "laion"):
        write_shard(folder / name)
    scans = ("scans/1.jpg", "scans/2.jpg", "other.jpg")
    for name in ("photo.jpg", *scans, "incoming/a.jpg", "incoming/b.jpg", *(f"photos/{word}/a.jpg" for word in WORDS)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(len(name)))
    (folder / "photo.png").write_bytes(random_png(99))
    (folder / "parts.txt").write_text("\n".join(WORDS))
    (folder / "withdrawn.txt").write_text("4711\n4712\n")
    (folder / "my").mkdir()
    (folder / "my" / "recipe.toml").write_text(read_toml("recipes.md"), encoding="utf-8")
    (folder / "serve.toml").write_text(read_toml("serving.md"), encoding="utf-8")


def read_toml(name: str) -> str:
    """Return the first block of TOML that a page of docs/ shows."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return blocks[0]


def make_sets(folder: Path, home: Path) -> None:
    """Build every anchor set and gallery that a document names, with the encoders that are loaded by name."""
    from asif.anchorset import Store
    from asif.engine import build_anchors, build_gallery

    few, others = folder / "few.parquet", folder / "others.parquet"
    sets = {"parts": folder / "pairs.parquet", "toy": folder / "pairs.parquet", "coco": few, "photos": few}
    for name, source in {**sets, "imagenet-head": few, "house": others, "own": others}.items():
        build_anchors(source, name, home=home).anchors.close()
    for name in ("a", "b"):
        build_anchors(few, f"parts-{name}", home=home, image_encoder=f"timm:{name}").anchors.close()
    build_gallery(folder / "photos", "album", home=home).opened.close()
    store = Store(home)
    store.alias("coco", "best", "1")
    for gone in ("7000", "7001"):  # versions 2 and 3
        store.remove("own", ids=[gone]).close()
