"""Three modalities over one hub: inputs that anchors pair with texts become texts, which other anchors understand.

A sound is compared with the captions of its own anchors; the mean of the best ones, weighted by their scores, stands
for it as a text. What gets lost on the way is measured on the anchors themselves, each left out for itself: a caption
finds some items, its own sound finds some of the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from asif.aligners.protocol import read_captions, uses_texts
from asif.aligners.sampling import choose_evenly_spaced, represent_leave_one_out
from asif.anchorset import OpenAnchors
from asif.engine.search.gallery_rows import GalleryRows
from asif.engine.search.represented import RepresentedGallery, extend_query
from asif.engine.search.results import HubLoss
from asif.engine.snapshots import FittedTask
from asif.errors import EncoderMismatch
from asif.modality import find_modalities, name_many
from asif.vectors import Embeddings, Float32, Int64, Rows, TopK, gather_rows, normalise_rows

_CAPTIONS = 16
"""Captions that stand for an input."""
_POWER = 3
"""The exponent of their scores as weights, as that of the aligner asif."""
_SAMPLES = 64
_COMPARED = 10
"""Items that a caption and its own input find, to measure the loss."""
_CAPTIONS_SHOWN = 3


@dataclass
class Hub:
    """Turn vectors of the first half of some anchors' pairs into vectors of texts."""

    task: FittedTask
    _losses: dict[tuple[str, str], HubLoss] = field(default_factory=dict, repr=False)

    @property
    def anchors(self) -> OpenAnchors:
        return self.task.anchors

    @cached_property
    def _captions(self) -> GalleryRows:
        """The texts of all anchors as rows of the aligner."""
        texts = read_captions(self.anchors) if uses_texts(self.task.fitted) else None
        rows: list[Rows] = []
        first = 0
        for block in self.anchors.blocks("text"):
            own = None if texts is None else tuple(texts[first : first + len(block)])
            embeddings = Embeddings(np.asarray(block, np.float32), own)
            rows.append(self.task.fitted.represent("text", embeddings, self.task.kernel))
            first += len(block)
        return GalleryRows(rows, self.task.kernel)

    def find_texts(self, vectors: Float32) -> tuple[Float32, list[tuple[str, ...]]]:
        """Return a unit vector [n, dt] of a text for each vector [n, di], and the captions that it is made of."""
        rows = self.task.fitted.represent("image", Embeddings(vectors), self.task.kernel)
        found = self._captions.find_best(rows, _CAPTIONS)
        return self._mix(found), [self._name_captions(indices) for indices in found.indices]

    def _name_captions(self, indices: Int64) -> tuple[str, ...]:
        records = self.anchors.records(indices)
        return tuple(dict.fromkeys(record.captions[0] for record in records if record.captions))[:_CAPTIONS_SHOWN]

    def _mix(self, found: TopK) -> Float32:
        """Return the means of the best captions [n, dt]; the best one alone where no score is positive."""
        mixed = np.empty((len(found.indices), self.anchors.dims["text"]))
        for row, (indices, scores) in enumerate(zip(found.indices, found.scores, strict=True)):
            weights = np.maximum(scores.astype(np.float64), 0) ** _POWER
            weights = weights if weights.any() else np.eye(1, len(weights))[0]
            ascending = np.argsort(indices)
            vectors = gather_rows(self.anchors.blocks("text"), indices[ascending]).astype(np.float64)
            mixed[row] = weights[ascending] @ vectors
        return normalise_rows(mixed)

    def measure_loss(self, represented: RepresentedGallery) -> HubLoss:
        """Measure what gets lost between a caption and its own input, on anchors that are left out for themselves."""
        key = (represented.gallery.ref, represented.task.anchors.ref)
        if key not in self._losses:
            self._losses[key] = self._measure(represented)
        return self._losses[key]

    def _measure(self, represented: RepresentedGallery) -> HubLoss:
        own = choose_evenly_spaced(self.anchors.count, _SAMPLES)
        rows = represent_leave_one_out(self.task.fitted, self.anchors, "image", _SAMPLES, self.task.kernel)
        wide = self._captions.find_best(rows, _CAPTIONS + 1)
        mixed = self._mix(_drop_own(wide, own))
        captions = gather_rows(self.anchors.blocks("text"), own).astype(np.float32)
        compared = min(_COMPARED, len(represented.gallery))
        by_input, by_caption = (_find_items(represented, each, compared) for each in (mixed, captions))
        kept = [len(np.intersect1d(*both)) / compared for both in zip(by_input, by_caption, strict=True)]
        cosines = (mixed.astype(np.float64) * captions).sum(axis=1)
        return HubLoss(float(np.mean(kept)), float(cosines.mean()), compared, len(own))


def _drop_own(found: TopK, own: Int64) -> TopK:
    """Leave out anchor own[i] of row i, or the last entry if it is not among them."""
    kept = np.argsort(found.indices == own[:, None], axis=1, kind="stable")[:, : found.indices.shape[1] - 1]
    return TopK(np.take_along_axis(found.indices, kept, 1), np.take_along_axis(found.scores, kept, 1))


def _find_items(represented: RepresentedGallery, texts: Float32, count: int) -> Int64:
    """Return the items that texts [n, dt] find, [n, count]."""
    task = represented.task
    words = ((),) * len(texts) if uses_texts(task.fitted) else None
    rows = task.fitted.represent("text", Embeddings(texts, words), task.kernel)
    return represented.shared.find_best(extend_query(rows, task), count).indices


def check_hub(hub: OpenAnchors, anchors: OpenAnchors) -> None:
    """Raise EncoderMismatch unless two anchor sets have texts of one encoder."""
    if hub.fingerprint("text") == anchors.fingerprint("text"):
        return
    ours, theirs = (" and ".join(map(name_many, find_modalities(each).values())) for each in (anchors, hub))
    raise EncoderMismatch(
        f"{hub.ref} pairs {theirs} by {hub.encoder_spec('text')}, {anchors.ref} pairs {ours} by "
        f"{anchors.encoder_spec('text')}",
        "two anchor sets whose texts one encoder made",
        f"build one of them again: --text-encoder {anchors.encoder_spec('text')}",
    )
