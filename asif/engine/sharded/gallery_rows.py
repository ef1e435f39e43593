"""The items of a gallery as rows that workers have, and the exact search over them."""

from __future__ import annotations

import hashlib

from asif.aligners import TrainedAligner
from asif.anchorset import AnchorSet, Gallery
from asif.anchorset.format.fit_cache import hash_anchors
from asif.engine.search.gallery_rows import GalleryRows
from asif.engine.sharded.worker import GalleryPlace, SetPlace
from asif.engine.sharded.workers import SearchWorkers
from asif.engine.snapshots import FittedTask
from asif.vectors import Int64, Rows, TopK, canonical_json


def open_sharded_rows(gallery: Gallery, task: FittedTask, workers: SearchWorkers, *, is_shared: bool) -> GalleryRows:
    """Return the items of a gallery as rows that workers have, represented over the anchors of a task.

    In their own space no aligner is fitted.
    """
    anchors = task.anchors
    assert isinstance(anchors, AnchorSet)  # the engine refuses views
    trained = isinstance(task.choice.aligner, TrainedAligner)
    arrays = task.fitted.arrays() if is_shared and not trained else None
    described = {
        "gallery": gallery.opened.exactly,
        "files": hash_anchors(gallery.opened.manifest),
        "anchors": hash_anchors(anchors.manifest),
        "aligner": [task.choice.aligner.name, task.choice.aligner.parameters, task.choice.hubness.parameters],
    }
    key = hashlib.sha256(canonical_json(described)).hexdigest()
    place = GalleryPlace(key, SetPlace.of(gallery.opened), SetPlace.of(anchors), task.choice, arrays)
    rows = ShardedGalleryRows(place, gallery, workers, is_shared=is_shared)
    if is_shared:
        workers.call("represent", place)
    return rows


class ShardedGalleryRows(GalleryRows):
    """Search the items of a gallery by workers, each with a share; `is_shared` tells in which space, as queries do."""

    def __init__(self, place: GalleryPlace, gallery: Gallery, workers: SearchWorkers, *, is_shared: bool) -> None:
        super().__init__([])
        self._place, self._gallery, self._workers, self._is_shared = place, gallery, workers, is_shared

    def __len__(self) -> int:
        return len(self._gallery)

    def take_row(self, row: int) -> Rows:
        """Return a single row."""
        found = [each for each in self._workers.call("take_row", self._place, row) if each is not None]
        if len(found) != 1:
            raise IndexError(f"no row {row} behind the last one")
        one: Rows = found[0]
        return one

    def find_best(self, queries: Rows, k: int, among: Int64 | None = None) -> TopK:
        """Find the k rows most similar to each query, of all or `among` some [m], ascending: min(k, m) entries."""
        return self._workers.find_best(k, "find_best", self._place, self._is_shared, queries, k, among)
