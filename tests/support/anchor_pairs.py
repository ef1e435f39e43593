"""Anchor pairs in memory: related sides, texts of a few classes; and the closed-form aligners to fit to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from asif.aligners import Linear
from asif.aligners.linear import cca, procrustes, ridge
from asif.vectors import Embeddings, Float32, Side

LINEAR: list[Linear] = [
    procrustes(),
    ridge(),
    ridge(towards="text", strength=1.0),
    cca(),
    cca(0.01, size=4),
    cca(weight=0),
]
every_aligner = pytest.mark.parametrize("aligner", LINEAR, ids=lambda each: f"{each.name}-{each.parameters}")


class Pairs:
    """Anchor pairs in memory, cut into blocks."""

    def __init__(self, image: Float32, text: Float32, cut: int = 7, captions: Sequence[tuple[str, ...]] = ()) -> None:
        self.captions = captions
        self.sides: dict[Side, Float32] = {"image": image, "text": text}
        self.cut = cut
        self.count = len(image)

    def blocks(self, side: Side) -> Sequence[NDArray[Any]]:
        rows = self.sides[side]
        return [rows[start : start + self.cut] for start in range(0, self.count, self.cut)]

    def mean(self, side: Side) -> NDArray[np.float64]:
        return self.sides[side].mean(axis=0, dtype=np.float64)

    def read_captions(self) -> Sequence[tuple[str, ...]]:
        return self.captions


def unit(rows: Any) -> Float32:
    made = np.asarray(rows, np.float64)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def related(count: int, seed: int = 0, noise: float = 0.3, dims: tuple[int, int] = (12, 9)) -> Pairs:
    """Make pairs whose sides share five latent directions."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((count, 5))
    mixes = [np.random.default_rng(50 + dim).standard_normal((5, dim)) for dim in dims]
    return Pairs(*(unit(latent @ mix + noise * rng.standard_normal((count, mix.shape[1])) + 0.5) for mix in mixes))


def queries(side: Side, count: int = 6, seed: int = 9) -> Embeddings:
    return Embeddings(related(count, seed).sides[side])


def labelled(count: int, classes: int, seed: int = 0) -> Pairs:
    """Make pairs whose texts are those of a few classes."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, classes, count)
    centres, words = rng.standard_normal((classes, 16)), unit(rng.standard_normal((classes, 9)))
    return Pairs(unit(centres[of] + 0.8 * rng.standard_normal((count, 16))), words[of])
