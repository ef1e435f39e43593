"""Pairs in every form, put into a store elsewhere, and what is read of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from support.pair_files import KINDS, image_paths, vector_parts, vector_table

from asif.pairs import Pair, PairSource, Reject

SECRETS = ("secret", "token")


def within(make: Callable[[Path], Path], path: Path) -> Path:
    path.mkdir()
    return make(path)


FORMS: dict[str, Callable[[Path], Path]] = {
    **{make.__name__: partial(within, make) for make in KINDS if make is not image_paths},
    "npy": lambda path: vector_parts(path, True, True),
    "npy without metadata": lambda path: vector_parts(path, False, False),
    "vectors": lambda path: vector_table(path, caption=["a", "b"]),
}


def in_memory(path: Path, folder: Path) -> str:
    """Copy a folder into fsspec's memory; returns the URL of a path in it."""
    fsspec.filesystem("memory").put(str(folder), "/bucket", recursive=True)
    return f"memory://bucket/{path.relative_to(folder).as_posix()}".removesuffix("/.")


def contents(source: PairSource) -> list[Any]:
    """Read a source whole, images and vectors as bytes."""
    return [content(item) for item in source.read()]


def content(item: Pair | Reject) -> Any:
    if isinstance(item, Reject):
        return item
    image = item.image
    if image is not None and not isinstance(image, bytes):
        with image.open("rb") as file:
            image = file.read()
    vectors = [None if v is None else np.asarray(v).tobytes() for v in (item.image_embedding, item.text_embedding)]
    return item.row, item.id, image, item.captions, item.source, item.url, item.label, vectors
