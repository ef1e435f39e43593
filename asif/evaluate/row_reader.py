"""Read the rows of a data set for an evaluation: count them, list rejects, stop at too many of these."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from asif.building import BadRowCounter, Tolerance
from asif.encoders.images import read_image_bytes
from asif.errors import BadMedia, InputRefused
from asif.pairs import Pair, Place, Reject
from asif.vectors import canonical_json


@dataclass(frozen=True)
class RowLimits:
    """How many rows an evaluation reads, how many bad ones it tolerates, and its callbacks.

    `progress` is called with the number of rows done, `rejected` with every row that is left out.
    """

    limit: int | None = None
    max_bad_rows: Tolerance = field(default_factory=Tolerance)
    progress: Callable[[int], None] = lambda rows: None
    rejected: Callable[[Reject], None] = lambda reject: None


class RowReader:
    """Count the rows of one data set, in = kept + rejected, and hash those that are used."""

    def __init__(self, rows: int, limits: RowLimits) -> None:
        self.rows = rows if limits.limit is None else min(rows, limits.limit)
        self.images: set[str] = set()
        self._limits = limits
        self._bad = BadRowCounter(limits.max_bad_rows.allowed(self.rows), self.rows)
        self._kept = self._rejected = 0
        self._digest = hashlib.sha256()

    def read(self, items: Iterator[Pair | Reject]) -> Iterator[tuple[Pair, bytes | None, str]]:
        """Yield the pairs with the bytes of their image and their sha256; rejects are counted.

        The bytes are None for a precomputed image, and the sha256 is that of the float32 vector, as in anchor sets.
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
            except BadMedia as error:
                self.reject(Reject(item.row, item.id, error.came))
            else:
                yield item, content, hashlib.sha256(content).hexdigest()

    def keep(self, pair: Pair, image: str) -> None:
        """Count a pair that is used; `image` is the sha256 of its image."""
        self._kept += 1
        self.images.add(image)
        self._digest.update(canonical_json([image, pair.label or list(pair.captions)]))
        self._limits.progress(self._kept + self._rejected)

    def reject(self, reject: Reject) -> None:
        """Count a row that is left out; raises InputRefused for one bad row too many."""
        self._rejected += 1
        self._limits.rejected(reject)
        self._limits.progress(self._kept + self._rejected)
        self._bad.count(reject)

    def close(self, path: Place) -> tuple[dict[str, int], str]:
        """Return the counts, and the sha256 over the images and labels or captions of the rows that were kept.

        Raises InputRefused if there is none.
        """
        if not self._kept:
            raise InputRefused(f"no row of {path} can be used", "at least one", "look at the reasons of the rejects")
        counts = {"in": self._kept + self._rejected, "kept": self._kept, "rejected": self._rejected}
        return counts, self._digest.hexdigest()
