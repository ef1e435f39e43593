"""Tokens of many inputs, stored without padding, in memory or mapped from a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.vectors import Float32, Int64, Tokens, find_vector_problems


@dataclass(frozen=True)
class TokenRows:
    """Hold the tokens of n inputs without padding: `values` [s, d] float16, `pooled` [n, e] float32.

    Row i has the tokens from `offsets[i]` up to `offsets[i + 1]`. Arrays may be views of mapped files.
    """

    values: NDArray[np.float16]
    offsets: Int64
    pooled: Float32

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, row: int) -> NDArray[np.float16]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def bytes(self) -> int:
        """Return the size on disk."""
        return self.values.nbytes + self.pooled.nbytes + 4 * len(self)

    @property
    def lengths(self) -> Int64:
        """Return the number of tokens of each row [n]."""
        return np.diff(self.offsets)

    def read(self, rows: Sequence[int] | Int64) -> Tokens:
        """Return some rows, in the given order, padded to the longest of them."""
        wanted = self._checked(rows)
        return Tokens.padded([self[row] for row in wanted], np.array(self.pooled[wanted]))

    def take(self, rows: Sequence[int] | Int64) -> TokenRows:
        """Return a copy of some rows, in the given order."""
        wanted = self._checked(rows)
        return self.of([self[row] for row in wanted], self.pooled[wanted])

    def _checked(self, rows: Sequence[int] | Int64) -> Int64:
        wanted = np.asarray(rows, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)}")
        return wanted

    @classmethod
    def of(cls, rows: Sequence[NDArray[np.floating[Any]]], pooled: Float32) -> TokenRows:
        """Round the tokens [t, d] of each input to float16 and concatenate them.

        >>> TokenRows.of([np.ones((1, 2)), np.ones((3, 2))], np.zeros((2, 2), np.float32)).offsets.tolist()
        [0, 1, 4]
        """
        with np.errstate(over="ignore"):  # `problems` reports them
            values = np.concatenate(rows).astype("<f2") if len(rows) else np.empty((0, 0), "<f2")
        return cls(values, np.cumsum([0, *map(len, rows)], dtype=np.int64), pooled)

    @classmethod
    def from_padded(cls, tokens: Tokens) -> TokenRows:
        """Remove the padding of tokens."""
        return cls.of([values[mask] for values, mask in zip(tokens.values, tokens.mask, strict=True)], tokens.pooled)

    @classmethod
    def concatenate(cls, parts: Iterable[TokenRows]) -> TokenRows:
        """Concatenate the rows of several parts."""
        every = list(parts)
        rows = [part[row] for part in every for row in range(len(part))]
        pooled = [part.pooled for part in every]
        return cls.of(rows, np.concatenate(pooled) if pooled else np.empty((0, 0), np.float32))

    def problems(self) -> dict[int, str]:
        """Return the unusable rows, {row: reason}."""
        found = {row: f"embedding is {problem}" for row, problem in find_vector_problems(self.pooled).items()}
        for row in range(len(self)):
            if not np.isfinite(self[row]).all():
                found.setdefault(row, "tokens are not finite in float16")
        return found
