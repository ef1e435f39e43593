"""What bench/search.py searches: real anchors and a real gallery, and galleries of made-up vectors near real ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import realdata

from asif import Gallery
from asif.anchorset import AnchorSet, EncoderInfo, Store
from asif.anchorset.format.kinds import GALLERY
from asif.engine import build_anchors, build_gallery
from asif.pairs.item import ItemRecord
from asif.vectors import Float32, gather_rows, normalise_rows

ANCHORS, DEV = "flickr", "dev"
SHARES = {"rare": 0.001, "few": 0.016, "half": 0.5}  # of the items that have a label
_SEGMENT = 8192


def prepare_home(home: Path) -> None:
    """Build the anchors of Flickr8k train and the gallery of Flickr8k dev unless they exist (about three minutes)."""
    home.mkdir(parents=True, exist_ok=True)
    folder = realdata() / "flickr8k"
    if not has_set(Store(home), ANCHORS):
        build_anchors(folder / "train.parquet", ANCHORS, home=home)
    if not has_set(Store(home, GALLERY), DEV):
        build_gallery(folder / "dev.parquet", DEV, anchors=ANCHORS, dtype="float32", home=home)


def has_set(store: Store, name: str) -> bool:
    return name in {entry.name for entry in store.sets()}


def read_dev_captions() -> tuple[list[str], list[str]]:
    """Read the captions of Flickr8k dev, and the id of the image that each belongs to."""
    table = pq.read_table(realdata() / "flickr8k" / "dev.parquet", columns=["id", "captions"]).to_pylist()
    pairs = [(text, row["id"]) for row in table for text in row["captions"]]
    return [text for text, _ in pairs], [owner for _, owner in pairs]


def read_dev_images() -> list[tuple[str, bytes]]:
    """Read the ids and the image files of Flickr8k dev."""
    table = pq.read_table(realdata() / "flickr8k" / "dev.parquet", columns=["id", "image"]).to_pylist()
    return [(row["id"], row["image"]["bytes"]) for row in table]


def name_gallery(rows: int) -> str:
    return f"synthetic-{rows}"


def make_gallery(home: Path, rows: int) -> Gallery:
    """Open the gallery of `rows` made-up items; makes it if it does not exist."""
    name, store = name_gallery(rows), Store(home, GALLERY)
    if not has_set(store, name):
        with Store(home).open(ANCHORS) as anchors:
            _publish(store, name, rows, anchors)
    return Gallery(name, home=home)


def _publish(store: Store, name: str, rows: int, anchors: AnchorSet) -> None:
    real = gather_rows(anchors.blocks("image"), np.arange(anchors.count)).astype(np.float32)
    encoder = EncoderInfo(anchors.encoder_spec("image"), anchors.fingerprint("image"))
    with store.journal(name, {"dtype": "float16", "rows": rows}) as journal:
        for start in range(journal.next_row, rows, _SEGMENT):
            stop = min(start + _SEGMENT, rows)
            journal.append_sides(make_records(start, stop), {"image": make_vectors(real, start, stop)}, [], stop)
        journal.publish_items({"image": encoder}, {"kind": "build", "input": "synthetic"}, {"sources": []})


def make_vectors(real: Float32, start: int, stop: int) -> Float32:
    """Make unit vectors: each between two real ones [n, d], with noise a third as long as those."""
    rng = np.random.default_rng(start)
    first, second = rng.integers(len(real), size=(2, stop - start))
    share = rng.uniform(0.1, 0.9, (stop - start, 1)).astype(np.float32)
    noise = rng.standard_normal((stop - start, real.shape[1]), np.float32) / np.float32(3 * real.shape[1] ** 0.5)
    return normalise_rows(share * real[first] + (1 - share) * real[second] + noise)


def make_records(start: int, stop: int) -> list[ItemRecord]:
    return [
        ItemRecord(
            name_item(row),
            (),
            hashlib.sha256(b"%d" % row).hexdigest(),
            "synthetic",
            None,
            None,
            uri=f"/photos/{row:09d}.jpg",
            label=label,
        )
        for row, label in zip(range(start, stop), choose_labels(start, stop), strict=True)
    ]


def name_item(row: int) -> str:
    return f"{row:09d}"


def choose_labels(start: int, stop: int) -> list[str | None]:
    """Give each row a label by chance, with the probabilities SHARES, or none."""
    drawn = np.random.default_rng([1, start]).random(stop - start)
    bounds = np.cumsum(list(SHARES.values()))
    names = [*SHARES, None]
    return [names[place] for place in np.searchsorted(bounds, drawn, side="right")]


def list_labels(rows: int) -> list[str | None]:
    """List the labels of all rows of a made-up gallery."""
    starts = range(0, rows, _SEGMENT)
    return [label for start in starts for label in choose_labels(start, min(start + _SEGMENT, rows))]
