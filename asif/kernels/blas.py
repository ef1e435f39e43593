"""Products of matrices in float64, by numpy, or on a CUDA device where the engine computes on one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from asif.kernels.api import Engine, choose

Float64 = NDArray[np.float64]

FEWEST = 256  # rows for which it may be worth while to move the matrix they are multiplied by to a device


def device_of(engine: Engine) -> str | None:
    """Name the device of torch that an engine multiplies on; None where numpy does it."""
    return "cuda" if choose(engine) == "cuda" else None


def product(rows: Float64, columns: Float64, *, engine: Engine = "auto") -> Float64:
    """Multiply rows [n, d] by columns [d, s]: [n, s], never -0.0.

    Where both are on the canonical grid, and rows and columns at most √2 long, the product is exact, so that all
    engines agree bit for bit.

    >>> product(np.array([[1.0, -1.0]]), np.array([[0.5], [0.5]])).tolist()
    [[0.0]]
    """
    device = device_of(engine) if len(rows) >= FEWEST else None
    if device is None:
        return rows @ columns + 0.0
    from asif.kernels import torch_

    return torch_.product(rows, columns, device) + 0.0


def second_moments(x: NDArray[Any], y: NDArray[Any], *, engine: Engine = "auto") -> tuple[Float64, ...]:
    """Sum over pairs of rows [n, di] and [n, dt], in stored precision: Σx, Σy, Σxxᵀ, Σyyᵀ, Σxyᵀ.

    Memory: both in float64. Engines add up in other orders, and differ by rounding.

    >>> [each.tolist() for each in second_moments(np.array([[1.0, 2.0]]), np.array([[3.0]]))]
    [[1.0, 2.0], [3.0], [[1.0, 2.0], [2.0, 4.0]], [[9.0]], [[3.0], [6.0]]]
    """
    device = device_of(engine)
    if device is not None:
        from asif.kernels import torch_

        return torch_.second_moments(x, y, device)
    wide, other = x.astype(np.float64), y.astype(np.float64)
    return wide.sum(axis=0), other.sum(axis=0), square(wide), square(other), wide.T @ other


def square(rows: Float64) -> Float64:
    """Return rowsᵀ rows: half the work of a general product.

    >>> square(np.array([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[1.0, 2.0], [2.0, 5.0]]
    """
    upper: Float64 = dsyrk(1.0, rows.T)  # the transpose lies as BLAS wants it
    return np.triu(upper) + np.triu(upper, 1).T
