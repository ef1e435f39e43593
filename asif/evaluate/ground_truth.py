"""Which candidates are right for which query: captions for images, and images for captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asif.vectors import Int64, Side

Right = dict[Side, list[Int64]]
"""By the side of the query, what is right for each: indices of captions for an image, of images for a caption."""


def by_position(owners: Int64, images: int) -> Right:
    """Say what is right where a caption belongs to its own image alone: `owners` [captions].

    >>> right = by_position(np.array([0, 0, 1]), 2)
    >>> [some.tolist() for some in right["image"]], [some.tolist() for some in right["text"]]
    ([[0, 1], [2]], [[0], [0], [1]])
    """
    return {"image": groups(owners, np.arange(len(owners)), images), "text": list(owners[:, None])}


def by_content(owners: Int64, keys: Int64, images: int) -> Right:
    """Say what is right where captions with equal `keys` [captions] belong to all images of any of them.

    >>> right = by_content(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    >>> [some.tolist() for some in right["image"]], [some.tolist() for some in right["text"]]
    ([[0, 1, 2], [1, 2]], [[0], [0, 1], [0, 1]])
    """
    count = int(keys.max()) + 1
    texts, owning = groups(keys, np.arange(len(keys)), count), [np.unique(some) for some in groups(keys, owners, count)]
    own = [np.unique(some) for some in groups(owners, keys, images)]
    return {  # a caption that very many share has one list, not one for each of them
        "image": [texts[some[0]] if len(some) == 1 else np.concatenate([texts[key] for key in some]) for some in own],
        "text": [owning[key] for key in keys],
    }


def numbered(texts: Sequence[str]) -> Int64:
    """Give equal texts equal numbers, from 0 in the order of their first places.

    >>> numbered(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)


def groups(places: Int64, values: Int64, count: int) -> list[Int64]:
    """Collect the values at each of `count` places, in order."""
    order = np.argsort(places, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(places, minlength=count))[:-1])


def shared_captions(owners: Int64, keys: Int64) -> int:
    """Count the captions whose words another image has too.

    >>> shared_captions(np.array([0, 0, 1]), np.array([0, 1, 1]))
    2
    """
    pairs = np.unique(np.stack([keys, owners], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0])[keys] > 1).sum())
