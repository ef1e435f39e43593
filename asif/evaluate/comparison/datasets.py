"""Data sets as cached embeddings: encoded once, evaluated with every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asif.aligners import Anchors, FittedAligner, Hubness
from asif.aligners.hubness import build_query_bank
from asif.classify import Labels, represent_labels
from asif.compare import Candidates, rank_candidates, score_candidates
from asif.engine import Engine
from asif.evaluate.anchor_overlap import count_images_among_anchors
from asif.evaluate.classification import TOP_LABELS, compute_label_metrics
from asif.evaluate.comparison.result import DatasetDescription
from asif.evaluate.comparison.wins import ClassAccuracies, QueryRanks
from asif.evaluate.evaluation import Metrics
from asif.evaluate.ground_truth import find_relevant_by_position
from asif.evaluate.label_sample import describe_first_rows, read_sample
from asif.evaluate.metrics import best_ranks
from asif.evaluate.provenance import describe_data_used
from asif.evaluate.retrieval import (
    Gallery,
    check_pair_vectors,
    compute_retrieval_metrics,
    embed_image_rows,
    encode_captions,
)
from asif.evaluate.row_reader import RowLimits, RowReader
from asif.pairs import LabelledImages, PairSource
from asif.tuning import Task
from asif.vectors import SIDES, Embeddings, Float32, Int64, Side

_SCORES_PER_BLOCK = 1 << 24


@dataclass(frozen=True)
class QueryScores:
    """Hold a method's figures on a data set, and the rank of the best relevant candidate of every query.

    `ranks` [queries] are from 0, images first, then captions; with labels 0 if the first label is the true one, else 1.
    """

    metrics: Metrics
    ranks: Int64


@dataclass(frozen=True)
class Differences:
    """Hold what two methods answer differently: accuracies by class, or single queries."""

    classes: tuple[ClassAccuracies, ...] = ()
    queries: tuple[QueryRanks, ...] = ()


@dataclass(frozen=True)
class RetrievalSet:
    """Hold images [n, di] and captions [m, dt] with the image that each belongs to [m]."""

    name: str
    images: Embeddings
    texts: Embeddings
    owners: Int64
    captions: tuple[str, ...]
    ids: tuple[str, ...]
    description: DatasetDescription

    task: Task = "search"
    primary = "mean_recall@1"

    def evaluate(self, fitted: FittedAligner, hubness: Hubness, anchors: Anchors) -> QueryScores:
        """Search in both directions with an aligner that was fitted to these anchors."""
        relevant = find_relevant_by_position(self.owners, len(self.images))
        rows = {"image": fitted.represent("image", self.images), "text": fitted.represent("text", self.texts)}
        ranks: dict[Side, Int64] = {}
        for query, candidate in (SIDES, SIDES[::-1]):
            biases = None
            if hubness.method != "none":
                biases = hubness.compute_biases(rows[candidate], build_query_bank(fitted, anchors, query))
            candidates = Candidates(rows[candidate], biases=biases)
            step = max(1, _SCORES_PER_BLOCK // max(1, len(rows[candidate])))
            parts = [
                best_ranks(
                    score_candidates(rows[query][start : start + step], candidates),
                    relevant[query][start : start + step],
                )
                for start in range(0, len(rows[query]), step)
            ]
            ranks[query] = np.concatenate(parts)
        metrics = compute_retrieval_metrics(ranks["image"], ranks["text"])
        firsts = [metrics[f"{side}_retrieval_recall@1"] for side in SIDES]
        known = [first for first in firsts if first is not None]
        metrics["mean_recall@1"] = sum(known) / 2 if len(known) == 2 else None
        return QueryScores(metrics, np.concatenate([ranks["image"], ranks["text"]]))

    def find_differences(self, first: Int64, second: Int64, most: int) -> Differences:
        """Return the queries on which the ranks of two methods differ most, half of them better by either method."""
        gain = np.log1p(second) - np.log1p(first)
        order = np.argsort(-gain, kind="stable")
        largest = [*order[: most // 2], *order[::-1][: most // 2]]
        count = len(self.images)
        queries = (
            QueryRanks(
                side="image" if at < count else "text",
                id=self.ids[at] if at < count else self.ids[self.owners[at - count]],
                text=None if at < count else self.captions[at - count],
                first_rank=int(first[at]) + 1,
                second_rank=int(second[at]) + 1,
            )
            for at in map(int, largest)
            if first[at] != second[at]
        )
        return Differences(queries=tuple(queries))


@dataclass(frozen=True)
class LabelSet:
    """Hold images [n, di], the index of each one's label, and the labels with the encoder of their prompts."""

    name: str
    images: Embeddings
    truth: Int64
    labels: Labels
    encode: Callable[[Sequence[str]], Embeddings]
    description: DatasetDescription

    task: Task = "classify"
    primary = "acc1"

    @cached_property
    def _prompt_vectors(self) -> dict[str, Float32]:
        prompts = list(dict.fromkeys(self.labels.prompts()))
        return dict(zip(prompts, self.encode(prompts).values, strict=True))

    def evaluate(self, fitted: FittedAligner, hubness: Hubness, anchors: Anchors) -> QueryScores:
        """Classify the images with an aligner that was fitted to these anchors."""

        def take(texts: Sequence[str]) -> Embeddings:
            vectors = np.stack([self._prompt_vectors[text] for text in texts])
            return Embeddings(vectors, tuple((text,) for text in texts))

        candidates = represent_labels(self.labels, take, fitted)
        if hubness.method != "none":
            biases = hubness.compute_biases(candidates.rows, build_query_bank(fitted, anchors, "image"))
            candidates = Candidates(candidates.rows, candidates.per_candidate, biases)
        predicted = rank_candidates(fitted.represent("image", self.images), candidates, TOP_LABELS).indices
        metrics = compute_label_metrics(predicted, self.truth, len(self.labels.labels))
        return QueryScores(metrics, (predicted[:, 0] != self.truth).astype(np.int64))

    def find_differences(self, first: Int64, second: Int64, most: int) -> Differences:
        """Return the accuracies of two methods by class, of all classes that have images."""
        classes = (
            ClassAccuracies(
                label=self.labels.labels[at],
                images=int(own.sum()),
                first=float((first[own] == 0).mean()),
                second=float((second[own] == 0).mean()),
            )
            for at in range(len(self.labels.labels))
            if (own := self.truth == at).any()
        )
        return Differences(classes=tuple(classes))


