"""Predictions: from images or their embeddings to ranked labels, with the anchors and pairs behind the first one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from threading import Semaphore
from typing import Any, TypeAlias

import numpy as np

from asif.anchorset import AnchorsIdentity, OpenAnchors
from asif.classify import Labels
from asif.compare import Candidates, find_best_row, rank_candidates, score_candidates
from asif.encoders import ImageEncoder, ImageInput
from asif.encoders.image_input import name_image, take_image
from asif.encoders.prefetch import prefetch
from asif.engine.clip_spans import ClipSpan
from asif.engine.encoder_pool import EncoderPool
from asif.engine.snapshots import FittedTask, Snapshot
from asif.errors import BadMedia, Conflict, UsageError
from asif.explain import Contributions, compute_contributions
from asif.pairs import PairRecord
from asif.vectors import OTHER_SIDE, AnchorContributions, Embeddings, Float32, FusedRows, Rows, Side, SparseRows

IMAGES_PER_BATCH = 64
SCORES_PER_BLOCK = 1 << 24
_PIXELS_AHEAD = 8  # images without a file that wait for their preprocessing at a time
_LABELS_SHOWN = 3
_MOST_CREDITED = 5  # pairs named for a score to which all anchors contribute


@dataclass(frozen=True)
class Prediction:
    """One label and its raw score, the inner product of the representations of label and image.

    It is a cosine for all aligners but `asif-paper`, which normalises the text side only: in [0, 1] for `asif`, in
    [-1, 1] for linear maps, fusions and trained projectors. A hubness correction subtracts the label's bias.
    """

    label: str
    score: float


@dataclass(frozen=True)
class Evidence:
    """The anchors behind the first prediction: their records, and what each contributes to the score.

    `hubness` was subtracted: the prediction's score is the sum of all contributions minus it. Of anchors of sounds,
    `spans` are the parts that are most like the input; None where their files are not here.
    """

    contributions: Contributions
    records: tuple[PairRecord, ...]
    hubness: float = 0.0
    spans: tuple[ClipSpan | None, ...] = ()


@dataclass(frozen=True)
class Credits:
    """The pairs that produced the first prediction, largest contribution first, and how many `others` contributed.

    Of sparse aligners all pairs are named, and there are no others. A dense aligner, or a fusion with one, is fitted to
    all anchors, and each contributes to each score: the five largest are named, all the rest are others. With a hubness
    correction, too, all pairs that are not named are others.
    """

    records: tuple[PairRecord, ...]
    others: int


@dataclass(frozen=True)
class Classification:
    """The labels of one image, best first, and the anchors they come from; `error` if it could not be decoded.

    >>> Classification("cat.jpg", (Prediction("a cat", 0.31), Prediction("a dog", 0.2)))
    <Classification cat.jpg: a cat 0.3100, a dog 0.2000>
    """

    image: str
    predictions: tuple[Prediction, ...] = ()
    evidence: Evidence | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: BadMedia | None = None
    credits: Credits | None = None
    anchors: AnchorsIdentity | None = None

    @property
    def label(self) -> str | None:
        """Return the best label; None if the image could not be decoded."""
        return self.predictions[0].label if self.predictions else None

    @property
    def score(self) -> float | None:
        """Return the score of the best label; None if the image could not be decoded."""
        return self.predictions[0].score if self.predictions else None

    def __repr__(self) -> str:
        shown = [f"{each.label} {each.score:.4f}" for each in self.predictions[:_LABELS_SHOWN]]
        more = ", …" if len(self.predictions) > _LABELS_SHOWN else ""
        found = f"cannot be read: {self.error.came}" if self.error else ", ".join(shown) + more
        anchors = f", by {self.anchors.name}@{self.anchors.version}" if self.anchors else ""
        return f"<Classification {self.image}: {found}{anchors}>"


@dataclass(frozen=True)
class PredictOptions:
    """The contents of a classification: how many labels, how many anchors behind the first, and the credits or not."""

    top: int = 5
    explain: int = 0
    credits: bool = False


@dataclass(frozen=True)
class EncodedBatch:
    """Some images, each with its name and the error of decoding it; embeddings [n, di] of those without one."""

    images: list[tuple[str, BadMedia | None]]
    embeddings: Embeddings | None
    encode_ms: float
    """Milliseconds for each image."""


def take_labels(labels: Labels | Sequence[str]) -> Labels:
    """Return labels with templates: a list of labels gets the default template. Raises UsageError for one text."""
    return labels if isinstance(labels, Labels) else Labels(take_label_texts(labels))


def take_label_texts(labels: Iterable[str]) -> tuple[str, ...]:
    """Return labels as a tuple of texts; raises UsageError for one text, and for anything but texts."""
    if isinstance(labels, str | bytes):
        raise UsageError(f"the labels are one text: {labels[:40]!r}", "a list of labels", 'pass ["a cat", "a dog"]')
    if not isinstance(labels, Iterable):
        raise UsageError(
            f"the labels are of type {type(labels).__name__}", "a list of labels", 'pass ["a cat", "a dog"]'
        )
    texts = tuple(labels)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(
                f"the label {str(text)[:40]!r} is of type {type(text).__name__}", "texts", "give labels as texts"
            )
    return tuple(map(str, texts))  # numpy's texts too


SnapshotRenewal: TypeAlias = "Callable[[Snapshot, Conflict], Snapshot]"
"""Takes a snapshot of a deleted version and the error, returns one of the current version or raises the error."""


ClipLocator: TypeAlias = "Callable[[OpenAnchors, Sequence[PairRecord], Float32], tuple[ClipSpan | None, ...]]"
"""Takes anchors, the records of some of them and a vector [d]; returns the spans of their clips, or nothing."""


def classify_images(
    snapshot: Snapshot,
    encoders: EncoderPool,
    images: Iterable[ImageInput],
    labels: Labels,
    options: PredictOptions,
    renew: SnapshotRenewal,
    locate: ClipLocator,
) -> Iterator[Classification]:
    """Encode images a batch at a time, and classify them over the anchors of a snapshot.

    `locate` finds the spans of explained anchors. If the version is deleted before it is explained, `renew` gives the
    snapshot that the next results come from.
    """
    encoder = encoders.load_image_encoder(snapshot.anchors)
    started = time.perf_counter()
    candidates = snapshot.represent_labels(labels, encoders)
    label_ms = 1000 * (time.perf_counter() - started)
    for batch in encode_in_batches(encoder, images):
        try:
            results = classify_embeddings(snapshot.tasks["classify"], candidates, labels, batch.embeddings, options)
        except Conflict as deleted:
            snapshot = renew(snapshot, deleted)
            candidates = snapshot.represent_labels(labels, encoders)
            results = classify_embeddings(snapshot.tasks["classify"], candidates, labels, batch.embeddings, options)
        found, at = iter(results), 0
        for name, error in batch.images:
            if error is not None:
                yield Classification(name, error=error, anchors=snapshot.anchors.named)
                continue
            result = next(found)
            if result.evidence is not None and batch.embeddings is not None:
                spans = locate(snapshot.anchors, result.evidence.records, batch.embeddings.values[at])
                result = replace(result, evidence=replace(result.evidence, spans=spans))
            at += 1
            timings = {"labels": label_ms, "encode": batch.encode_ms, **result.timings_ms}
            yield replace(result, image=name, timings_ms=timings)


def encode_in_batches(encoder: ImageEncoder, images: Iterable[ImageInput]) -> Iterator[EncodedBatch]:
    """Decode images ahead of the encoder, and encode them a batch at a time; raises UsageError for what is no image."""
    prepared = _prepare_ahead(encoder, images)
    while batch := list(islice(prepared, IMAGES_PER_BATCH)):
        started = time.perf_counter()
        tensors = [tensor for _, tensor in batch if not isinstance(tensor, BadMedia)]
        embeddings = Embeddings.from_raw(encoder.forward(tensors)) if tensors else None
        encode_ms = 1000 * (time.perf_counter() - started) / max(1, len(tensors))
        named = [(name, tensor if isinstance(tensor, BadMedia) else None) for name, tensor in batch]
        yield EncodedBatch(named, embeddings, encode_ms)


def iter_vectors(batches: Iterable[EncodedBatch]) -> Iterator[Float32 | BadMedia]:
    """Yield the vector [di] of each image, or the error of reading it."""
    for batch in batches:
        vectors = iter(() if batch.embeddings is None else batch.embeddings.values)
        for _, error in batch.images:
            yield next(vectors) if error is None else error


def _prepare_ahead(encoder: ImageEncoder, images: Iterable[ImageInput]) -> Iterator[tuple[str, Any]]:
    """Yield the name of each image, and its tensor or why there is none; few images wait as pixels at a time."""
    waiting = Semaphore(_PIXELS_AHEAD)

    def take() -> Iterator[tuple[str, Any, bool]]:
        for source in images:
            try:
                taken = take_image(source)
            except BadMedia as error:
                taken = error
            are_pixels = not isinstance(taken, str | bytes | Path | BadMedia)
            if are_pixels:
                waiting.acquire()
            yield name_image(source), taken, are_pixels

    def prepare(item: tuple[str, Any, bool]) -> tuple[str, Any]:
        name, taken, are_pixels = item
        try:
            return name, taken if isinstance(taken, BadMedia) else encoder.prepare(taken)
        except BadMedia as error:
            return name, error
        finally:
            if are_pixels:
                waiting.release()

    return prefetch(prepare, take())


def classify_embeddings(
    task: FittedTask, candidates: Candidates, labels: Labels, images: Embeddings | None, options: PredictOptions
) -> list[Classification]:
    """Represent image embeddings [n, di], rank the labels, and explain the first score as the options say."""
    if images is None or not len(images):
        return []
    started, fitted = time.perf_counter(), task.fitted
    rows = fitted.represent("image", images, task.kernel)
    represented = time.perf_counter()
    ranked = rank_candidates(rows, candidates, options.top)
    compared = time.perf_counter()
    timings = {
        "represent": 1000 * (represented - started) / len(images),
        "compare": 1000 * (compared - represented) / len(images),
    }
    results, named = [], task.anchors.named
    for at, (indices, scores) in enumerate(zip(ranked.indices, ranked.scores, strict=True)):
        evidence = credits = None
        if options.explain or options.credits:
            query = rows[at : at + 1]
            evidence, credits = _explain_first(task, query, candidates, int(indices[0]), options)
        predictions = tuple(
            Prediction(labels.labels[label], float(score)) for label, score in zip(indices, scores, strict=True)
        )
        results.append(Classification(f"vector {at}", predictions, evidence, timings, None, credits, named))
    return results


def _explain_first(
    task: FittedTask, query: Rows, candidates: Candidates, first: int, options: PredictOptions
) -> tuple[Evidence | None, Credits | None]:
    """Split the score of the first candidate into contributions of anchors."""
    row = find_best_row(query, candidates, first)
    parts = task.fitted.split_score(query, candidates.rows[row : row + 1])
    hubness = 0.0 if candidates.biases is None else float(candidates.biases[row])
    evidence = credits = None
    if options.explain:
        split = compute_contributions(parts, options.explain)
        evidence = Evidence(split, tuple(task.anchors.records(split.anchors)), hubness)
    if options.credits:
        credits = _credit_pairs(parts, task.anchors, _is_sparse(query), candidates.biases is not None)
    return evidence, credits


def _credit_pairs(parts: AnchorContributions, anchors: OpenAnchors, sparse: bool, corrected: bool) -> Credits:
    """Name the pairs that a score comes from; all anchors contribute to a score that is corrected for hubness."""
    nonzero = AnchorContributions(parts.anchors[parts.values != 0], parts.values[parts.values != 0])
    split = compute_contributions(nonzero, max(1, len(nonzero.anchors)) if sparse else _MOST_CREDITED)
    others = anchors.count - len(split.anchors) if corrected else split.others
    return Credits(tuple(anchors.records(split.anchors)), others)


def _is_sparse(rows: Rows) -> bool:
    """Tell whether each row is over a few anchors only, so that these alone contribute."""
    parts = rows.parts if isinstance(rows, FusedRows) else (rows,)
    return all(isinstance(part, SparseRows) for part in parts)


def take_label_vectors(labels: Labels, vectors: Embeddings) -> Callable[[Sequence[str]], Embeddings]:
    """Return a function in place of a text encoder, which returns vectors in the order of `labels.prompts()`.

    Raises UsageError if there are more or fewer vectors than prompts.
    """
    prompts, rows = len(labels.prompts()), iter(vectors.values)
    if len(vectors) != prompts:
        raise UsageError(
            f"{len(vectors)} label vectors",
            f"{prompts}: one per label and template, label by label",
            "encode every prompt, in this order",
        )
    return lambda texts: Embeddings(np.stack(list(islice(rows, len(texts)))), tuple((text,) for text in texts))


def score_in_blocks(task: FittedTask, side: Side, queries: Embeddings, candidates: Embeddings) -> Iterator[Float32]:
    """Score candidates of the other side for queries of `side`: yields [some, c] for consecutive queries."""
    rows = task.fitted.represent(OTHER_SIDE[side], candidates, task.kernel)
    corrected = task.correct_hubness(Candidates(rows), side)
    step = max(1, SCORES_PER_BLOCK // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        some = queries.select_rows(slice(start, start + step))
        yield score_candidates(task.fitted.represent(side, some, task.kernel), corrected)
