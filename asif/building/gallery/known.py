"""The vectors of content that was encoded already, by its sha256: renamed and copied files cost no encoding."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from asif.anchorset import AnchorSet
from asif.anchorset.format.atomic_io import check_file_content
from asif.vectors import Float32, Side


class KnownVectors:
    """Find stored vectors and thumbnails in sets of one encoder and dtype; about 120 bytes for each item.

    A block is checked, every byte, before the first vector is taken from it: raises IntegrityError.
    """

    def __init__(self, sets: Sequence[AnchorSet], side: Side) -> None:
        self._sets = sets
        self._side = side
        self._starts = [np.cumsum([0, *map(len, each.blocks(side))]) for each in sets]
        self._places: dict[bytes, tuple[int, int]] = {}
        self._checked: set[str] = set()
        self._lock = Lock()
        for number, each in enumerate(sets):
            hashes = (pair.image_sha256 for block in range(len(each.manifest.blocks)) for pair in each.pairs(block))
            for row, sha256 in enumerate(hashes):
                self._places.setdefault(bytes.fromhex(sha256), (number, row))

    def find(self, sha256: str) -> Float32 | None:
        """Return the stored vector [d] of a content, or None."""
        place = self._places.get(bytes.fromhex(sha256))
        if place is None:
            return None
        number, row = place
        self._check_block(number, row)
        starts = self._starts[number]
        block = int(np.searchsorted(starts, row, side="right")) - 1
        return np.asarray(self._sets[number].blocks(self._side)[block][row - starts[block]], np.float32)

    def find_thumbnail(self, sha256: str) -> bytes | None:
        """Return the stored thumbnail of a content, or None."""
        place = self._places.get(bytes.fromhex(sha256))
        return None if place is None else self._sets[place[0]].thumbnail(place[1])

    def _check_block(self, number: int, row: int) -> None:
        entry = self._sets[number].find_block(row)
        with self._lock:
            if entry.sha256 not in self._checked:
                path = self._sets[number].folder.content_path("blocks", entry.sha256)
                check_file_content(path, entry.sha256, entry.size)
                self._checked.add(entry.sha256)
