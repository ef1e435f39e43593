"""Galleries over anchors: their items as rows of a fitted aligner, and the anchors that scores are compared with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asif.aligners.hubness import append_bias
from asif.aligners.protocol import uses_texts
from asif.aligners.sampling import choose_evenly_spaced, represent_leave_one_out
from asif.anchorset import Gallery
from asif.anchorset.format.fit_cache import hash_anchors
from asif.compare import Candidates
from asif.engine.search.cells import Cells
from asif.engine.search.chance import ChanceCurve
from asif.engine.search.gallery_rows import GalleryRows
from asif.engine.search.results import SearchOptions
from asif.engine.search.row_cache import CELLS, ITEMS, find_or_make_arrays, find_or_make_rows
from asif.engine.snapshots import FittedTask, LruCache, Snapshot
from asif.errors import UsageError
from asif.kernels import ScoredRows
from asif.vectors import (
    OTHER_SIDE,
    DenseRows,
    Embeddings,
    FitArrays,
    Float32,
    FusedRows,
    Int64,
    Rows,
    Side,
    Texts,
    gather_rows,
    join_rows,
)

_log = logging.getLogger(__name__)

_CHANCE_ANCHORS = 16_384
_FILTERS_KEPT = 16
_MANY_ITEMS = 5_000
"""From here on people wait long enough to be told why."""
_SAMPLE_QUERIES = 256


@dataclass
class RepresentedGallery:
    """Hold a gallery as seen by one task over some anchors.

    Queries of the other side, or of both, are compared in the space that the aligner makes, in `shared`; queries of the
    gallery's own side alone in the space of its encoder, in `own`. Both are made when they are first needed.
    """

    gallery: Gallery
    task: FittedTask
    _matches: LruCache[str, Int64] = field(default_factory=lambda: LruCache(_FILTERS_KEPT))

    @property
    def side(self) -> Side:
        return self.gallery.side

    @cached_property
    def shared(self) -> GalleryRows:
        """The items as rows of the aligner, each with the negative bias of the hubness correction as its last entry."""
        rows = find_or_make_rows(
            self.gallery.opened, ITEMS, self.task, self.side, lambda: represent_items(self.gallery, self.task)
        )
        return GalleryRows([rows], self.task.kernel)

    @cached_property
    def cells(self) -> Cells:
        """Cells of the rows of `shared`; captions, or images, of anchors are the sample queries for their recall.

        Raises UsageError for an aligner whose rows are not dense.
        """
        task, other = self.task, OTHER_SIDE[self.side]
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
        return "shared" in self.__dict__

    @cached_property
    def own(self) -> GalleryRows:
        """The vectors of the items, after a check of every byte of them."""
        self.gallery.check_vectors()
        return GalleryRows([DenseRows(block) for block in self.gallery.vectors], self.task.kernel)

    @cached_property
    def _sampled_anchors(self) -> Int64:
        return choose_evenly_spaced(self.task.anchors.count, _CHANCE_ANCHORS)

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
        return self._take_anchors(self.side)

    @cached_property
    def _facing_anchors(self) -> ScoredRows:
        return self._take_anchors(OTHER_SIDE[self.side])

    def _take_anchors(self, side: Side) -> ScoredRows:
        anchors = gather_rows(self.task.anchors.blocks(side), self._sampled_anchors)
        return ScoredRows.of(DenseRows(anchors.astype(np.float32)))

    def measure_chances(self, queries: Rows, facing: Sequence[Float32 | None], shared: bool) -> list[ChanceCurve]:
        """Score the anchors of other pairs for query rows, of `shared` or of `own`.

        `facing` [d] is what a query is about, on the other side than the gallery's. The half of the pairs that is most
        like it there may be about the same, and is left out; nothing is if it is None.
        """
        scores = (self._shared_anchors if shared else self._own_anchors).score(queries)
        about = [each for each in facing if each is not None]
        if not about:
            return [ChanceCurve(row) for row in scores]
        like = iter(self._facing_anchors.score(DenseRows(np.stack(about))))
        half = (scores.shape[1] + 1) // 2
        return [
            ChanceCurve(row if each is None else row[np.argsort(next(like), kind="stable")[:half]])
            for row, each in zip(scores, facing, strict=True)
        ]

    def read_bias(self, row: int) -> float:
        """Return what the hubness correction takes off the scores of an item."""
        if self.task.choice.hubness.method == "none":
            return 0.0
        (rows,) = self.shared.blocks
        first = rows.parts[0] if isinstance(rows, FusedRows) else rows
        if isinstance(first, DenseRows):
            return -float(first.values[row, -1])
        return -float(first.values[row][first.indices[row] == first.width - 1].sum())

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


def find_represented(snapshot: Snapshot, gallery: Gallery) -> RepresentedGallery:
    """Return a gallery as seen by the search over a snapshot's anchors; that of the last few calls is kept."""
    key = (gallery.opened.exactly, hash_anchors(gallery.opened.manifest))
    found = snapshot.galleries.get(key)
    if found is None:
        found = RepresentedGallery(gallery, snapshot.tasks["search"])
        snapshot.galleries.put(key, found)
    return found


def represent_items(gallery: Gallery, task: FittedTask) -> Rows:
    """Represent all items, a block at a time; raises IntegrityError for a block that was changed on disk."""
    gallery.check_vectors()
    if len(gallery) >= _MANY_ITEMS:
        _log.info("representing %s items of %s over %s, once", f"{len(gallery):,}", gallery.ref, task.anchors.ref)
    rows, start = [], 0
    for block in gallery.vectors:
        texts = read_texts(gallery, np.arange(start, start + len(block)), task)
        rows.append(represent_vectors(block, gallery.side, task, texts))
        start += len(block)
    return join_rows(rows)


def represent_vectors(vectors: NDArray[Any], side: Side, task: FittedTask, texts: Texts | None = None) -> Rows:
    """Represent unit vectors [n, d] as rows of an aligner, with the negative hubness bias as the last entry."""
    rows = task.fitted.represent(side, Embeddings(np.asarray(vectors, np.float32), texts), task.kernel)
    return append_biases(rows, side, task)


def read_texts(gallery: Gallery, rows: Int64, task: FittedTask) -> Texts | None:
    """Read the texts of items at `rows` for an aligner that compares words; None for others, and for images."""
    if gallery.side == "image" or not uses_texts(task.fitted):
        return None
    return tuple(item.captions for item in gallery.records(rows))


def append_biases(rows: Rows, side: Side, task: FittedTask) -> Rows:
    """Give rows of candidates the negative bias of the hubness correction as their last entry, if there is one."""
    corrected = task.correct_hubness(Candidates(rows), OTHER_SIDE[side])
    return rows if corrected.biases is None else append_bias(rows, -corrected.biases)


def extend_query(query: Rows, task: FittedTask) -> Rows:
    """Give query rows the entry that adds the bias of an item to its score."""
    corrected = task.choice.hubness.method != "none"
    return append_bias(query, np.ones(len(query), np.float32)) if corrected else query
