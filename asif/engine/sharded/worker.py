"""What a worker does for searches: it maps sets that it is asked about, and answers for its share of their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from asif.aligners import Moments, TrainedAligner
from asif.aligners.relative import CentredBlocks
from asif.anchorset import AnchorSet, Gallery
from asif.anchorset.format.folder import SetFolder
from asif.engine.aligner_choice import AlignerChoice
from asif.engine.search.block_rows import represent_items_between
from asif.engine.search.gallery_rows import GalleryRows
from asif.engine.snapshots import FittedTask, LruCache
from asif.kernels import topk_similarity
from asif.vectors import SIDES, DenseRows, FitArrays, Float32, Int64, Rows, Side, TopK

_KEPT = 4
"""Sets, and represented galleries, that a worker keeps open."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class SetPlace:
    """Name a version of a set by its folder, which all workers see at the same path."""

    folder: SetFolder
    version: str

    @classmethod
    def of(cls, opened: AnchorSet) -> SetPlace:
        """Return the place of an opened set."""
        return cls(opened.folder, opened.version)

    def open(self) -> AnchorSet:
        """Map the set."""
        return AnchorSet(self.folder, self.version)


@dataclass(frozen=True, eq=False)
class GalleryPlace:
    """Name a gallery, and how its items are represented: over which anchors, by an aligner with the arrays of a fit.

    `key` is equal for equal rows. The fit travels, because one that another machine computes may differ in last digits.
    """

    key: str
    gallery: SetPlace
    anchors: SetPlace
    choice: AlignerChoice
    arrays: FitArrays | None

    def make_task(self) -> FittedTask:
        """Open the anchors, and restore the fit."""
        anchors = self.anchors.open()
        task, aligner = FittedTask(self.choice, anchors), self.choice.aligner
        if self.arrays is not None and not isinstance(aligner, TrainedAligner):
            task.__dict__["fitted"] = aligner.restore(anchors, self.arrays)
        return task


def find_share(rows: int, number: int, workers: int) -> tuple[int, int]:
    """Return the rows of a worker, from one to another.

    >>> [find_share(10, number, 3) for number in range(3)]
    [(0, 3), (3, 6), (6, 10)]
    """
    return rows * number // workers, rows * (number + 1) // workers


class SearchWorker:
    """Answer for a share of the rows of each set; `number` counts from 0."""

    def __init__(self, number: int, workers: int) -> None:
        self._number, self._workers = number, workers
        self._sets: LruCache[SetPlace, AnchorSet] = LruCache(_KEPT)
        self._rows: LruCache[str, tuple[GalleryRows, int]] = LruCache(_KEPT)

    def find_topk(
        self, place: SetPlace, side: Side, queries: Float32, k: int, mean: NDArray[np.float64] | None
    ) -> TopK:
        """Find the k best of this worker's rows, numbered as in the set; with a mean, of the centred rows."""
        opened = self._open(place)
        start, stop = find_share(opened.count, self._number, self._workers)
        if start == stop:
            return _find_nothing(len(queries))
        blocks: Any = cut_blocks(opened.blocks(side), start, stop)
        found = topk_similarity(queries, blocks if mean is None else CentredBlocks(blocks, mean), k)
        return TopK(found.indices + start, found.scores)

    def sum_moments(self, place: SetPlace) -> Mapping[str, Any] | None:
        """Sum over the blocks that begin among this worker's rows; None if there are none."""
        opened = self._open(place)
        start, stop = find_share(opened.count, self._number, self._workers)
        image, text = (opened.blocks(side) for side in SIDES)
        starts = np.cumsum([0, *map(len, image)])[:-1]
        mine = [number for number, first in enumerate(starts.tolist()) if start <= first < stop]
        return Moments.over((image[number], text[number]) for number in mine).as_arrays() if mine else None

    def find_best(self, place: GalleryPlace, is_shared: bool, queries: Rows, k: int, among: Int64 | None) -> TopK:
        """Find the k best of this worker's items, of all or `among` some rows of the gallery."""
        rows, start = self._represent(place, is_shared)
        stop = start + len(rows)
        mine = None if among is None else among[(among >= start) & (among < stop)] - start
        if start == stop or (mine is not None and not len(mine)):
            return _find_nothing(len(queries))
        found = rows.find_best(queries, k, mine)
        return TopK(found.indices + start, found.scores)

    def represent(self, place: GalleryPlace) -> None:
        """Represent this worker's items, before they are searched."""
        self._represent(place, True)

    def take_row(self, place: GalleryPlace, row: int) -> Rows | None:
        """Return the represented item at a row of the gallery; None if another worker has it."""
        rows, start = self._represent(place, True)
        return rows.take_row(row - start) if start <= row < start + len(rows) else None

    def _open(self, place: SetPlace) -> AnchorSet:
        return _keep(self._sets, place, place.open)

    def _represent(self, place: GalleryPlace, is_shared: bool) -> tuple[GalleryRows, int]:
        """Return this worker's items, in the space of the aligner or in that of their encoder, and the first row."""

        def make() -> tuple[GalleryRows, int]:
            gallery = Gallery.of(place.gallery.open())
            start, stop = find_share(len(gallery), self._number, self._workers)
            if start == stop:
                return GalleryRows([]), start
            if is_shared:
                return GalleryRows(represent_items_between(gallery, place.make_task(), start, stop)), start
            gallery.check_vectors()
            return GalleryRows([DenseRows(block) for block in cut_blocks(gallery.vectors, start, stop)]), start

        return _keep(self._rows, f"{place.key} {is_shared}", make)


def _keep(cache: LruCache[Any, _T], key: Any, make: Callable[[], _T]) -> _T:
    found = cache.get(key)
    if found is None:
        found = make()
        cache.put(key, found)
    return found


def cut_blocks(blocks: list[NDArray[Any]], start: int, stop: int) -> list[NDArray[Any]]:
    """Return the rows from `start` up to `stop` of blocks, as views.

    >>> [block.tolist() for block in cut_blocks([np.arange(3), np.arange(3, 6)], 2, 5)]
    [[2], [3, 4]]
    """
    found, first = [], 0
    for block in blocks:
        begin, end = max(start - first, 0), min(stop - first, len(block))
        if begin < end:
            found.append(block[begin:end])
        first += len(block)
    return found


def _find_nothing(queries: int) -> TopK:
    return TopK(np.empty((queries, 0), np.int64), np.empty((queries, 0), np.float32))
