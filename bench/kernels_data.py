"""The rows that the kernel benchmarks search: random rows, and real rows repeated with a little noise."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from common import realdata
from numpy.typing import NDArray

from asif.vectors import Float32

Data = Literal["real", "random"]
Part = Literal["train", "dev"]
NOISE = 0.05  # length of the noise on a repeated row, relative to the row's
CHUNK = 50_000
PROJECTED = 768  # real rows of this many dimensions are image features under a fixed random orthogonal projection
SAID = (
    "Real rows are Flickr8k features (384: MiniLM captions; 1,280: EfficientNet-Lite0 images; "
    f"{PROJECTED}: these images under a fixed random orthogonal projection): the train part once, then again and again "
    f"with Gaussian noise of {NOISE:.0%} of a row's length. Queries are the dev part, repeated likewise. "
    "Everybody gets the values that float16 keeps."
)


def unit(rows: NDArray[Any]) -> Float32:
    """Scale rows [n, d] to length one."""
    wide = rows.astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide


def features(part: Part, dims: int) -> Float32:
    """Read Flickr8k features of one part as unit rows [n, dims]."""
    folder = realdata() / "flickr8k" / "features"
    if dims == 384:  # [image, caption, d]: every image's first caption, then every image's second
        return unit(np.load(folder / f"{part}-text-minilm.npy").swapaxes(0, 1).reshape(-1, dims))
    images = unit(np.load(folder / f"{part}-image-lite0.npy"))
    if dims == images.shape[1]:
        return images
    gaussian = np.random.default_rng(PROJECTED).standard_normal((images.shape[1], dims))
    return unit(images @ np.linalg.qr(gaussian)[0].astype(np.float32))


def rows(data: Data, part: Part, dims: int, count: int) -> NDArray[np.float16]:
    """Make `count` unit rows [count, dims]; a smaller number gives the first rows of a larger one."""
    out = np.empty((count, dims), np.float16)
    base = features(part, dims) if data == "real" else None
    for chunk, start in enumerate(range(0, count, CHUNK)):
        rng = np.random.default_rng([chunk, dims, int(part == "dev")])
        wanted = min(CHUNK, count - start)
        made = rng.standard_normal((wanted, dims), dtype=np.float32)
        if base is not None:
            at = np.arange(start, start + wanted)
            made *= np.where(at < len(base), 0, NOISE / np.sqrt(dims)).astype(np.float32)[:, None]
            made += base[at % len(base)]
        out[start : start + wanted] = unit(made)
    return out


def queries(data: Data, dims: int, count: int) -> Float32:
    """Make `count` query rows that are not among the rows searched."""
    return rows(data, "dev", dims, count).astype(np.float32)
