"""Zero-shot classification of a labelled data set."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from asif.classify import Labels
from asif.engine import Classification, Engine
from asif.errors import BadImage, EncoderMismatch, UsageError
from asif.evaluate.metrics import accuracy, mean_per_class_recall
from asif.evaluate.provenance import Evaluation, about, also_anchors, made_by, near_anchors
from asif.evaluate.row_reader import Intake, Terms
from asif.pairs import LabelledImages, Pair, Reject
from asif.vectors import Embeddings, Float32, Int64

TOP = 5
ROWS, VECTORS = 256, 8192  # answered for at a time


def evaluate_classification(
    engine: Engine,
    data: LabelledImages,
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
    near: set[str] = set()
    for answer in answers(engine, data, labels, label_vectors, intake):
        pair = answer.pair
        if isinstance(answer.result, BadImage):
            intake.reject(Reject(pair.row, pair.id, answer.result.came))
            continue
        intake.keep(pair, answer.image)
        if answer.near:
            near.add(answer.image)
        truth.append(place[str(pair.label)])
        predicted.append([place[each.label] for each in answer.result.predictions])
    counts, rows_sha256 = intake.close(data.source.path)
    right, best = np.array(truth), np.array(predicted)
    seconds = {"total": time.perf_counter() - started}
    return Evaluation(
        task="zeroshot_classification",
        dataset=dataset or str(data.source.path),
        metrics=figures(best, right, len(place)),
        further={},
        counts={
            **counts,
            "images": len(intake.images),
            "classes": len(place),
            "classes_with_images": len(set(truth)),
            "images_among_anchors": also_anchors(anchors, intake.images),
            "images_near_anchors": len(near),
        },
        prompts={"templates": list(labels.templates), "template_mode": labels.mode, **(origins or {})},
        made_by=made_by(engine, anchors, "classify"),
        data=about(data.source, rows_sha256),
        seconds=seconds,
    )


@dataclass(frozen=True)
class Answer:
    """Hold a row, the sha256 of its image, what it is taken for or why it is unreadable, if it is near an anchor."""

    pair: Pair
    image: str
    result: Classification | BadImage
    near: bool = False


def figures(best: Int64, right: Int64, classes: int) -> dict[str, float | None]:
    """Name the figures: `best` [n, at least 5] are classes, best first, `right` [n]."""
    return {
        "acc1": accuracy(best, right, 1, classes),
        "acc5": accuracy(best, right, TOP, classes),
        "mean_per_class_recall": mean_per_class_recall(best[:, 0], right),
    }


def answers(
    engine: Engine, data: LabelledImages, labels: Labels, label_vectors: Embeddings | None, intake: Intake
) -> Iterator[Answer]:
    """Answer for every row, some at a time."""
    every, step = embedded(engine, intake.read(data.read())), ROWS if label_vectors is None else VECTORS
    while some := list(islice(every, step)):
        usable = [vector for *_, vector in some if not isinstance(vector, BadImage)]
        images = Embeddings(np.stack(usable) if usable else np.empty((0, engine.anchors.dims["image"]), np.float32))
        results = iter(engine.classify_vectors(images, labels, label_vectors, top=TOP))
        near = iter(near_anchors(engine, images))
        for pair, image, vector in some:
            if isinstance(vector, BadImage):
                yield Answer(pair, image, vector)
            else:
                yield Answer(pair, image, next(results), bool(next(near)))


def embedded(
    engine: Engine, rows: Iterator[tuple[Pair, bytes | None, str]]
) -> Iterator[tuple[Pair, str, Float32 | BadImage]]:
    """Yield rows with the sha256 of their image and its unit vector, or why it cannot be read."""
    waiting: deque[tuple[Pair, str]] = deque()

    def contents() -> Iterator[bytes]:
        for pair, content, image in rows:
            assert content is not None  # rows are of one kind
            waiting.append((pair, image))
            yield content

    first = next(rows, None)
    if first is None:
        return
    rows = chain([first], rows)
    if first[1] is None:
        for pair, _, image in rows:
            yield pair, image, Embeddings.from_raw(np.asarray(pair.image_embedding, np.float32)[None]).values[0]
        return
    for vector in engine.encode_images(contents()):
        yield (*waiting.popleft(), vector)


def check_vectors(engine: Engine, data: LabelledImages, label_vectors: Embeddings | None) -> None:
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
