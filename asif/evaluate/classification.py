"""Zero-shot classification of a labelled data set."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from asif.classify import Labels
from asif.engine import Engine, Result
from asif.errors import EncoderMismatch, UsageError
from asif.evaluate.intake import Intake, Terms
from asif.evaluate.metrics import accuracy, mean_per_class_recall
from asif.evaluate.result import Evaluation, about, also_anchors, made_by
from asif.pairs import Labelled, Pair, Reject
from asif.vectors import Embeddings

TOP = 5
ROWS = 8192


def evaluate_classification(
    engine: Engine,
    data: Labelled,
    labels: Labels,
    *,
    terms: Terms | None = None,
    dataset: str | None = None,
    origins: Mapping[str, str] | None = None,
    label_vectors: Embeddings | None = None,
) -> Evaluation:
    """Label every image of a data set and hold the labels against its own.

    `labels` are all classes of the data, however many rows are read (see `classes_of`); `dataset` is what the result
    calls the data, by default their path; `origins` say where templates and names come from, for the record. Images are
    read once and not kept. Where they are vectors, `label_vectors` [prompts, dt] are those of `labels.prompts()`.
    Raises InputRefused for more bad rows than `terms` allow and for no usable row, UsageError for labels or their
    vectors that are missing or too many, EncoderMismatch for vectors that the anchors' encoders did not make.
    """
    check_vectors(engine, data, label_vectors)
    place = {label: at for at, label in enumerate(labels.labels)}
    if not set(data.classes) <= set(place):
        odd = ", ".join(sorted(set(data.classes) - set(place))[:5])
        raise UsageError(f"labels of the data are missing: {odd}", "all classes of the data", "add them")
    started, anchors = time.perf_counter(), engine.anchors
    intake = Intake(data.source.rows, terms or Terms())
    truth, predicted = [], []
    for pair, image, result in answers(engine, data, labels, label_vectors, intake):
        if result.error is not None:
            intake.reject(Reject(pair.row, pair.id, result.error.came))
            continue
        intake.keep(pair, image)
        truth.append(place[str(pair.label)])
        predicted.append([place[each.label] for each in result.predictions])
    counts, rows_sha256 = intake.close(data.source.path)
    right, best = np.array(truth), np.array(predicted)
    seconds = {"total": time.perf_counter() - started}
    return Evaluation(
        task="zeroshot_classification",
        dataset=dataset or str(data.source.path),
        metrics={
            "acc1": accuracy(best, right, 1, len(place)),
            "acc5": accuracy(best, right, TOP, len(place)),
            "mean_per_class_recall": mean_per_class_recall(best[:, 0], right),
        },
        further={},
        counts={
            **counts,
            "images": len(intake.images),
            "classes": len(place),
            "classes_with_images": len(set(truth)),
            "images_among_anchors": also_anchors(anchors, intake.images),
        },
        prompts={"templates": list(labels.templates), "template_mode": labels.mode, **(origins or {})},
        made_by=made_by(engine, anchors, "classify"),
        data=about(data.source, rows_sha256),
        seconds=seconds,
    )


Answers = Iterator[tuple[Pair, str, Result]]


def answers(engine: Engine, data: Labelled, labels: Labels, vectors: Embeddings | None, intake: Intake) -> Answers:
    """Yield the rows with the sha256 of their image and what it is taken for."""
    rows = intake.read(data.read())
    if vectors is not None:
        while some := list(islice(rows, ROWS)):
            images = Embeddings.from_raw(np.stack([np.asarray(pair.image_embedding, np.float32) for pair, *_ in some]))
            results = engine.classify_vectors(images, labels, vectors, top=TOP)
            yield from ((pair, image, result) for (pair, _, image), result in zip(some, results, strict=True))
        return
    waiting: deque[tuple[Pair, str]] = deque()

    def images_of() -> Iterator[bytes]:
        for pair, content, image in rows:
            assert content is not None  # no vectors were precomputed
            waiting.append((pair, image))
            yield content

    for _, result in engine.classify(images_of(), labels, top=TOP):
        yield (*waiting.popleft(), result)


def check_vectors(engine: Engine, data: Labelled, label_vectors: Embeddings | None) -> None:
    """Refuse vectors for one side only, and unless the anchors are vectors of the same width."""
    dims, anchors = data.source.dims, engine.anchors
    spec, width = anchors.encoder_spec("image"), anchors.dims["image"]
    if dims is not None and (spec != "precomputed" or dims[0] != width):
        what = "vectors" if spec == "precomputed" else "images"
        raise EncoderMismatch(
            f"{data.source.path} has image vectors of {dims[0]} dimensions",
            f"{what} for {anchors.ref}, made with {spec}, {width} dimensions",
            "name the image column with --column image=NAME, or use anchors of vectors from the same encoder",
        )
    if (dims is None) != (label_vectors is None):
        raise UsageError(
            "images to be encoded, and vectors of labels" if dims is None else "vectors of images, and none of labels",
            "vectors of both, or neither",
            "leave out --label-vectors" if dims is None else "pass --label-vectors FILE.npy, a row for each prompt",
        )
