"""Read arrays in .npy files: local files are memory-mapped, remote ones read by ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.pairs.location import Place
from asif.pairs.remote import RemotePath


@dataclass(frozen=True)
class NpyFile:
    """Hold the shape and dtype of an array on disk; `rows` (start, stop) reads some of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Callable[[int, int], NDArray[Any]]


def open_npy_file(path: Place) -> NpyFile:
    """Open an array, reading its header only; unpickles nothing. Raises OSError, ValueError or EOFError."""
    if isinstance(path, Path):
        array = np.lib.format.open_memmap(path, mode="r")
        return NpyFile(array.shape, array.dtype, lambda start, stop: np.array(array[start:stop]))
    return _open_remote(path)


def _open_remote(path: RemotePath) -> NpyFile:
    file = path.open("rb")
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"version {version} of the format")
    shape, by_columns, dtype = read[version](file)
    if by_columns and len(shape) > 1 and min(shape) > 1:
        raise ValueError("it is stored in Fortran (column-major) order")
    first, width = file.tell(), int(np.prod(shape[1:])) * dtype.itemsize
    if path.size < first + shape[0] * width:
        raise ValueError(f"{path.size:,} bytes instead of {first + shape[0] * width:,}")

    def rows(start: int, stop: int) -> NDArray[Any]:
        file.seek(first + start * width)
        block = file.read(max(0, stop - start) * width)
        return np.frombuffer(block, dtype).reshape(-1, *shape[1:])

    return NpyFile(shape, dtype, rows)
