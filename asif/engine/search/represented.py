"""Galleries over anchors: their items as rows of a fitted aligner, and the anchors that scores are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from asif.aligners.hubness import append_bias
from asif.aligners.relative import compute_default_k
from asif.aligners.sampling import choose_evenly_spaced, represent_leave_one_out
from asif.anchorset import Gallery
from asif.anchorset.format.fit_cache import hash_anchors
from asif.compare import Candidates, score_candidates
from asif.engine.search.chance import ChanceCurve
from asif.engine.search.gallery_rows import GalleryRows
from asif.engine.snapshots import FittedTask, Snapshot
from asif.kernels import topk_similarity
from asif.vectors import DenseRows, Embeddings, Float32, Int64, Rows, Side, gather_rows

OTHER_SIDE: dict[Side, Side] = {"image": "text", "text": "image"}
_CHANCE_ANCHORS = 16_384
_FILTERS_KEPT = 16


@dataclass
class RepresentedGallery:
    """Hold a gallery as seen by one task over some anchors.

    Queries of the other side, or of both, are compared in the space that the aligner makes, in `shared`; queries of the
    gallery's own side alone in the space of its encoder, in `own`. Both are made when they are first needed.
    """

    gallery: Gallery
    task: FittedTask
    represent_blocks: Callable[[Gallery, FittedTask], list[Rows]]
    _matches: dict[str, Int64] = field(default_factory=dict)

    @property
    def side(self) -> Side:
        return self.gallery.side

    @cached_property
    def shared(self) -> GalleryRows:
        """The items as rows of the aligner, each with the negative bias of the hubness correction as its last entry."""
        return GalleryRows(self.represent_blocks(self.gallery, self.task), self.task.kernel)

    @cached_property
    def own(self) -> GalleryRows:
        """The vectors of the items, after a check of every byte of them."""
        self.gallery.check_vectors()
        return GalleryRows([DenseRows(block) for block in self.gallery.vectors], self.task.kernel)

    @cached_property
    def _sampled_anchors(self) -> Int64:
        return choose_evenly_spaced(self.task.anchors.count, _CHANCE_ANCHORS)

    @cached_property
    def _shared_anchors(self) -> Candidates:
        """The anchors' side of the gallery's kind as candidates, leave-one-out, corrected as the items are."""
        rows = represent_leave_one_out(
            self.task.fitted, self.task.anchors, self.side, _CHANCE_ANCHORS, self.task.kernel
        )
        return self.task.correct_hubness(Candidates(rows), OTHER_SIDE[self.side])

    @cached_property
    def _own_anchors(self) -> Float32:
        anchors = self.task.anchors.blocks(self.side)
        return gather_rows(anchors, self._sampled_anchors).astype(np.float32)

    @cached_property
    def _facing_anchors(self) -> Float32:
        anchors = self.task.anchors.blocks(OTHER_SIDE[self.side])
        return gather_rows(anchors, self._sampled_anchors).astype(np.float32)

    def measure_chance(self, query: Rows, facing: Float32 | None) -> ChanceCurve:
        """Score the anchors of other pairs for a query row, of `shared` or, with `facing` None, of `own`.

        `facing` [m, d] are the vectors of the query's parts on the other side. The pairs that are nearest to them
        there, as many as the aligner `asif` takes, may be about the same as the query: they are not other pairs.
        """
        if facing is None:
            assert isinstance(query, DenseRows)
            own = topk_similarity(query.values, [self._own_anchors], len(self._own_anchors), engine=self.task.kernel)
            return ChanceCurve(own.scores[0])
        candidates = self._shared_anchors
        scores = score_candidates(query, candidates)[0]
        other = np.ones(len(scores), bool)
        near = compute_default_k(len(scores))
        if len(facing):
            nearest = topk_similarity(facing, [self._facing_anchors], near, engine=self.task.kernel)
            other[nearest.indices.ravel()] = False
        return ChanceCurve(scores[other])

    def find_matches(self, where: str) -> Int64:
        """Return the rows of the items that match an expression; the last few answers are kept."""
        rows = self._matches.get(where)
        if rows is None:
            rows = self.gallery.where(where)
            if len(self._matches) >= _FILTERS_KEPT:
                self._matches.pop(next(iter(self._matches)), None)
            self._matches[where] = rows
        return rows


def find_represented(snapshot: Snapshot, gallery: Gallery) -> RepresentedGallery:
    """Return a gallery as seen by the search over a snapshot's anchors; that of the last few calls is kept."""
    key = (gallery.opened.exactly, hash_anchors(gallery.opened.manifest))
    found = snapshot.galleries.get(key)
    if found is None:
        found = RepresentedGallery(gallery, snapshot.tasks["search"], represent_in_memory)
        snapshot.galleries.put(key, found)
    return found


def represent_in_memory(gallery: Gallery, task: FittedTask) -> list[Rows]:
    """Represent all items, a block at a time; raises IntegrityError for a block that was changed on disk."""
    gallery.check_vectors()
    return [represent_block(block, gallery.side, task) for block in gallery.vectors]


def represent_block(vectors: Float32, side: Side, task: FittedTask) -> Rows:
    """Represent unit vectors [n, d] as rows of an aligner, with the negative hubness bias as the last entry."""
    rows = task.fitted.represent(side, Embeddings(np.asarray(vectors, np.float32)), task.kernel)
    corrected = task.correct_hubness(Candidates(rows), OTHER_SIDE[side])
    return rows if corrected.biases is None else append_bias(rows, -corrected.biases)


def extend_query(query: Rows, task: FittedTask) -> Rows:
    """Give query rows the entry that adds the bias of an item to its score."""
    corrected = task.choice.hubness.method != "none"
    return append_bias(query, np.ones(len(query), np.float32)) if corrected else query