CachedDataset = RetrievalSet | LabelSet


def load_retrieval_set(engine: Engine, source: PairSource, name: str, limits: RowLimits | None = None) -> RetrievalSet:
    """Encode images and their captions; raises what `evaluate_retrieval` does."""
    check_pair_vectors(engine, source)
    limits = limits or RowLimits()
    reader, gallery, ids = RowReader(source.rows, limits), Gallery(), list[str]()
    for pair, image, vector in embed_image_rows(engine, source.read(), reader):
        gallery.add(pair, image, vector)
        if len(gallery.images) > len(ids):
            ids.append(pair.id or f"row {pair.row}")
    counts, rows_sha256 = reader.close(source.path)
    texts = encode_captions(engine, gallery)
    images = Embeddings.from_raw(np.stack(gallery.images))
    counts |= {
        "images": len(images),
        "captions": len(texts),
        "images_among_anchors": count_images_among_anchors(engine.anchors, reader.images),
    }
    sample = describe_first_rows(source.rows, limits.limit)
    description = DatasetDescription(counts, (), describe_data_used(source, rows_sha256), sample)
    owners = np.array(gallery.owners)
    return RetrievalSet(name, images, texts, owners, tuple(gallery.captions), tuple(ids), description)


def load_label_set(
    engine: Engine, data: LabelledImages, labels: Labels, name: str, limits: RowLimits | None = None
) -> LabelSet:
    """Encode labelled images; raises what `evaluate_classification` does."""
    limits = limits or RowLimits()
    items, sample = read_sample(data, limits.limit)
    reader, vectors, truth = RowReader(data.source.rows, limits), list[Float32](), list[int]()
    index = {label: at for at, label in enumerate(labels.labels)}
    for pair, _, vector in embed_image_rows(engine, items, reader):
        vectors.append(vector)
        truth.append(index[str(pair.label)])
    counts, rows_sha256 = reader.close(data.source.path)
    counts |= {
        "images": len(reader.images),
        "classes": len(index),
        "images_among_anchors": count_images_among_anchors(engine.anchors, reader.images),
    }
    used = describe_data_used(data.source, rows_sha256)
    description = DatasetDescription(counts, tuple(labels.templates), used, sample)
    images = Embeddings.from_raw(np.stack(vectors))
    return LabelSet(name, images, np.array(truth), labels, engine.encode_texts, description)
