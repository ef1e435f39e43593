"""Galleries over anchors: their items as rows of a fitted aligner, and the anchors that scores are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from asif.aligners.hubness import append_bias
from asif.aligners.protocol import reads_tokens
from asif.aligners.sampling import choose_evenly_spaced, represent_leave_one_out
from asif.anchorset import Gallery
from asif.anchorset.format.fit_cache import hash_anchors
from asif.engine.search.block_rows import Progress, append_biases, ignore_progress, represent_items
from asif.engine.search.cells import Cells
from asif.engine.search.chance import ChanceCurve, measure_decay, take_held_out
from asif.engine.search.content_rows import make_worker_error, represent_contents
from asif.engine.search.gallery_rows import GalleryRows
from asif.engine.search.results import SearchOptions
from asif.engine.search.row_cache import CELLS, find_or_make_arrays, find_or_make_rows
from asif.engine.snapshots import FittedTask, LruCache, Snapshot
from asif.errors import UsageError
from asif.kernels import ScoredRows
from asif.vectors import (
    OTHER_SIDE,
    DenseRows,
    FitArrays,
    Float32,
    FusedRows,
    Int64,
    Rows,
    Side,
    gather_rows,
)

if TYPE_CHECKING:
    from asif.engine.sharded.workers import SearchWorkers

_CHANCE_ANCHORS = 16_384
_FILTERS_KEPT = 16
_SAMPLE_QUERIES = 256
_DECAY_QUERIES = 64


@dataclass
class RepresentedGallery:
    """Hold a gallery as seen by one task over some anchors.

    Queries of the other side, or of both, are compared in the space that the aligner makes, in `shared`; queries of the
    gallery's own side alone in the space of its encoder, in `own`. Both are made when they are first needed.
    """

    gallery: Gallery
    task: FittedTask
    progress: Progress = ignore_progress
    workers: SearchWorkers | None = None
    """What has the items, each a share, if it is not this process."""
    _shared: GalleryRows | None = None
    _lock: Lock = field(default_factory=Lock)
    _matches: LruCache[str, Int64] = field(default_factory=lambda: LruCache(_FILTERS_KEPT))

    @property
    def side(self) -> Side:
        return self.gallery.side

    @property
    def shared(self) -> GalleryRows:
        """The items as rows of the aligner, each with the negative bias of the hubness correction as its last entry.

        Threads that need them at the same time make them once; `progress` is called meanwhile.
        """
        with self._lock:
            if self._shared is None and self.workers is not None:
                self._shared = self._shard(self.workers, is_shared=True)
            if self._shared is None:
                represent = represent_contents if reads_tokens(self.task.fitted) else represent_items
                rows = represent(self.gallery, self.task, self.progress)
                self._shared = GalleryRows(rows, self.task.kernel)
            return self._shared

    def _shard(self, workers: SearchWorkers, *, is_shared: bool) -> GalleryRows:
        """Return the items as rows that workers have."""
        from asif.engine.sharded.gallery_rows import open_sharded_rows

        if is_shared and reads_tokens(self.task.fitted):
            raise make_worker_error(self.task)
        return open_sharded_rows(self.gallery, self.task, workers, is_shared=is_shared)

    @cached_property
    def cells(self) -> Cells:
        """Cells of the rows of `shared`; captions, or images, of anchors are the sample queries for their recall.

        Raises UsageError for an aligner whose rows are not dense.
        """
        task, other = self.task, OTHER_SIDE[self.side]
        if self.workers is not None:
            raise UsageError("an approximate search by the engine ray", "one of the two", "leave --approximate out")
        if not all(isinstance(block, DenseRows) for block in self.shared.blocks):
            raise UsageError(
                f"an approximate search with the aligner {task.choice.aligner.name}, whose rows are not dense",
                "procrustes, ridge or cca alone",
                "pass --aligner cca, or search exactly",
            )

        def divide() -> FitArrays:
            samples = represent_leave_one_out(task.fitted, task.anchors, other, _SAMPLE_QUERIES, task.kernel)
            queries = extend_query(samples, task)
            assert isinstance(queries, DenseRows)
            return Cells.of(self.shared, queries).to_arrays()

        return Cells.from_arrays(find_or_make_arrays(self.gallery.opened, CELLS, task, self.side, divide))

    @property
    def is_represented(self) -> bool:
        """Tell whether a search has used `shared`."""
        return self._shared is not None

    @cached_property
    def own(self) -> GalleryRows:
        """The vectors of the items, after a check of every byte of them."""
        if self.workers is not None:
            return self._shard(self.workers, is_shared=False)
        self.gallery.check_vectors()
        return GalleryRows([DenseRows(block) for block in self.gallery.vectors], self.task.kernel)

    @cached_property
    def _shared_anchors(self) -> ScoredRows:
        """The anchors' side of the gallery's kind, leave-one-out, with biases as the items have them."""
        return ScoredRows.of(
            find_or_make_rows(self.task.anchors, "held-out anchors", self.task, self.side, self._represent_anchors)
        )

    def _represent_anchors(self) -> Rows:
        task = self.task
        rows = represent_leave_one_out(task.fitted, task.anchors, self.side, _CHANCE_ANCHORS, task.kernel)
        return append_biases(rows, self.side, task)

    @cached_property
    def _own_anchors(self) -> ScoredRows:
        chosen = choose_evenly_spaced(self.task.anchors.count, _CHANCE_ANCHORS)
        return ScoredRows.of(DenseRows(gather_rows(self.task.anchors.blocks(self.side), chosen).astype(np.float32)))

    @cached_property
    def _facing_anchors(self) -> ScoredRows:
        return ScoredRows.of(self._face_anchors(_CHANCE_ANCHORS))

    def _face_anchors(self, most: int) -> DenseRows:
        """Return at most `most` anchors of the other side in the space of the vectors that queries come as.

        That of its encoder, or for an aligner of tokens the common one, with a zero as the last entry.
        """
        task, other = self.task, OTHER_SIDE[self.side]
        if reads_tokens(task.fitted):
            rows = represent_leave_one_out(task.fitted, task.anchors, other, most, task.kernel)
            marked = append_bias(rows, np.zeros(len(rows), np.float32))
            assert isinstance(marked, DenseRows)
            return marked
        chosen = choose_evenly_spaced(task.anchors.count, most)
        return DenseRows(gather_rows(task.anchors.blocks(other), chosen).astype(np.float32))

    @cached_property
    def _decay(self) -> float:
        """How fast chances fall off, in the space of `shared`, with captions, or images, of anchors as queries."""
        task, other = self.task, OTHER_SIDE[self.side]

        def measure() -> FitArrays:
            queries = represent_leave_one_out(task.fitted, task.anchors, other, _DECAY_QUERIES, task.kernel)
            scores = self._shared_anchors.score(extend_query(queries, task))
            likeness = self._facing_anchors.score(self._face_anchors(_DECAY_QUERIES))
            return {"decay": np.array([measure_decay(map(take_held_out, scores, likeness))])}

        kept = find_or_make_arrays(task.anchors, "decay of chances", task, self.side, measure)
        return float(kept["decay"][0])

    def measure_chances(self, queries: Rows, facing: Sequence[Float32 | None], shared: bool) -> list[ChanceCurve]:
        """Score the anchors of other pairs for query rows, of `shared` or of `own`.

        `facing` [d] is what a query is about, on the other side than the gallery's. The half of the pairs that is most
        like it there may be about the same, and is left out, see `take_held_out`; nothing is if it is None.
        """
        scores = (self._shared_anchors if shared else self._own_anchors).score(queries)
        about = [each for each in facing if each is not None]
        if not about:
            return [ChanceCurve(row) for row in scores]
        likeness = iter(self._facing_anchors.score(DenseRows(np.stack(about))))
        return [
            ChanceCurve(row) if each is None else ChanceCurve(take_held_out(row, next(likeness)), self._decay)
            for row, each in zip(scores, facing, strict=True)
        ]

    def read_bias(self, row: int) -> float:
        """Return what the hubness correction takes off the scores of an item."""
        if self.task.choice.hubness.method == "none":
            return 0.0
        rows = self.shared.take_row(row)
        first = rows.parts[0] if isinstance(rows, FusedRows) else rows
        if isinstance(first, DenseRows):
            return -float(first.values[0, -1])
        return -float(first.values[first.indices == first.width - 1].sum())

    def take_item(self, row: int) -> Rows:
        """Return an item as a row of the aligner, without its bias."""
        rows = self.shared.take_row(row)
        if self.task.choice.hubness.method == "none":
            return rows
        assert isinstance(rows, DenseRows)  # of aligners of tokens, for which it is called
        return DenseRows(rows.values[:, :-1])

    def find_among(self, options: SearchOptions) -> Int64 | None:
        """Return the rows that a search looks at, which are those of both expressions; None for all."""
        conditions = [each for each in (options.within, options.where) if each is not None]
        rows = [self.find_matches(each) for each in conditions]
        return reduce(np.intersect1d, rows) if rows else None

    def find_matches(self, where: str) -> Int64:
        """Return the rows of the items that match an expression; the last few answers are kept."""
        rows = self._matches.get(where)
        if rows is None:
            rows = self.gallery.where(where)
            self._matches.put(where, rows)
        return rows


def find_represented(snapshot: Snapshot, gallery: Gallery, progress: Progress = ignore_progress) -> RepresentedGallery:
    """Return a gallery as seen by the search over a snapshot's anchors; that of the last few calls is kept."""
    key = (gallery.opened.exactly, hash_anchors(gallery.opened.manifest))
    found = snapshot.galleries.get_or_put(
        key, lambda: RepresentedGallery(gallery, snapshot.tasks["search"], workers=snapshot.workers)
    )
    found.progress = progress
    return found


def extend_query(query: Rows, task: FittedTask) -> Rows:
    """Give query rows the entry that adds the bias of an item to its score."""
    corrected = task.choice.hubness.method != "none"
    return append_bias(query, np.ones(len(query), np.float32)) if corrected else query
