"""Answers: image embeddings meet labels; what spoke for the first label, and whose pairs these are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from asif.anchorset import AnchorsIdentity, OpenAnchors
from asif.classify import Labels
from asif.compare import Candidates, best_row, rank
from asif.encoders import ImageEncoder, ImageSource
from asif.encoders.prefetch import prefetch
from asif.engine.snapshots import Role
from asif.errors import BadImage
from asif.explain import Contributions, contributions
from asif.pairs import PairRecord
from asif.vectors import AnchorContributions, Embeddings, FusedRows, Rows, SparseRows

BATCH = 64
CREDITED = 5  # pairs of an answer that all anchors had a part in


@dataclass(frozen=True)
class Prediction:
    """One label and its raw score, a cosine between relative representations in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """The anchors behind the first prediction: what each is, and what it adds to the score.

    `hubness` was taken off: the prediction's score is the sum of all contributions less it.
    """

    contributions: Contributions
    records: tuple[PairRecord, ...]
    hubness: float = 0.0


@dataclass(frozen=True)
class Credits:
    """The pairs that produced the first prediction, those that added most first, and how many `others` did.

    Of sparse aligners all pairs are named, and there are no others. A dense one, or a fusion with one, is fitted to all
    anchors, and each has a part in each score: the five that added most are named, and all the rest are others. With a
    hubness correction, too, all that are not named are others.
    """

    records: tuple[PairRecord, ...]
    others: int


@dataclass(frozen=True)
class Result:
    """One image's labels, best first, and which anchors they come from; in `error` why it could not be read."""

    image: str
    predictions: tuple[Prediction, ...] = ()
    evidence: Evidence | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: BadImage | None = None
    credits: Credits | None = None
    anchors: AnchorsIdentity | None = None


@dataclass(frozen=True)
class Wanted:
    """Hold what an answer is to contain: so many labels, so many anchors behind the first, and the credits."""

    top: int = 5
    explain: int = 0
    credits: bool = False


def answer(
    role: Role, candidates: Candidates, labels: Labels, images: Embeddings | None, wanted: Wanted
) -> list[Result]:
    """Represent image embeddings, rank the labels and take the first score apart."""
    if images is None or not len(images):
        return []
    started, fitted = time.perf_counter(), role.fitted
    rows = fitted.represent("image", images, role.kernel)
    represented = time.perf_counter()
    found = rank(rows, candidates, wanted.top)
    compared = time.perf_counter()
    timings = {
        "represent": 1000 * (represented - started) / len(images),
        "compare": 1000 * (compared - represented) / len(images),
    }
    results, named = [], role.anchors.named
    for at, (indices, values) in enumerate(zip(found.indices, found.scores, strict=True)):
        evidence = credits = None
        if wanted.explain or wanted.credits:
            query = rows[at : at + 1]
            row = best_row(query, candidates, int(indices[0]))
            parts = fitted.split_score(query, candidates.rows[row : row + 1])
            hubness = 0.0 if candidates.biases is None else float(candidates.biases[row])
            evidence = explained(parts, role.anchors, wanted.explain, hubness) if wanted.explain else None
            if wanted.credits:
                credits = credited(parts, role.anchors, is_sparse(rows), candidates.biases is not None)
        predictions = tuple(
            Prediction(labels.labels[label], float(score)) for label, score in zip(indices, values, strict=True)
        )
        results.append(Result(f"vector {at}", predictions, evidence, timings, None, credits, named))
    return results


def explained(parts: AnchorContributions, anchors: OpenAnchors, top: int, hubness: float) -> Evidence:
    """Name the anchors that add most to a score."""
    split = contributions(parts, top)
    return Evidence(split, tuple(anchors.records(split.anchors)), hubness)


def credited(parts: AnchorContributions, anchors: OpenAnchors, sparse: bool, corrected: bool) -> Credits:
    """Name the pairs that a score comes from; where it was corrected by what the anchors say, all had a part in it."""
    speaking = AnchorContributions(parts.anchors[parts.values != 0], parts.values[parts.values != 0])
    split = contributions(speaking, max(1, len(speaking.anchors)) if sparse else CREDITED)
    others = anchors.count - len(split.anchors) if corrected else split.others
    return Credits(tuple(anchors.records(split.anchors)), others)


def is_sparse(rows: Rows) -> bool:
    """Tell whether rows are over a few anchors each, and what they say comes from these alone."""
    parts = rows.parts if isinstance(rows, FusedRows) else (rows,)
    return all(isinstance(part, SparseRows) for part in parts)


def encoded(
    encoder: ImageEncoder, images: Iterable[ImageSource]
) -> Iterator[tuple[list[tuple[ImageSource, BadImage | None]], Embeddings | None, float]]:
    """Encode a batch at a time: the sources with their errors, embeddings of those without, milliseconds for each."""

    def prepare(source: ImageSource) -> tuple[ImageSource, Any]:
        try:
            return source, encoder.prepare(source)
        except BadImage as error:
            return source, error

    prepared = prefetch(prepare, images)
    while some := list(islice(prepared, BATCH)):
        started = time.perf_counter()
        good = [tensor for _, tensor in some if not isinstance(tensor, BadImage)]
        embeddings = Embeddings.from_raw(encoder.forward(good)) if good else None
        encode_ms = 1000 * (time.perf_counter() - started) / max(1, len(good))
        judged = [(source, tensor if isinstance(tensor, BadImage) else None) for source, tensor in some]
        yield judged, embeddings, encode_ms
