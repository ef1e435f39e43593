"""A block on disk: the embeddings of up to 8,192 anchors in a safetensors file of one fixed layout.

An anchor set has both sides of each row, a gallery one. The header is a function of (rows, dims, dtype), all of which
the manifest states. So a reader parses nothing: it refuses a file that does not begin with exactly that header, or does
not have exactly that length.
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
from asif.vectors import SIDES, Float32, Float64, Side, find_vector_problems

MAX_BLOCK_ROWS = 8192
SAFETENSORS_DTYPES = {"float16": "F16", "float32": "F32", "bfloat16": "BF16"}  # our name -> its name in safetensors

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class AnchorBlock:
    """Hold a block: by side `values` [n, d] in the stored dtype and `sums` [d]; and `row_hash` [n, 32].

    The sums are float64, over the stored values. The arrays of `read_block` are views of the mapped file.
    """

    values: Mapping[Side, NDArray[Any]]
    row_hash: UInt8
    sums: Mapping[Side, Float64]

    def __len__(self) -> int:
        return len(self.row_hash)

    @property
    def dims(self) -> dict[Side, int]:
        """Return the dimensions by side."""
        return {side: values.shape[1] for side, values in self.values.items()}

    def side(self, side: Side) -> NDArray[Any]:
        """Return one side's embeddings [n, d]."""
        return self.values[side]

    def sum(self, side: Side) -> Float64:
        """Return one side's sum over the rows [d]."""
        return self.sums[side]


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


def build_block(values: Mapping[Side, NDArray[Any]], row_hash: UInt8) -> AnchorBlock:
    """Build a block, with its sums, from the stored values of each side and the row hashes."""
    return AnchorBlock(values, row_hash, {side: sum_rows(rows) for side, rows in values.items()})


def block_file_size(rows: int, dims: Mapping[Side, int], dtype: str) -> int:
    """Return the size in bytes of a block file."""
    return _find_layout(rows, dims, dtype).size


def write_block(path: Path, block: AnchorBlock, dtype: str) -> None:
    """Write a block; equal blocks give equal bytes."""
    sides = _list_sides(block.dims)
    with open(path, "xb") as file:
        file.write(_find_layout(len(block), block.dims, dtype).header)
        for values in (*map(block.sum, sides), *map(block.side, sides), block.row_hash):
            file.write(np.ascontiguousarray(values).view(np.uint8).data)


def read_block(path: Path, rows: int, dims: Mapping[Side, int], dtype: str) -> AnchorBlock:
    """Map a block into memory; raises IntegrityError unless the file has exactly the expected layout."""
    layout, sides = _find_layout(rows, dims, dtype), _list_sides(dims)
    with translate_read_errors(path), open_plain_file(path) as file:
        start = file.read(len(layout.header))
        if start != layout.header:
            raise IntegrityError(
                f"{path} begins with {start[:16]!r}, or describes other tensors",
                f"an asif block of {rows} rows of {' and '.join(str(dims[side]) for side in sides)} {dtype}",
                RESTORE_ADVICE,
            )
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) != layout.size:
        raise IntegrityError(f"{path} has {len(mapped):,} bytes", f"{layout.size:,}", RESTORE_ADVICE)
    *arrays, row_hash = (
        np.frombuffer(mapped, place.dtype, math.prod(place.shape), place.offset).reshape(place.shape)
        for place in layout.places
    )
    sums, values = arrays[: len(sides)], arrays[len(sides) :]
    return AnchorBlock(dict(zip(sides, values, strict=True)), row_hash, dict(zip(sides, sums, strict=True)))


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


def _list_sides(dims: Mapping[Side, int]) -> list[Side]:
    """List the sides that a block has, in the order of the file."""
    return [side for side in SIDES if side in dims]


def _find_layout(rows: int, dims: Mapping[Side, int], dtype: str) -> _Layout:
    return _compute_layout(rows, tuple((side, dims[side]) for side in _list_sides(dims)), dtype)


@lru_cache(64)
def _compute_layout(rows: int, dims: tuple[tuple[Side, int], ...], dtype: str) -> _Layout:
    """Lay the tensors out, wide types first, so that each is aligned."""
    stored, wide = numpy_dtype(dtype), np.dtype("<f8")
    stored_name = SAFETENSORS_DTYPES[dtype]
    layout: dict[str, tuple[np.dtype[Any], TensorSpec]] = {
        **{f"{side}_sum": (wide, TensorSpec("F64", (dim,))) for side, dim in dims},
        **{side: (stored, TensorSpec(stored_name, (rows, dim))) for side, dim in dims},
        "row_hash": (np.dtype(np.uint8), TensorSpec("U8", (rows, 32))),
    }
    header = build_safetensors_header({name: tensor for name, (_, tensor) in layout.items()})
    places, offset = [], len(header)
    for numpy_type, tensor in layout.values():
        places.append(_TensorPlace(numpy_type, tensor.shape, offset))
        offset += tensor.size
    return _Layout(header, tuple(places), offset)
