"""Anchor sets made of numbers, and encoders that hash what they are given: engines without models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support.anchorset_sets import pairs

from asif.anchorset import AnchorSet, EncoderInfo, Store
from asif.engine import build_anchors
from asif.errors import BadImage
from asif.vectors import Embeddings, Fingerprint, Float32

IMAGE_DIM, TEXT_DIM = 12, 5


@dataclass
class Fake:
    """An encoder of bytes or texts whose vectors depend on its fingerprint; bytes that begin with `bad` are refused."""

    dim: int
    spec: str
    fields: Mapping[str, Any] = field(default_factory=lambda: {"model": "fake"})
    batch: int = 4

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.fields)

    def prepare(self, source: bytes | Path | str) -> bytes:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        if content.startswith(b"bad"):
            raise BadImage("a bad image", "a good one", "leave it out")
        return content

    def forward(self, inputs: Sequence[bytes | str]) -> Float32:
        contents = [one.encode() if isinstance(one, str) else one for one in inputs]
        salt = self.fingerprint.digest.encode()
        drawn = b"".join(hashlib.shake_256(salt + content).digest(2 * self.dim) for content in contents)
        return np.frombuffer(drawn, "<i2").reshape(-1, self.dim).astype(np.float32)


def fake_image(**fields: Any) -> Fake:
    return Fake(IMAGE_DIM, "timm:fake", {"model": "fake", **fields})


def fake_text(**fields: Any) -> Fake:
    return Fake(TEXT_DIM, "sentence-transformers:fake", {"model": "fake", **fields})


def make_set(
    home: Path,
    name: str = "toy",
    image: Any = None,
    text: Any = None,
    count: int = 20,
    seed: int = 0,
    texts: Any = None,
) -> AnchorSet:
    """Publish random anchors as if these encoders had made them; `texts` are the vectors of one side."""
    image, text = image or fake_image(), text or fake_text()
    random = np.random.default_rng(seed)
    vectors = [Embeddings.from_raw(random.standard_normal((count, side.dim))).values for side in (image, text)]
    if texts is not None:
        vectors[1] = Embeddings.from_raw(texts).values
    with Store(home).journal(name, {"dtype": "float16", "seed": seed}) as journal:
        journal.append(pairs(count, start=1000 * seed), *vectors, [], count)
        return journal.publish(
            image=EncoderInfo(image.spec, image.fingerprint),
            text=EncoderInfo(text.spec, text.fingerprint),
            dtype="float16",
            captions="mean",
            operation={"kind": "build", "source": "test"},
            asif_version="0.0.test",
            dedup="keep",
        )


def make_precomputed(folder: Path, home: Path, name: str = "vectors", count: int = 20) -> AnchorSet:
    """Build a set of precomputed vectors from .npy parts."""
    folder.mkdir()
    random = np.random.default_rng(7)
    for side, dim in (("img", IMAGE_DIM), ("text", TEXT_DIM)):
        np.save(folder / f"{side}_emb_0.npy", random.standard_normal((count, dim)).astype(np.float32))
    return build_anchors(folder, name, home=home).anchors
