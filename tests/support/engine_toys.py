"""Small anchors in memory, and a text encoder that hashes: for tests that need numbers but no model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.vectors import Embeddings, Float32, Side

DIMS: dict[Side, int] = {"image": 12, "text": 5}


class Toy:
    """Anchors in memory, cut into blocks."""

    def __init__(self, image: Any, text: Any, dtype: Any = np.float32, cut: int = 1000) -> None:
        self.sides = {"image": np.asarray(image, dtype), "text": np.asarray(text, dtype)}
        self.cut = cut
        self.count = len(self.sides["image"])

    def blocks(self, side: Side) -> list[NDArray[Any]]:
        rows = self.sides[side]
        return [rows[start : start + self.cut] for start in range(0, len(rows), self.cut)]

    def mean(self, side: Side) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self.sides[side].astype(np.float64).mean(axis=0)
        return mean


def unit(count: int, dim: int, seed: int, shift: float = 0.0) -> Float32:
    """Return random unit rows, around a common direction where `shift` is not 0."""
    return Embeddings.from_raw(np.random.default_rng(seed).standard_normal((count, dim)) + shift).values


def toy(count: int, dtype: Any = np.float32, cut: int = 1000, shift: float = 0.0) -> Toy:
    return Toy(unit(count, DIMS["image"], 1, shift), unit(count, DIMS["text"], 2, shift), dtype, cut)


def queries(side: Side, count: int = 9, shift: float = 0.0) -> Embeddings:
    return Embeddings(unit(count, DIMS[side], 3, shift))


def hashed(texts: Sequence[str], dim: int = DIMS["text"]) -> Embeddings:
    """Encode texts to unit rows that depend on each text alone."""
    drawn = b"".join(hashlib.shake_256(text.encode()).digest(2 * dim) for text in texts)
    return Embeddings.from_raw(np.frombuffer(drawn, "<i2").reshape(-1, dim).astype(np.float64))
