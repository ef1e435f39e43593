"""Second moments of anchor pairs: the sums from which closed-form linear maps are solved."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from asif.aligners.protocol import Anchors
from asif.kernels import KernelName
from asif.kernels.blas import compute_second_moments, limit_decomposition_threads
from asif.vectors import FitArrays, Float64, Side


@dataclass(frozen=True)
class Moments:
    """Hold sums over pairs (x, y) of an image and a text embedding, float64.

    `count` is N, `image` Σx [di], `text` Σy [dt], `image_image` Σxxᵀ, `text_text` Σyyᵀ, `image_text` Σxyᵀ. Sums over
    disjoint pairs can be added, and sums of removed pairs subtracted, so that an edited set is fitted again without
    reading its other rows.
    """

    count: int
    image: Float64
    text: Float64
    image_image: Float64
    text_text: Float64
    image_text: Float64

    @classmethod
    def of(cls, anchors: Anchors, engine: KernelName = "auto") -> Moments:
        """Sum over an anchor set, block by block; memory, here or on the device, holds one block in float64.

        >>> from types import SimpleNamespace
        >>> sides = {"image": [np.eye(2, dtype=np.float32)], "text": [np.array([[1.0], [-1.0]], np.float32)]}
        >>> Moments.of(SimpleNamespace(blocks=sides.get)).image_text.tolist()
        [[1.0], [-1.0]]
        """
        return cls.over(zip(anchors.blocks("image"), anchors.blocks("text"), strict=True), engine)

    @classmethod
    def over(cls, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]], engine: KernelName = "auto") -> Moments:
        """Sum over blocks of image and text rows, of which there is at least one."""
        total: Moments | None = None
        for image, text in blocks:
            some = cls(len(image), *compute_second_moments(image, text, engine=engine))
            total = some if total is None else total + some
        assert total is not None
        return total

    def as_arrays(self) -> FitArrays:
        """Return the sums as named arrays, for a file."""
        return {field.name: np.asarray(getattr(self, field.name), np.float64) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: FitArrays) -> Moments:
        """Read what `as_arrays` wrote; raises KeyError if something is missing."""
        count, *sums = (arrays[field.name] for field in fields(cls))
        return cls(int(count), *sums)

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, field.name) - getattr(other, field.name) for field in fields(self)))

    @cached_property
    def spectra(self) -> dict[Side, tuple[Float64, Float64]]:
        """The eigenvalues [d], ascending, and eigenvectors [d, d] of both sides' covariances."""
        from scipy import linalg

        xx, yy, _ = self.covariances()
        with limit_decomposition_threads(max(len(xx), len(yy))):
            return {"image": linalg.eigh(xx), "text": linalg.eigh(yy)}

    @cached_property
    def axes(self) -> dict[Any, Any]:
        """The axes of the last linear map of each kind: maps that differ only in size or weights share them."""
        return {}

    def covariances(self) -> tuple[Float64, Float64, Float64]:
        """Return the covariances S_xx [di, di], S_yy [dt, dt], S_xy [di, dt] about the means."""
        x, y = self.image / self.count, self.text / self.count
        return (
            self.image_image / self.count - np.outer(x, x),
            self.text_text / self.count - np.outer(y, y),
            self.image_text / self.count - np.outer(x, y),
        )


AnchorsT = TypeVar("AnchorsT", bound=Anchors)
_MOMENTS: WeakKeyDictionary[Anchors, Moments] = WeakKeyDictionary()


def find_moments(anchors: AnchorsT, compute: Callable[[AnchorsT], Moments] = Moments.of) -> Moments:
    """Return the sums over an anchor set, computed once while it is open: all its linear maps share them.

    `compute` is called the first time.
    """
    if anchors not in _MOMENTS:
        _MOMENTS[anchors] = compute(anchors)
    return _MOMENTS[anchors]
