"""Blocks of anchors that are searched where they are, by other processes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.vectors import Float32, TopK


class RemoteBlocks(Sequence[NDArray[Any]]):
    """Hold blocks [n, d] that can be read here, and that `topk_similarity` lets others search."""

    @abstractmethod
    def find_topk(self, queries: Float32, k: int) -> TopK:
        """Find the k rows most similar to each query [q, d], as `topk_similarity` does: all bits are equal."""

    @abstractmethod
    def centre(self, mean: NDArray[np.float64]) -> RemoteBlocks:
        """Return the same rows after subtraction of a mean [d], scaled to unit length."""
