"""Select diverse anchors: the greedy mode of a determinantal point process.

The chosen set S is to maximise det L_S for the kernel L_ij = (x_i·x_j + 1)² of FuseMix (arXiv 2312.10144), so each step
takes the row that the chosen ones explain least. The Cholesky factor grows by one column per step, as in Chen, Zhang
and Zhou, "Fast greedy MAP inference for determinantal point processes" (NeurIPS 2018, arXiv 1709.05135), algorithm 1:
N·n² operations for n of N rows; the definition takes N·n⁴.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.errors import UsageError
from asif.kernels.canonical import round_to_grid
from asif.vectors import Int64

_MAX_BYTES = 2**32
_EXPLAINED = 1e-9  # of the initial gain 4: a smaller gain is rounding error


def choose_by_kdpp(blocks: Sequence[NDArray[Any]], size: int) -> Int64:
    """Choose `size` rows of unit embeddings, blocks [n, d], greedily for the largest determinant.

    Of equal gains the smaller row is taken. Once the chosen rows explain all others (all further determinants are zero,
    for example if rows repeat), the first remaining rows are added. Memory: 8·N·(n + d) bytes; raises UsageError above
    4 GiB.

    >>> choose_by_kdpp([np.array([[1, 0], [0.8, 0.6], [1, 0], [-1, 0]], np.float32)], 3).tolist()
    [0, 1, 3]
    """
    count, dim = sum(map(len, blocks)), blocks[0].shape[1]
    _check_memory(count, size, dim)
    rows = np.empty((count, dim))
    for block, place in zip(blocks, np.split(rows, np.cumsum([len(block) for block in blocks[:-1]])), strict=True):
        place[:] = round_to_grid(block)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # otherwise rounded lengths would decide the first choice
    gains = np.full(count, 4.0)  # the part of each row that the chosen ones do not explain
    columns = np.zeros((size, count))  # of the Cholesky factor, one for each chosen row
    chosen: list[int] = []
    while len(chosen) < size:
        best = int(gains.argmax())
        if gains[best] <= _EXPLAINED:
            left = np.setdiff1d(np.arange(count), chosen)
            chosen += left[: size - len(chosen)].tolist()
            break
        known = columns[: len(chosen)]
        kernel = np.square(rows @ rows[best] + 1)
        column = (kernel - np.einsum("t,tn->n", known[:, best], known)) / np.sqrt(gains[best])
        columns[len(chosen)] = column
        gains -= np.square(column)
        chosen.append(best)
        gains[best] = -np.inf
    return np.sort(np.array(chosen, np.int64))


def _check_memory(count: int, size: int, dim: int) -> None:
    """Raise UsageError if the selection would take more than _MAX_BYTES of memory.

    >>> _check_memory(1_000_000, 1_000, 768)
    Traceback (most recent call last):
        ...
    asif.errors.UsageError: choosing 1,000 of 1,000,000 anchors by kdpp takes 14,144,000,000 bytes
      expected: at most 4,294,967,296 bytes of memory
      to do:    choose by kmeans, or of fewer anchors, drawn at random
    """
    needed = 8 * count * (size + dim)
    if needed > _MAX_BYTES:
        raise UsageError(
            f"choosing {size:,} of {count:,} anchors by kdpp takes {needed:,} bytes",
            f"at most {_MAX_BYTES:,} bytes of memory",
            "choose by kmeans, or of fewer anchors, drawn at random",
        )
