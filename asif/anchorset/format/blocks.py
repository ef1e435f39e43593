"""A block on disk: up to 8,192 anchors as a safetensors file of one fixed layout.

The header is a function of (rows, dims, dtype), all of which the manifest states. So reading one parses nothing:
a file that does not begin with exactly that header, or is not exactly that long, is refused.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.format.atomic_io import RESTORE, open_regular
from asif.errors import BadEmbedding, IntegrityError
from asif.vectors import Float32, Side, vector_problems

MAX_ROWS = 8192
DTYPES = {"float16": "F16", "float32": "F32", "bfloat16": "BF16"}  # ours -> the name in safetensors
_ALIGN = 64

UInt8 = NDArray[np.uint8]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """Hold a block: `image` [n, di] and `text` [n, dt] in the stored dtype, `row_hash` [n, 32], sums [di], [dt].

    The sums are float64, over the stored values. Arrays that were read are views of the file: nothing is copied.
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


def cast(values: Float32, dtype: str) -> NDArray[Any]:
    """Round embeddings [n, d] to the dtype they are stored in, to nearest.

    Raises BadEmbedding, naming the rows, where a vector is or becomes NaN, infinite or zero.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.ascontiguousarray(values).astype(numpy_dtype(dtype))
    problems = vector_problems(stored.astype(np.float32))
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


def make_block(image: NDArray[Any], text: NDArray[Any], row_hash: UInt8) -> Block:
    """Put a block together from stored values and row hashes."""
    return Block(image, text, row_hash, sum_rows(image), sum_rows(text))


def block_size(rows: int, dims: Mapping[Side, int], dtype: str) -> int:
    """Return the size in bytes of a block file."""
    return _form(rows, dims["image"], dims["text"], dtype).size


def write_block(path: Path, block: Block, dtype: str) -> None:
    """Write a block; equal blocks give equal bytes."""
    dims: dict[Side, int] = {"image": block.image.shape[1], "text": block.text.shape[1]}
    with open(path, "xb") as file:
        file.write(_form(len(block), dims["image"], dims["text"], dtype).header)
        for values in (block.image_sum, block.text_sum, block.image, block.text, block.row_hash):
            file.write(np.ascontiguousarray(values).view(np.uint8).data)


def read_block(path: Path, rows: int, dims: Mapping[Side, int], dtype: str) -> Block:
    """Map a block into memory; raises IntegrityError unless the file has exactly this layout."""
    form = _form(rows, dims["image"], dims["text"], dtype)
    with open_regular(path) as file:
        start = file.read(len(form.header))
        if start != form.header:
            raise IntegrityError(
                f"{path} begins with {start[:16]!r}, or describes other tensors",
                f"an asif block of {rows} rows of {dims['image']} and {dims['text']} {dtype}",
                RESTORE,
            )
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) != form.size:
        raise IntegrityError(f"{path} has {len(mapped):,} bytes", f"{form.size:,}", RESTORE)
    image_sum, text_sum, image, text, row_hash = (
        np.frombuffer(mapped, tensor.kind, math.prod(tensor.shape), tensor.offset).reshape(tensor.shape)
        for tensor in form.tensors
    )
    return Block(image, text, row_hash, image_sum, text_sum)


@dataclass(frozen=True)
class _Tensor:
    """Say where in a file a tensor begins, and of what it consists."""

    kind: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class _Form:
    """Hold what all block files of so many rows, dimensions and dtype have in common."""

    header: bytes
    tensors: tuple[_Tensor, ...]
    size: int


@lru_cache(64)
def _form(rows: int, image: int, text: int, dtype: str) -> _Form:
    """Lay tensors out: wide types first, so that each is aligned; then the safetensors header before them.

    The header is its length, JSON, and blanks up to a multiple of 64 bytes.
    """
    stored, wide = numpy_dtype(dtype), np.dtype("<f8")
    layout: dict[str, tuple[str, np.dtype[Any], tuple[int, ...]]] = {
        "image_sum": ("F64", wide, (image,)),
        "text_sum": ("F64", wide, (text,)),
        "image": (DTYPES[dtype], stored, (rows, image)),
        "text": (DTYPES[dtype], stored, (rows, text)),
        "row_hash": ("U8", np.dtype(np.uint8), (rows, 32)),
    }
    described, tensors, offset = {}, [], 0
    for name, (called, kind, shape) in layout.items():
        end = offset + kind.itemsize * math.prod(shape)
        described[name] = {"dtype": called, "shape": shape, "data_offsets": (offset, end)}
        tensors.append(_Tensor(kind, shape, offset))
        offset = end
    words = json.dumps(described, separators=(",", ":")).encode()
    words += b" " * (-(8 + len(words)) % _ALIGN)
    header = len(words).to_bytes(8, "little") + words
    return _Form(
        header, tuple(replace(each, offset=each.offset + len(header)) for each in tensors), len(header) + offset
    )
