"""Second moments of anchor pairs: all that a closed-form linear map needs to know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from asif.aligners.protocol import Anchors, Arrays
from asif.kernels import Engine
from asif.kernels.blas import second_moments
from asif.vectors import Side

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Hold sums over pairs (x, y) of an image and a text embedding, float64.

    `count` is N, `image` Σx [di], `text` Σy [dt], `image_image` Σxxᵀ, `text_text` Σyyᵀ, `image_text` Σxyᵀ. Sums over
    disjoint pairs add up to the sum over all of them, and those of removed pairs are taken away again, so that an
    edited set is fitted anew without its rows being read.
    """

    count: int
    image: Float64
    text: Float64
    image_image: Float64
    text_text: Float64
    image_text: Float64

    @classmethod
    def of(cls, anchors: Anchors, engine: Engine = "auto") -> Moments:
        """Sum over an anchor set, block by block; memory, here or on the device, holds one block in float64.

        >>> from types import SimpleNamespace
        >>> sides = {"image": [np.eye(2, dtype=np.float32)], "text": [np.array([[1.0], [-1.0]], np.float32)]}
        >>> Moments.of(SimpleNamespace(blocks=sides.get)).image_text.tolist()
        [[1.0], [-1.0]]
        """
        return cls.over(zip(anchors.blocks("image"), anchors.blocks("text"), strict=True), engine)

    @classmethod
    def over(cls, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]], engine: Engine = "auto") -> Moments:
        """Sum over blocks of image and text rows, of which there is at least one."""
        total: Moments | None = None
        for image, text in blocks:
            some = cls(len(image), *second_moments(image, text, engine=engine))
            total = some if total is None else total + some
        assert total is not None
        return total

    def as_arrays(self) -> Arrays:
        """Return it as named arrays, to be kept in a file."""
        return {field.name: np.asarray(getattr(self, field.name), np.float64) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Moments:
        """Read what `as_arrays` wrote; raises KeyError where something is missing."""
        count, *sums = (arrays[field.name] for field in fields(cls))
        return cls(int(count), *sums)

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, field.name) - getattr(other, field.name) for field in fields(self)))

    @cached_property
    def spectra(self) -> dict[Side, tuple[Float64, Float64]]:
        """The eigenvalues [d], ascending, and eigenvectors [d, d] of both sides' covariances."""
        xx, yy, _ = self.covariances()
        return {"image": linalg.eigh(xx), "text": linalg.eigh(yy)}

    @cached_property
    def axes(self) -> dict[Any, Any]:
        """What the last linear map of each kind found: maps that differ in size or weights alone share it."""
        return {}

    def covariances(self) -> tuple[Float64, Float64, Float64]:
        """Return the covariances S_xx [di, di], S_yy [dt, dt], S_xy [di, dt] about the means."""
        x, y = self.image / self.count, self.text / self.count
        return (
            self.image_image / self.count - np.outer(x, x),
            self.text_text / self.count - np.outer(y, y),
            self.image_text / self.count - np.outer(x, y),
        )


Some = TypeVar("Some", bound=Anchors)
_KNOWN: WeakKeyDictionary[Anchors, Moments] = WeakKeyDictionary()


def moments_of(anchors: Some, summed: Callable[[Some], Moments] = Moments.of) -> Moments:
    """Return the sums over an anchor set, taken once while it is open: all linear maps of it share them.

    `summed` is how they are taken, the first time.
    """
    if anchors not in _KNOWN:
        _KNOWN[anchors] = summed(anchors)
    return _KNOWN[anchors]
