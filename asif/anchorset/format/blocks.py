"""A block on disk: the embeddings of up to 8,192 anchors in a safetensors file of one fixed layout.

The header is a function of (rows, dims, dtype), all of which the manifest states. So a reader parses nothing: it
refuses a file that does not begin with exactly that header, or does not have exactly that length.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.atomic_io import RESTORE_ADVICE, open_plain_file, translate_read_errors
from asif.anchorset.format.safetensors_header import TensorSpec, build_safetensors_header
from asif.errors import BadEmbedding, IntegrityError
from asif.vectors import Float32, Float64, Side, find_vector_problems

MAX_BLOCK_ROWS = 8192
SAFETENSORS_DTYPES = {"float16": "F16", "float32": "F32", "bfloat16": "BF16"}  # our name -> its name in safetensors

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class AnchorBlock:
    """Hold a block: `image` [n, di] and `text` [n, dt] in the stored dtype, `row_hash` [n, 32], sums [di], [dt].

    The sums are float64, over the stored values. The arrays of `read_block` are views of the mapped file.
    """

    image: NDArray[Any]
    text: NDArray[Any]
    row_hash: UInt8
    image_sum: Float64
    text_sum: Float64

    def __len__(self) -> int:
        return len(self.row_hash)

    def side(self, side: Side) -> NDArray[Any]:
        """Return one side's embeddings [n, d]."""
        return self.image if side == "image" else self.text

    def sum(self, side: Side) -> Float64:
        """Return one side's sum over the rows [d]."""
        return self.image_sum if side == "image" else self.text_sum


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Return the numpy dtype for `float16`, `float32` or `bfloat16`.

    >>> numpy_dtype("float16")
    dtype('float16')
    """
    if dtype == "bfloat16":
        import ml_dtypes

        narrow: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return narrow
    return np.dtype({"float16": "<f2", "float32": "<f4"}[dtype])


def cast_embeddings(values: Float32, dtype: str) -> NDArray[Any]:
    """Round embeddings [n, d] to the dtype they are stored in, to nearest.

    Raises BadEmbedding, which names the rows, if a vector is or becomes NaN, infinite or zero.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.ascontiguousarray(values).astype(numpy_dtype(dtype))
    problems = find_vector_problems(stored.astype(np.float32))
    if problems:
        rows = ", ".join(map(str, list(problems)[:10]))
        raise BadEmbedding(
            f"{len(problems)} of {len(stored)} vectors cannot be stored as {dtype} "
            f"({next(iter(problems.values()))}): rows {rows}",
            f"vectors that stay finite and not zero in {dtype}",
            "store them as float32, or leave those rows out",
        )
    return stored


def sum_rows(values: NDArray[Any]) -> Float64:
    """Return the sum over rows [d] of values [n, d], widened to float64."""
    total: Float64 = np.add.reduce(values, axis=0, dtype=np.float64)
    return total


def build_block(image: NDArray[Any], text: NDArray[Any], row_hash: UInt8) -> AnchorBlock:
    """Build a block, with its sums, from stored values and row hashes."""
    return AnchorBlock(image, text, row_hash, sum_rows(image), sum_rows(text))


def block_file_size(rows: int, dims: Mapping[Side, int], dtype: str) -> int:
    """Return the size in bytes of a block file."""
    return _compute_layout(rows, dims["image"], dims["text"], dtype).size


def write_block(path: Path, block: AnchorBlock, dtype: str) -> None:
    """Write a block; equal blocks give equal bytes."""
    dims: dict[Side, int] = {"image": block.image.shape[1], "text": block.text.shape[1]}
    with open(path, "xb") as file:
        file.write(_compute_layout(len(block), dims["image"], dims["text"], dtype).header)
        for values in (block.image_sum, block.text_sum, block.image, block.text, block.row_hash):
            file.write(np.ascontiguousarray(values).view(np.uint8).data)


def read_block(path: Path, rows: int, dims: Mapping[Side, int], dtype: str) -> AnchorBlock:
    """Map a block into memory; raises IntegrityError unless the file has exactly the expected layout."""
    layout = _compute_layout(rows, dims["image"], dims["text"], dtype)
    with translate_read_errors(path), open_plain_file(path) as file:
        start = file.read(len(layout.header))
        if start != layout.header:
            raise IntegrityError(
                f"{path} begins with {start[:16]!r}, or describes other tensors",
                f"an asif block of {rows} rows of {dims['image']} and {dims['text']} {dtype}",
                RESTORE_ADVICE,
            )
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) != layout.size:
        raise IntegrityError(f"{path} has {len(mapped):,} bytes", f"{layout.size:,}", RESTORE_ADVICE)
    image_sum, text_sum, image, text, row_hash = (
        np.frombuffer(mapped, place.dtype, math.prod(place.shape), place.offset).reshape(place.shape)
        for place in layout.places
    )
    return AnchorBlock(image, text, row_hash, image_sum, text_sum)


@dataclass(frozen=True)
class _TensorPlace:
    """Locate a tensor in a file: its numpy dtype, its shape, and the offset of its first byte."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class _Layout:
    """Hold what all block files of equal rows, dimensions and dtype have in common; `size` is in bytes."""

    header: bytes
    places: tuple[_TensorPlace, ...]
    size: int


@lru_cache(64)
def _compute_layout(rows: int, image: int, text: int, dtype: str) -> _Layout:
    """Lay the tensors out, wide types first, so that each is aligned."""
    stored, wide = numpy_dtype(dtype), np.dtype("<f8")
    stored_name = SAFETENSORS_DTYPES[dtype]
    layout: dict[str, tuple[np.dtype[Any], TensorSpec]] = {
        "image_sum": (wide, TensorSpec("F64", (image,))),
        "text_sum": (wide, TensorSpec("F64", (text,))),
        "image": (stored, TensorSpec(stored_name, (rows, image))),
        "text": (stored, TensorSpec(stored_name, (rows, text))),
        "row_hash": (np.dtype(np.uint8), TensorSpec("U8", (rows, 32))),
    }
    header = build_safetensors_header({name: tensor for name, (_, tensor) in layout.items()})
    places, offset = [], len(header)
    for numpy_type, tensor in layout.values():
        places.append(_TensorPlace(numpy_type, tensor.shape, offset))
        offset += tensor.size
    return _Layout(header, tuple(places), offset)
