"""Zero-shot retrieval between the images and the captions of a data set, in both directions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from asif.engine import Engine
from asif.errors import BadImage, EncoderMismatch
from asif.evaluate.anchor_overlap import count_images_among_anchors, find_images_near_anchors
from asif.evaluate.evaluation import Evaluation
from asif.evaluate.ground_truth import (
    RelevantCandidates,
    count_shared_captions,
    find_relevant_by_content,
    find_relevant_by_position,
    number_distinct_texts,
)
from asif.evaluate.label_sample import describe_first_rows
from asif.evaluate.metrics import best_ranks, median_rank, recall_at
from asif.evaluate.provenance import describe_data_used, describe_engine_used
from asif.evaluate.row_reader import RowLimits, RowReader
from asif.pairs import Pair, PairSource, Reject
from asif.vectors import Embeddings, Float32, Int64, Side

_RECALL_KS = (1, 5, 10)
_CLIP_BENCHMARK_METRICS = ("image_retrieval_recall@5", "text_retrieval_recall@5")
_IMAGE_BATCH = 256


@dataclass
class Gallery:
    """Collect images [n, di] and captions [m] with the image each belongs to; equal images are one."""

    images: list[Float32] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    caption_vectors: list[Float32] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add(self, pair: Pair, image: str, vector: Float32) -> None:
        """Add the captions of one row to its image, by sha256."""
        place = self.places.setdefault(image, len(self.images))
        if place == len(self.images):
            self.images.append(vector)
        if pair.text_embedding is not None:
            text_vector = np.asarray(pair.text_embedding, np.float32)
            self.caption_vectors.append(text_vector)
            self.captions.append(hashlib.sha256(text_vector.tobytes()).hexdigest())  # equal vectors are equal captions
            self.owners.append(place)
        else:
            self.captions += pair.captions
            self.owners += [place] * len(pair.captions)


def evaluate_retrieval(
    engine: Engine, source: PairSource, *, limits: RowLimits | None = None, dataset: str | None = None
) -> Evaluation:
    """Search the captions for every image and the images for every caption, as CLIP_benchmark does.

    Rows with equal images are one image with all their captions. A recall is a hit rate: any of an image's captions
    among the first k; only its own image is relevant for a caption. `shared` has the figures if a caption that
    several images share is relevant for each of them. Memory: all embeddings, and scores a block at a time. Raises
    InputRefused for more bad rows than `limits` allow, EncoderMismatch for vectors that other
    encoders made.
    """
    started, anchors = time.perf_counter(), engine.anchors
    check_pair_vectors(engine, source)
    limits = limits or RowLimits()
    reader, gallery = RowReader(source.rows, limits), Gallery()
    for pair, image, vector in embed_image_rows(engine, source.read(), reader):
        gallery.add(pair, image, vector)
    counts, rows_sha256 = reader.close(source.path)
    read = time.perf_counter()
    images = Embeddings.from_raw(np.stack(gallery.images))
    cut = 0 if gallery.caption_vectors else engine.count_cut_texts(gallery.captions)
    texts = encode_captions(engine, gallery)
    encoded = time.perf_counter()
    owners, keys = np.array(gallery.owners), number_distinct_texts(gallery.captions)
    shared = count_shared_captions(owners, keys)
    relevant = [find_relevant_by_position(owners, len(images))]
    if shared:
        relevant.append(find_relevant_by_content(owners, keys, len(images)))
    image_ranks = _rank_best_relevant(engine, "image", images, texts, relevant)
    text_ranks = _rank_best_relevant(engine, "text", texts, images, relevant)
    strict, near = compute_retrieval_metrics(image_ranks[0], text_ranks[0]), find_images_near_anchors(engine, images)
    return Evaluation(
        task="zeroshot_retrieval",
        dataset=dataset or str(source.path),
        metrics={name: strict.pop(name) for name in _CLIP_BENCHMARK_METRICS},
        further=strict,
        shared=compute_retrieval_metrics(image_ranks[-1], text_ranks[-1]),
        counts={
            **counts,
            "images": len(images),
            "captions": len(texts),
            "captions_shared": shared,
            **({"captions_cut": cut} if cut else {}),
            "images_among_anchors": count_images_among_anchors(anchors, reader.images),
            **({} if near is None else {"images_near_anchors": int(near.sum())}),
        },
        prompts=None,
        engine=describe_engine_used(engine, anchors, "search"),
        data=describe_data_used(source, rows_sha256),
        seconds={
            "images": read - started,
            "captions": encoded - read,
            "compare": time.perf_counter() - encoded,
            "total": time.perf_counter() - started,
        },
        sample=describe_first_rows(source.rows, limits.limit),
    )


def check_pair_vectors(engine: Engine, source: PairSource) -> None:
    """Raise EncoderMismatch for vectors unless the anchors are vectors of the same widths."""
    anchors = engine.anchors
    dims = (anchors.dims["image"], anchors.dims["text"])
    made = {anchors.encoder_spec(side) for side in ("image", "text")}
    if source.dims and (made != {"precomputed"} or source.dims != dims):
        raise EncoderMismatch(
            f"{source.path} has vectors of {source.dims[0]} (image) and {source.dims[1]} (text) dimensions",
            f"{'vectors' if made == {'precomputed'} else 'images and captions'} for {anchors.ref}, "
            f"made with {' and '.join(sorted(made))}, {dims[0]} and {dims[1]} dimensions",
            "name the image column with --column image=NAME, or use anchors of vectors from the same encoders",
        )


def embed_image_rows(
    engine: Engine, items: Iterator[Pair | Reject], reader: RowReader
) -> Iterator[tuple[Pair, str, Float32]]:
    """Yield the usable rows with the sha256 and the embedding of their image; equal images are encoded once."""
    rows, vectors = reader.read(items), dict[str, Float32 | BadImage]()
    while batch := list(islice(rows, _IMAGE_BATCH)):
        new = {image: content for _, content, image in batch if content is not None and image not in vectors}
        vectors.update(zip(new, engine.encode_images(new.values()), strict=True))
        for pair, content, image in batch:
            vector = np.asarray(pair.image_embedding, np.float32) if content is None else vectors[image]
            if isinstance(vector, BadImage):
                reader.reject(Reject(pair.row, pair.id, vector.came))
            else:
                reader.keep(pair, image)
                yield pair, image, vector


def encode_captions(engine: Engine, gallery: Gallery) -> Embeddings:
    """Encode the captions of a gallery, equal ones once; precomputed vectors are used as they are."""
    if gallery.caption_vectors:
        return Embeddings.from_raw(np.stack(gallery.caption_vectors))
    distinct, keys = list(dict.fromkeys(gallery.captions)), number_distinct_texts(gallery.captions)
    return engine.encode_texts(distinct).select_rows(keys)


def _rank_best_relevant(
    engine: Engine, side: Side, queries: Embeddings, candidates: Embeddings, relevant: Sequence[RelevantCandidates]
) -> list[Int64]:
    """Rank the best relevant candidate of every query, for each notion of relevance."""
    ranks: list[list[Int64]] = [[] for _ in relevant]
    start = 0
    for block in engine.score_blocks(side, queries, candidates):
        for found, notion in zip(ranks, relevant, strict=True):
            found.append(best_ranks(block, notion[side][start : start + len(block)]))
        start += len(block)
    return [np.concatenate(found) for found in ranks]


def compute_retrieval_metrics(image_ranks: Int64, text_ranks: Int64) -> dict[str, float | None]:
    """Compute the metrics of both directions from ranks by the side of the query [images], [captions].

    As in CLIP_benchmark, image retrieval finds an image for a caption, and text retrieval a caption for an image.
    """
    directions = {"image": (text_ranks, len(image_ranks)), "text": (image_ranks, len(text_ranks))}
    recalls = {
        f"{found}_retrieval_recall@{k}": recall_at(ranks, k, candidates)
        for k in _RECALL_KS
        for found, (ranks, candidates) in directions.items()
    }
    return recalls | {f"{found}_retrieval_median_rank": median_rank(ranks) for found, (ranks, _) in directions.items()}
