"""Zero-shot classification of a labelled data set."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping

import numpy as np

from asif.classify import Labels
from asif.engine import Engine
from asif.errors import UsageError
from asif.evaluate.intake import Intake, Terms
from asif.evaluate.metrics import accuracy, mean_per_class_recall
from asif.evaluate.result import Evaluation, about, also_anchors, made_by
from asif.pairs import Labelled, Pair, Reject

TOP = 5


def evaluate_classification(
    engine: Engine,
    data: Labelled,
    labels: Labels,
    *,
    terms: Terms | None = None,
    dataset: str | None = None,
    origins: Mapping[str, str] | None = None,
) -> Evaluation:
    """Label every image of a data set and hold the labels against its own.

    `labels` are all classes of the data, however many rows are read (see `classes_of`); `dataset` is what the result
    calls the data, by default their path; `origins` say where templates and names come from, for the record. Images are
    read once and not kept. Raises InputRefused for more bad rows than `terms` allow and for no usable row.
    """
    place = {label: at for at, label in enumerate(labels.labels)}
    if not set(data.classes) <= set(place):
        odd = ", ".join(sorted(set(data.classes) - set(place))[:5])
        raise UsageError(f"labels of the data are missing: {odd}", "all classes of the data", "add them")
    started, anchors = time.perf_counter(), engine.anchors
    intake = Intake(data.source.rows, terms or Terms())
    waiting: deque[tuple[Pair, str]] = deque()

    def images() -> Iterator[bytes]:
        for pair, content, image in intake.read(data.read()):
            assert content is not None  # labelled images are never precomputed
            waiting.append((pair, image))
            yield content

    truth, predicted = [], []
    for _, result in engine.classify(images(), labels, top=TOP):
        pair, image = waiting.popleft()
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
