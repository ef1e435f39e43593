"""Data sets of images that encoders hash: labelled ones, captioned ones, and the scores expected of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from support.engine_sets import IMAGE_DIM, TEXT_DIM
from support.pair_files import IMAGE, table

from asif.aligners.hubness import build_query_bank
from asif.compare import Candidates, score_candidates
from asif.engine import Engine
from asif.pairs import LabelledImages, PairSource, open_captioned, open_labelled
from asif.vectors import Embeddings, Side

WORDS = ("red fox", "owl", "newt", "car_side", "BACKGROUND_Google", "inline-skate", "Faces")


ROWS = 67


def image_column(count: int, bad: tuple[int, ...] = ()) -> pa.Array:
    contents = [b"bad" if row in bad else f"image {row}".encode() for row in range(count)]
    return pa.array([{"bytes": content, "path": None} for content in contents], IMAGE)


def labels_of(count: int) -> list[str]:
    return [WORDS[draw] for draw in np.random.default_rng(5).integers(0, len(WORDS), count)]


def labelled(path: Path, count: int = ROWS, bad: tuple[int, ...] = ()) -> LabelledImages:
    return open_labelled(table(path / "l.parquet", image=image_column(count, bad), label=labels_of(count)))


def captioned(path: Path, captions: list[list[str]], **columns: Any) -> PairSource:
    given = {"image": image_column(len(captions)), **columns}
    return open_captioned(table(path / "c.parquet", captions=captions, **given))


def captions_of(count: int) -> list[list[str]]:
    """Give each image one to three captions of its own."""
    sizes = np.random.default_rng(6).integers(1, 4, count)
    return [[f"caption {row} {number}" for number in range(size)] for row, size in enumerate(sizes)]


def represented(engine: Engine, image: Embeddings, text: Embeddings, query: Side) -> NDArray[Any]:
    """Score texts for images, or images for texts, all at once."""
    choice = engine.role("search").choice
    fitted = choice.aligner.fit(engine.anchors)
    rows = {"image": fitted.represent("image", image), "text": fitted.represent("text", text)}
    other: Side = "text" if query == "image" else "image"
    biases = None
    if choice.hubness.method != "none":
        biases = choice.hubness.compute_biases(rows[other], build_query_bank(fitted, engine.anchors, query))
    return score_candidates(rows[query], Candidates(rows[other], biases=biases))


def vectors(encoder: Any, items: list[Any]) -> Embeddings:
    texts = tuple((item,) for item in items if isinstance(item, str))
    return Embeddings.from_raw(encoder.forward(items), texts or None)


def precomputed_pairs(path: Path, images: int = 9, captions: int = 2) -> tuple[Path, NDArray[Any], NDArray[Any]]:
    path.mkdir()
    random = np.random.default_rng(3)
    image, text = random.standard_normal((images, IMAGE_DIM)), random.standard_normal((images * captions, TEXT_DIM))
    np.save(path / "img_emb_0.npy", image.repeat(captions, axis=0).astype(np.float32))
    np.save(path / "text_emb_0.npy", text.astype(np.float32))
    return path, image, text
