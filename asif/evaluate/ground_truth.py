"""Relevant candidates of a retrieval: the captions of an image, and the images of a caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asif.vectors import Int64, Side

RelevantCandidates = dict[Side, list[Int64]]
"""By the side of the query, the relevant candidates of each: caption indices for images, image indices for captions."""


def find_relevant_by_position(owners: Int64, images: int) -> RelevantCandidates:
    """Return the relevant candidates if a caption belongs to its own image alone: `owners` [captions] are images.

    >>> right = find_relevant_by_position(np.array([0, 0, 1]), 2)
    >>> [found.tolist() for found in right["image"]], [found.tolist() for found in right["text"]]
    ([[0, 1], [2]], [[0], [0], [1]])
    """
    return {"image": _group_by_place(owners, np.arange(len(owners)), images), "text": list(owners[:, None])}


def find_relevant_by_content(owners: Int64, keys: Int64, images: int) -> RelevantCandidates:
    """Return the relevant candidates if captions with equal `keys` [captions] belong to the images of all of them.

    >>> right = find_relevant_by_content(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    >>> [found.tolist() for found in right["image"]], [found.tolist() for found in right["text"]]
    ([[0, 1, 2], [1, 2]], [[0], [0, 1], [0, 1]])
    """
    count = int(keys.max()) + 1
    texts, owning = (
        _group_by_place(keys, np.arange(len(keys)), count),
        [np.unique(some) for some in _group_by_place(keys, owners, count)],
    )
    own = [np.unique(some) for some in _group_by_place(owners, keys, images)]
    return {  # a caption that many images share has one list, not one for each of them
        "image": [texts[some[0]] if len(some) == 1 else np.concatenate([texts[key] for key in some]) for some in own],
        "text": [owning[key] for key in keys],
    }


def number_distinct_texts(texts: Sequence[str]) -> Int64:
    """Number the distinct texts from 0, in the order in which they first appear: [texts].

    >>> number_distinct_texts(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)


def _group_by_place(places: Int64, values: Int64, count: int) -> list[Int64]:
    """Split values by their place, from 0 to `count`, in order."""
    order = np.argsort(places, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(places, minlength=count))[:-1])


def count_shared_captions(owners: Int64, keys: Int64) -> int:
    """Count the captions whose text another image has, too.

    >>> count_shared_captions(np.array([0, 0, 1]), np.array([0, 1, 1]))
    2
    """
    pairs = np.unique(np.stack([keys, owners], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0])[keys] > 1).sum())
