"""Data sets as cached features: encoded once, asked of every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from asif.aligners import Anchors, FittedAligner, Hubness
from asif.aligners.hubness import build_query_bank
from asif.classify import Labels, represent_labels
from asif.compare import Candidates, rank_candidates, score_candidates
from asif.engine import Engine
from asif.evaluate.classification import TOP, figures
from asif.evaluate.ground_truth import by_position, numbered
from asif.evaluate.metrics import best_ranks
from asif.evaluate.provenance import about, also_anchors
from asif.evaluate.retrieval import Gallery, check_vectors, embedded, encode, report
from asif.evaluate.row_reader import Intake, Terms
from asif.pairs import LabelledImages, PairSource
from asif.tuning import Task as Role
from asif.vectors import SIDES, Embeddings, Float32, Int64, Side

BLOCK_SCORES = 1 << 24


@dataclass(frozen=True)
class Answers:
    """What a method came to on a data set: figures, and what every query's answer was worth.

    `ranks` [queries] are ranks of the best right candidate from 0, images first, then captions; for labels 0 where the
    first label was right, else 1.
    """

    metrics: dict[str, float | None]
    ranks: Int64


@dataclass(frozen=True)
class RetrievalSet:
    """Hold images [n, di] and captions [m, dt] with the image that each belongs to [m]."""

    name: str
    images: Embeddings
    texts: Embeddings
    owners: Int64
    captions: tuple[str, ...]
    ids: tuple[str, ...]
    described: Mapping[str, Any]

    role: Role = "search"
    primary = "mean_recall@1"

    def ask(self, fitted: FittedAligner, hubness: Hubness, anchors: Anchors) -> Answers:
        """Search both ways with an aligner that was fitted to these anchors."""
        right = by_position(self.owners, len(self.images))
        rows = {"image": fitted.represent("image", self.images), "text": fitted.represent("text", self.texts)}
        found: dict[Side, Int64] = {}
        for query, candidate in (SIDES, SIDES[::-1]):
            biases = None
            if hubness.method != "none":
                biases = hubness.compute_biases(rows[candidate], build_query_bank(fitted, anchors, query))
            facing = Candidates(rows[candidate], biases=biases)
            step = max(1, BLOCK_SCORES // max(1, len(rows[candidate])))
            parts = [
                best_ranks(
                    score_candidates(rows[query][start : start + step], facing), right[query][start : start + step]
                )
                for start in range(0, len(rows[query]), step)
            ]
            found[query] = np.concatenate(parts)
        metrics = report(found["image"], found["text"])
        firsts = [metrics[f"{side}_retrieval_recall@1"] for side in SIDES]
        known = [first for first in firsts if first is not None]
        metrics["mean_recall@1"] = sum(known) / 2 if len(known) == 2 else None
        return Answers(metrics, np.concatenate([found["image"], found["text"]]))

    def queries(self, first: Int64, second: Int64, most: int) -> dict[str, Any]:
        """Name the queries on which two methods differ most, half of them better answered by either."""
        gain = np.log1p(second) - np.log1p(first)
        order = np.argsort(-gain, kind="stable")
        chosen = [*order[: most // 2], *order[::-1][: most // 2]]
        count = len(self.images)
        return {
            "classes": [],
            "queries": [
                {
                    "side": "image" if at < count else "text",
                    "id": self.ids[at] if at < count else self.ids[self.owners[at - count]],
                    "text": None if at < count else self.captions[at - count],
                    "first_rank": int(first[at]) + 1,
                    "second_rank": int(second[at]) + 1,
                }
                for at in map(int, chosen)
                if first[at] != second[at]
            ],
        }


@dataclass(frozen=True)
class LabelSet:
    """Hold images [n, di], the place of each one's label, and the labels with what encodes their prompts."""

    name: str
    images: Embeddings
    truth: Int64
    labels: Labels
    encode: Callable[[Sequence[str]], Embeddings]
    described: Mapping[str, Any]

    role: Role = "classify"
    primary = "acc1"

    @cached_property
    def _known(self) -> dict[str, Float32]:
        prompts = list(dict.fromkeys(self.labels.prompts()))
        return dict(zip(prompts, self.encode(prompts).values, strict=True))

    def ask(self, fitted: FittedAligner, hubness: Hubness, anchors: Anchors) -> Answers:
        """Label the images with an aligner that was fitted to these anchors."""
        candidates = represent_labels(
            self.labels, lambda texts: Embeddings(np.stack([self._known[text] for text in texts])), fitted
        )
        if hubness.method != "none":
            biases = hubness.compute_biases(candidates.rows, build_query_bank(fitted, anchors, "image"))
            candidates = Candidates(candidates.rows, candidates.per_candidate, biases)
        found = rank_candidates(fitted.represent("image", self.images), candidates, TOP).indices
        metrics = figures(found, self.truth, len(self.labels.labels))
        return Answers(metrics, (found[:, 0] != self.truth).astype(np.int64))

    def queries(self, first: Int64, second: Int64, most: int) -> dict[str, Any]:
        """Return both methods' accuracies by class."""
        classes = [
            {
                "label": self.labels.labels[at],
                "images": int(own.sum()),
                "first": float((first[own] == 0).mean()),
                "second": float((second[own] == 0).mean()),
            }
            for at in range(len(self.labels.labels))
            if (own := self.truth == at).any()
        ]
        return {"classes": classes, "queries": []}


DataSet = RetrievalSet | LabelSet


def retrieval_set(engine: Engine, source: PairSource, name: str, terms: Terms | None = None) -> RetrievalSet:
    """Encode images with their captions; raises what `evaluate_retrieval` does."""
    check_vectors(engine, source)
    intake, gallery, ids = Intake(source.rows, terms or Terms()), Gallery(), list[str]()
    for pair, image, vector in embedded(engine, source.read(), intake):
        gallery.add(pair, image, vector)
        if len(gallery.images) > len(ids):
            ids.append(pair.id or f"row {pair.row}")
    counts, rows_sha256 = intake.close(source.path)
    keys = numbered(gallery.texts)
    texts = Embeddings.from_raw(np.stack(gallery.vectors)) if gallery.vectors else encode(engine, gallery.texts, keys)
    images = Embeddings.from_raw(np.stack(gallery.images))
    counts |= {
        "images": len(images),
        "captions": len(texts),
        "images_among_anchors": also_anchors(engine.anchors, intake.images),
    }
    described = {"counts": counts, "templates": [], "data": about(source, rows_sha256)}
    return RetrievalSet(name, images, texts, np.array(gallery.owners), tuple(gallery.texts), tuple(ids), described)


def label_set(engine: Engine, data: LabelledImages, labels: Labels, name: str, terms: Terms | None = None) -> LabelSet:
    """Encode labelled images; raises what `evaluate_classification` does."""
    intake, vectors, truth = Intake(data.source.rows, terms or Terms()), list[Float32](), list[int]()
    place = {label: at for at, label in enumerate(labels.labels)}
    for pair, _, vector in embedded(engine, data.read(), intake):
        vectors.append(vector)
        truth.append(place[str(pair.label)])
    counts, rows_sha256 = intake.close(data.source.path)
    counts |= {
        "images": len(intake.images),
        "classes": len(place),
        "images_among_anchors": also_anchors(engine.anchors, intake.images),
    }
    described = {"counts": counts, "templates": list(labels.templates), "data": about(data.source, rows_sha256)}
    return LabelSet(
        name, Embeddings.from_raw(np.stack(vectors)), np.array(truth), labels, engine.encode_texts, described
    )
