"""Encoders that see the number an input begins with, and folders of pairs for them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support.engine_sets import Fake

from asif.vectors import Float32

FOUR = (
    *("--image-encoder", "timm:0.3", "--image-encoder", "timm:3"),
    *("--text-encoder", "sentence-transformers:0.1", "--text-encoder", "sentence-transformers:1", "--k", 5),
)
"""Options of `asif encoders compare` that name four encoders."""


@dataclass
class Meaning(Fake):
    """An encoder that sees the number an input begins with: as a random direction, under more or less noise."""

    noise: float = 0.0
    seen: list[str] = field(default_factory=list)

    def forward(self, inputs: Any) -> Float32:
        words = [one.decode() if isinstance(one, bytes) else one for one in inputs]
        self.seen += words
        return np.stack([self.vector(word) for word in words]).astype(np.float32)

    def vector(self, word: str) -> Any:
        if word.endswith("odd"):
            return np.full(self.dim, np.nan)
        shared = np.random.default_rng(int(word.partition(" ")[0])).standard_normal(3)
        mix = np.random.default_rng(self.dim).standard_normal((3, self.dim))
        own = np.random.default_rng(list(word.encode())).standard_normal(self.dim)
        return shared @ mix + self.noise * own


def write(folder: Path, images: list[str]) -> Path:
    folder.mkdir()
    rows = []
    for at, content in enumerate(images):
        (folder / f"{at}.png").write_text(content)
        rows.append(json.dumps({"file_name": f"{at}.png", "captions": [f"{at} one", f"{at} two"]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return folder


def vectors(folder: Path, image: Any, text: Any) -> Path:
    folder.mkdir()
    np.save(folder / "img_emb_0.npy", np.asarray(image, np.float32))
    np.save(folder / "text_emb_0.npy", np.asarray(text, np.float32))
    return folder
