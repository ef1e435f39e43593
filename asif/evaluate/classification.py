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
from asif.evaluate.anchor_overlap import count_images_among_anchors, find_images_near_anchors
from asif.evaluate.evaluation import Evaluation
from asif.evaluate.label_sample import read_sample
from asif.evaluate.metrics import accuracy, mean_per_class_recall
from asif.evaluate.provenance import PromptsUsed, describe_data_used, describe_engine_used
from asif.evaluate.row_reader import RowLimits, RowReader
from asif.pairs import LabelledImages, Pair, Reject
from asif.vectors import Embeddings, Float32, Int64

TOP_LABELS = 5
IMAGE_BATCH, _VECTOR_BATCH = 256, 8192  # rows classified at a time


def evaluate_classification(
    engine: Engine,
    data: LabelledImages,
    labels: Labels,
    *,
    limits: RowLimits | None = None,
    dataset: str | None = None,
    origins: Mapping[str, str] | None = None,
    label_vectors: Embeddings | None = None,
) -> Evaluation:
    """Classify every image of a data set and compare predictions with the true labels.

    `labels` are all classes of the data, however many rows are read (see `resolve_classes`); fewer rows than there are
    are spread evenly over the classes (see `read_sample`); `dataset` names the data in the result, by default their
    path; `origins` give the sources of templates and names, for the record. Images are read once and not stored. If
    they are vectors, `label_vectors` [prompts, dt] are those of `labels.prompts()`.
    Raises InputRefused for more bad rows than `limits` allow and for no usable row, UsageError for labels or their
    vectors that are missing or too many, EncoderMismatch for vectors that the anchors' encoders did not make.
    """
    _check_image_vectors(engine, data, label_vectors)
    index = {label: at for at, label in enumerate(labels.labels)}
    if not set(data.classes) <= set(index):
        odd = ", ".join(sorted(set(data.classes) - set(index))[:5])
        raise UsageError(f"labels of the data are missing: {odd}", "all classes of the data", "add them")
    started, anchors = time.perf_counter(), engine.anchors
    limits = limits or RowLimits()
    items, sample = read_sample(data, limits.limit)
    reader = RowReader(data.source.rows, limits)
    truth, predicted = [], []
    near: set[str] | None = set()
    for row in _classify_rows(engine, items, labels, label_vectors, reader):
        pair = row.pair
        if isinstance(row.result, BadImage):
            reader.reject(Reject(pair.row, pair.id, row.result.came))
            continue
        reader.keep(pair, row.image)
        if row.near is None:
            near = None
        elif row.near and near is not None:
            near.add(row.image)
        truth.append(index[str(pair.label)])
        predicted.append([index[prediction.label] for prediction in row.result.predictions])
    cut = engine.count_cut_texts(labels.prompts()) if label_vectors is None else 0
    counts, rows_sha256 = reader.close(data.source.path)
    classes, labels_found = np.array(truth), np.array(predicted)
    seconds = {"total": time.perf_counter() - started}
    return Evaluation(
        task="zeroshot_classification",
        dataset=dataset or str(data.source.path),
        metrics=compute_label_metrics(labels_found, classes, len(index)),
        further={},
        shared=None,
        counts={
            **counts,
            "images": len(reader.images),
            "classes": len(index),
            "classes_with_images": len(set(truth)),
            "images_among_anchors": count_images_among_anchors(anchors, reader.images),
            **({} if near is None else {"images_near_anchors": len(near)}),
            **({"prompts_cut": cut} if cut else {}),
        },
        prompts=PromptsUsed(labels.templates, labels.mode, origins or {}),
        engine=describe_engine_used(engine, anchors, "classify"),
        data=describe_data_used(data.source, rows_sha256),
        seconds=seconds,
        sample=sample,
    )


@dataclass(frozen=True)
class _LabelledRow:
    """Hold a row, the sha256 of its image, its prediction or why it cannot be read, and if it is near an anchor.

    `near` is None if that is not known.
    """

    pair: Pair
    image: str
    result: Classification | BadImage
    near: bool | None = False


def compute_label_metrics(predicted: Int64, truth: Int64, classes: int) -> dict[str, float | None]:
    """Compute the metrics of CLIP_benchmark: `predicted` [n, at least 5] are classes, best first, `truth` [n]."""
    return {
        "acc1": accuracy(predicted, truth, 1, classes),
        "acc5": accuracy(predicted, truth, TOP_LABELS, classes),
        "mean_per_class_recall": mean_per_class_recall(predicted[:, 0], truth),
    }


def _classify_rows(
    engine: Engine,
    items: Iterator[Pair | Reject],
    labels: Labels,
    label_vectors: Embeddings | None,
    reader: RowReader,
) -> Iterator[_LabelledRow]:
    """Classify every row, a batch at a time."""
    every, step = (
        _embed_rows(engine, reader.read(items)),
        IMAGE_BATCH if label_vectors is None else _VECTOR_BATCH,
    )
    while batch := list(islice(every, step)):
        usable = [vector for *_, vector in batch if not isinstance(vector, BadImage)]
        images = Embeddings(np.stack(usable) if usable else np.empty((0, engine.anchors.dims["image"]), np.float32))
        results = iter(engine.classify_vectors(images, labels, label_vectors, top=TOP_LABELS))
        found = find_images_near_anchors(engine, images)
        near = iter([None] * len(images) if found is None else map(bool, found))
        for pair, image, vector in batch:
            if isinstance(vector, BadImage):
                yield _LabelledRow(pair, image, vector)
            else:
                yield _LabelledRow(pair, image, next(results), next(near))


def _embed_rows(
    engine: Engine, rows: Iterator[tuple[Pair, bytes | None, str]]
) -> Iterator[tuple[Pair, str, Float32 | BadImage]]:
    """Yield rows with the sha256 of their image and its unit vector, or the error of reading it."""
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


def _check_image_vectors(engine: Engine, data: LabelledImages, label_vectors: Embeddings | None) -> None:
    """Raise for vectors of one side only, and for vectors unless the anchors are vectors of the same width."""
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
