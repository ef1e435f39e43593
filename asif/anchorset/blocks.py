"""A block on disk: up to 8,192 anchors as a safetensors file of one fixed layout.

The header is a function of (rows, dims, dtype), all of which the manifest states. So reading one parses nothing:
a file that does not begin with exactly that header, or is not exactly that long, is refused.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.anchorset.atomic import RESTORE, open_regular
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
    return len(_header(rows, dims, dtype)) + sum(_bytes(*tensor) for tensor in _layout(rows, dims, dtype).values())


def write_block(path: Path, block: Block, dtype: str) -> None:
    """Write a block; equal blocks give equal bytes."""
    dims: dict[Side, int] = {"image": block.image.shape[1], "text": block.text.shape[1]}
    with open(path, "xb") as file:
        file.write(_header(len(block), dims, dtype))
        for values in (block.image_sum, block.text_sum, block.image, block.text, block.row_hash):
            file.write(np.ascontiguousarray(values).view(np.uint8).data)


def read_block(path: Path, rows: int, dims: Mapping[Side, int], dtype: str) -> Block:
    """Map a block into memory; raises IntegrityError unless the file has exactly this layout."""
    header = _header(rows, dims, dtype)
    with open_regular(path) as file:
        start = file.read(len(header))
        if start != header:
            raise IntegrityError(
                f"{path} begins with {start[:16]!r}, or describes other tensors",
                f"an asif block of {rows} rows of {dims['image']} and {dims['text']} {dtype}",
                RESTORE,
            )
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) != block_size(rows, dims, dtype):
        raise IntegrityError(f"{path} has {len(mapped):,} bytes", f"{block_size(rows, dims, dtype):,}", RESTORE)
    arrays, offset = [], len(header)
    for kind, shape in _layout(rows, dims, dtype).values():
        arrays.append(np.frombuffer(mapped, kind, math.prod(shape), offset).reshape(shape))
        offset += _bytes(kind, shape)
    image_sum, text_sum, image, text, row_hash = arrays
    return Block(image, text, row_hash, image_sum, text_sum)


def _layout(rows: int, dims: Mapping[Side, int], dtype: str) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return the tensors in the order they lie in: wide types first, so that each is aligned."""
    stored, wide = numpy_dtype(dtype), np.dtype("<f8")
    return {
        "image_sum": (wide, (dims["image"],)),
        "text_sum": (wide, (dims["text"],)),
        "image": (stored, (rows, dims["image"])),
        "text": (stored, (rows, dims["text"])),
        "row_hash": (np.dtype(np.uint8), (rows, 32)),
    }


def _bytes(kind: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return kind.itemsize * math.prod(shape)


def _header(rows: int, dims: Mapping[Side, int], dtype: str) -> bytes:
    """Return the safetensors header: its length, JSON, blanks up to a multiple of 64 bytes."""
    names = {"image_sum": "F64", "text_sum": "F64", "row_hash": "U8"}
    described, offset = {}, 0
    for name, (kind, shape) in _layout(rows, dims, dtype).items():
        end = offset + _bytes(kind, shape)
        described[name] = {"dtype": names.get(name, DTYPES[dtype]), "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    return len(text).to_bytes(8, "little") + text
