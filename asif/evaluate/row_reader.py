"""Rows of a data set on their way into an evaluation: how many, which were refused, and when that is too many."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from asif.building import BadRowCounter, Tolerance
from asif.encoders.images import read_image_bytes
from asif.errors import BadImage, InputRefused
from asif.pairs import Pair, Place, Reject
from asif.vectors import canonical_json


@dataclass(frozen=True)
class Terms:
    """What an evaluation does with rows: how many it reads, how many bad ones it puts up with, whom it tells.

    `progress` is called with the number of rows done, `rejected` with every row that is left out.
    """

    limit: int | None = None
    max_bad_rows: Tolerance = field(default_factory=Tolerance)
    progress: Callable[[int], None] = lambda rows: None
    rejected: Callable[[Reject], None] = lambda reject: None


class Intake:
    """Count the rows of one data set, in = kept + rejected, and hash what is kept."""

    def __init__(self, rows: int, terms: Terms) -> None:
        self.rows = rows if terms.limit is None else min(rows, terms.limit)
        self.images: set[str] = set()
        self._terms = terms
        self._bad = BadRowCounter(terms.max_bad_rows.allowed(self.rows), self.rows)
        self._kept = self._rejected = 0
        self._digest = hashlib.sha256()

    def read(self, items: Iterator[Pair | Reject]) -> Iterator[tuple[Pair, bytes | None, str]]:
        """Yield the pairs with their image, encoded, and its sha256; rejects are counted.

        Where the image was precomputed it is None, and the sha256 that of the vector in float32, as anchors have it.
        """
        for item in islice(items, self.rows):
            if isinstance(item, Reject):
                self.reject(item)
                continue
            if item.image_embedding is not None:
                vector = np.ascontiguousarray(item.image_embedding, np.float32).tobytes()
                yield item, None, hashlib.sha256(vector).hexdigest()
                continue
            assert item.image is not None  # or it has vectors
            try:
                content = read_image_bytes(item.image)
            except BadImage as error:
                self.reject(Reject(item.row, item.id, error.came))
            else:
                yield item, content, hashlib.sha256(content).hexdigest()

    def keep(self, pair: Pair, image: str) -> None:
        """Count a pair that is used; `image` is the sha256 of its image."""
        self._kept += 1
        self.images.add(image)
        self._digest.update(canonical_json([image, pair.label or list(pair.captions)]))
        self._terms.progress(self._kept + self._rejected)

    def reject(self, reject: Reject) -> None:
        """Count a row that is left out; raises InputRefused when it is one bad row too many."""
        self._rejected += 1
        self._terms.rejected(reject)
        self._terms.progress(self._kept + self._rejected)
        self._bad.count(reject)

    def close(self, path: Place) -> tuple[dict[str, int], str]:
        """Return the counts, and the sha256 over the images and labels or captions of the rows that were kept.

        Raises InputRefused where none was.
        """
        if not self._kept:
            raise InputRefused(f"no row of {path} can be used", "at least one", "look at the reasons of the rejects")
        counts = {"in": self._kept + self._rejected, "kept": self._kept, "rejected": self._rejected}
        return counts, self._digest.hexdigest()
