"""Matrix products in float64, by numpy or on a CUDA device; threads of decompositions. The door to threadpoolctl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.kernels.api import KernelName, resolve_kernel
from asif.vectors import Float64

MIN_DEVICE_ROWS = 256  # from this many rows on, moving the matrix to a device can pay

_MOST_ALONE = 2048
"""Matrices up to this size are decomposed in one thread."""
_threads_lock = Lock()
_threads_before: list[int] = []  # of scipy's BLAS, for each decomposition that is running


def find_device(engine: KernelName) -> str | None:
    """Return the torch device that an engine multiplies on; None for numpy."""
    return "cuda" if resolve_kernel(engine) == "cuda" else None


def multiply(rows: Float64, columns: Float64, *, engine: KernelName = "auto") -> Float64:
    """Multiply rows [n, d] by columns [d, s]: [n, s], never -0.0.

    If both are on the canonical grid, and rows and columns at most √2 long, the product is exact, so all engines
    agree bit for bit.

    >>> multiply(np.array([[1.0, -1.0]]), np.array([[0.5], [0.5]])).tolist()
    [[0.0]]
    """
    device = find_device(engine) if len(rows) >= MIN_DEVICE_ROWS else None
    if device is None:
        return rows @ columns + 0.0
    from asif.kernels import torch_

    return torch_.multiply(rows, columns, device) + 0.0


def compute_second_moments(x: NDArray[Any], y: NDArray[Any], *, engine: KernelName = "auto") -> tuple[Float64, ...]:
    """Sum over pairs of rows [n, di] and [n, dt], in stored precision: Σx, Σy, Σxxᵀ, Σyyᵀ, Σxyᵀ.

    Memory: both in float64. Engines sum in different orders, and differ by rounding.

    >>> [each.tolist() for each in compute_second_moments(np.array([[1.0, 2.0]]), np.array([[3.0]]))]
    [[1.0, 2.0], [3.0], [[1.0, 2.0], [2.0, 4.0]], [[9.0]], [[3.0], [6.0]]]
    """
    device = find_device(engine)
    if device is not None:
        from asif.kernels import torch_

        return torch_.compute_second_moments(x, y, device)
    wide, other = x.astype(np.float64), y.astype(np.float64)
    return wide.sum(axis=0), other.sum(axis=0), compute_gram_matrix(wide), compute_gram_matrix(other), wide.T @ other


def compute_gram_matrix(rows: Float64) -> Float64:
    """Return rowsᵀ rows: half the work of a general product.

    >>> compute_gram_matrix(np.array([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[1.0, 2.0], [2.0, 5.0]]
    """
    from scipy.linalg.blas import dsyrk

    upper: Float64 = dsyrk(1.0, rows.T)  # the transpose is in the memory order of BLAS; below the diagonal are zeros
    gram: Float64 = upper + upper.T
    np.fill_diagonal(gram, upper.diagonal())
    return gram


@contextmanager
def limit_decomposition_threads(size: int) -> Iterator[None]:
    """Let scipy decompose matrices of up to 2,048 rows or columns in one thread.

    The threads of OpenBLAS spin while they wait for each other. Where other work uses the processors too, as in a
    service, two of them take ten times as long as one; alone they gain little at such sizes. Nothing changes where
    scipy shares its BLAS with numpy.
    """
    libraries = _find_libraries() if size <= _MOST_ALONE else []
    if not libraries:
        yield
        return
    with _threads_lock:
        _threads_before.append(_threads_before[0] if _threads_before else libraries[0].get_num_threads())
        libraries[0].set_num_threads(1)
    try:
        yield
    finally:
        with _threads_lock:
            before = _threads_before.pop()
            if not _threads_before:
                libraries[0].set_num_threads(before)


@cache
def _find_libraries() -> list[Any]:
    """Return the BLAS that scipy alone has loaded, if there is one."""
    from scipy import linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library for library in loaded if Path(library.filepath).parent.name == "scipy.libs"]
