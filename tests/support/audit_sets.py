"""Anchor sets with faults that were planted, and what an audit should find, worked out the obvious way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support.engine_sets import fake_image, fake_text

from asif.anchorset import AnchorSet, EncoderInfo, Store
from asif.pairs import PairRecord
from asif.vectors import Embeddings, Float32

NEAR = 0.97
DIMS = 128, 96
LEAN = 3.0


@dataclass
class Planted:
    """Pairs of an image and a caption about the same point of a plane, and the faults among them, by id."""

    records: list[PairRecord] = field(default_factory=list)
    image: list[Any] = field(default_factory=list)
    text: list[Any] = field(default_factory=list)
    ids: dict[str, list[str]] = field(default_factory=dict)

    def add(self, image: Any, text: Any, kind: str = "good", **fields: Any) -> PairRecord:
        """Add a pair; its id, image and caption are its own unless they are given."""
        at = len(self.records)
        record = PairRecord(
            **{
                "id": f"p{at:04d}",
                "captions": (f"caption {at}",),
                "image_sha256": sha256(f"image {at}"),
                "source": ["web", "book", None][at % 3],
                "licence": "CC0-1.0" if at % 2 else None,
                **fields,
            }
        )
        self.records.append(record)
        self.image.append(np.asarray(image, float))
        self.text.append(np.asarray(text, float))
        self.ids.setdefault(kind, []).append(record.id)
        return record

    def build(self, home: Path, name: str = "planted", captions: str = "mean", cut: int = 97) -> AnchorSet:
        """Publish the pairs as an anchor set, some rows at a time."""
        image, text = (Embeddings.from_raw(np.stack(side)).values for side in (self.image, self.text))
        return publish(home, name, self.records, image, text, captions, cut)


def publish(
    home: Path,
    name: str,
    records: Sequence[PairRecord],
    image: Float32,
    text: Float32,
    captions: str = "mean",
    cut: int = 1000,
) -> AnchorSet:
    with Store(home).journal(name, {"dtype": "float32", "cut": cut, "name": name}) as journal:
        for start in range(0, len(records), cut):
            some = slice(start, start + cut)
            journal.append(records[some], image[some], text[some], [], min(start + cut, len(records)))
        return journal.publish(
            image=EncoderInfo(fake_image().spec, fake_image().fingerprint),
            text=EncoderInfo(fake_text().spec, fake_text().fingerprint),
            dtype="float32",
            captions=captions,
            operation={"kind": "build", "source": "test"},
            asif_version="0.0.test",
            dedup="keep",
        )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def planted(count: int = 360, seed: int = 0) -> Planted:
    """Plant every fault once or more among good pairs.

    Images and captions lie about a circle, near angles alike, each with much of its own, and all lean towards one
    direction: a hub lies along it, and against it an anchor that nobody is near to.
    """
    found, random = Planted(), np.random.default_rng(seed)

    def around(angle: float, dim: int) -> Any:
        circle = [np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle), LEAN]
        return np.concatenate([circle, random.standard_normal(dim - 5) * np.sqrt(2 / (dim - 5))])

    def pair(looks: float, reads: float) -> tuple[Any, Any]:
        return around(looks, DIMS[0]), around(reads, DIMS[1])

    for angle in 2 * np.pi * np.arange(count) / count:
        found.add(*pair(angle, angle))
    for angle in (0.4, 1.9, 3.3, 4.6):
        found.add(*pair(angle, angle + np.pi), kind="disagreement")
    first = found.records[10]
    found.add(found.image[10], found.text[10], "same_pair", image_sha256=first.image_sha256, captions=first.captions)
    first = found.records[20]
    found.add(found.image[20], found.text[20] + 0.01, "same_image", image_sha256=first.image_sha256)
    found.add(found.image[30], found.text[30] + 0.01, "same_embedding")
    found.add(found.image[40] + 0.02, found.text[40] + 0.01, "near_image")
    hub = np.eye(DIMS[0])[4]
    found.add(hub, around(1.0, DIMS[1]), "hub")
    found.add(-hub, -np.eye(DIMS[1])[4], "never_used")
    for angle in (0.1, 2.2, 4.3):
        found.add(*pair(angle, angle), kind="shared_caption", captions=("A photo ",))
    return found


def cosines(anchors: AnchorSet, side: Any) -> Any:
    rows = np.concatenate([np.asarray(block, np.float64) for block in anchors.blocks(side)])
    return rows @ rows.T


def neighbours(similar: Any, row: int, out: set[int], k: int) -> list[int]:
    """Sort everything, leave out what is left out, keep k, and all that are as similar as the k-th."""
    order = [int(at) for at in np.argsort(-similar[row], kind="stable") if at not in out]
    order = [at for at in order if similar[row, at] > 0]
    if len(order) <= k:
        return order
    return [at for at in order if similar[row, at] >= similar[row, order[k - 1]] - 1e-12]
