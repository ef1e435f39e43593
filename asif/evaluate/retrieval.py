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
from asif.evaluate.ground_truth import Right, by_content, by_position, numbered, shared_captions
from asif.evaluate.metrics import best_ranks, median_rank, recall_at
from asif.evaluate.provenance import Evaluation, about, also_anchors, made_by, near_anchors
from asif.evaluate.row_reader import Intake, Terms
from asif.pairs import Pair, PairSource, Reject
from asif.vectors import Embeddings, Float32, Int64, Side

KS = (1, 5, 10)
PUBLISHED = ("image_retrieval_recall@5", "text_retrieval_recall@5")
ROWS, TEXTS = 256, 1024


@dataclass
class Gallery:
    """Collect images [n, di] and captions [m] with the image each belongs to; equal images are one."""

    images: list[Float32] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    vectors: list[Float32] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add(self, pair: Pair, image: str, vector: Float32) -> None:
        """Add the captions of one row to its image, by sha256."""
        place = self.places.setdefault(image, len(self.images))
        if place == len(self.images):
            self.images.append(vector)
        if pair.text_embedding is not None:
            text = np.asarray(pair.text_embedding, np.float32)
            self.vectors.append(text)
            self.texts.append(hashlib.sha256(text.tobytes()).hexdigest())  # equal vectors are equal captions
            self.owners.append(place)
        else:
            self.texts += pair.captions
            self.owners += [place] * len(pair.captions)


def evaluate_retrieval(
    engine: Engine, source: PairSource, *, terms: Terms | None = None, dataset: str | None = None
) -> Evaluation:
    """Search the captions for every image and the images for every caption, as CLIP_benchmark does.

    Rows with equal images are one image with all their captions. A recall is a hit rate: any of an image's captions
    among the first k; a caption's image alone is right for it. `further` has the figures where captions that several
    images share are right for each of them. Memory: all embeddings, and scores a block at a time. Raises InputRefused
    for more bad rows than `terms` allow, EncoderMismatch for vectors that the anchors' encoders did not make.
    """
    started, anchors = time.perf_counter(), engine.anchors
    check_vectors(engine, source)
    intake, gallery = Intake(source.rows, terms or Terms()), Gallery()
    for pair, image, vector in embedded(engine, source.read(), intake):
        gallery.add(pair, image, vector)
    counts, rows_sha256 = intake.close(source.path)
    read = time.perf_counter()
    images = Embeddings.from_raw(np.stack(gallery.images))
    owners, keys = np.array(gallery.owners), numbered(gallery.texts)
    texts = Embeddings.from_raw(np.stack(gallery.vectors)) if gallery.vectors else encode(engine, gallery.texts, keys)
    encoded = time.perf_counter()
    shared = shared_captions(owners, keys)
    right = [by_position(owners, len(images)), *([by_content(owners, keys, len(images))] if shared else [])]
    of_images, of_texts = ranks(engine, "image", images, texts, right), ranks(engine, "text", texts, images, right)
    figures, lenient = report(of_images[0], of_texts[0]), report(of_images[-1], of_texts[-1])
    return Evaluation(
        task="zeroshot_retrieval",
        dataset=dataset or str(source.path),
        metrics={name: figures.pop(name) for name in PUBLISHED},
        further={**figures, "shared_captions_right": lenient},
        counts={
            **counts,
            "images": len(images),
            "captions": len(texts),
            "captions_shared": shared,
            "images_among_anchors": also_anchors(anchors, intake.images),
            "images_near_anchors": int(near_anchors(engine, images).sum()),
        },
        prompts={},
        made_by=made_by(engine, anchors, "search"),
        data=about(source, rows_sha256),
        seconds={
            "images": read - started,
            "captions": encoded - read,
            "compare": time.perf_counter() - encoded,
            "total": time.perf_counter() - started,
        },
    )


def check_vectors(engine: Engine, source: PairSource) -> None:
    """Refuse vectors unless the anchors are vectors of the same widths."""
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


def embedded(engine: Engine, items: Iterator[Pair | Reject], intake: Intake) -> Iterator[tuple[Pair, str, Float32]]:
    """Yield the usable rows with the sha256 and the embedding of their image; equal images are encoded once."""
    rows, known = intake.read(items), dict[str, Float32 | BadImage]()
    while some := list(islice(rows, ROWS)):
        new = {image: content for _, content, image in some if content is not None and image not in known}
        known.update(zip(new, engine.encode_images(new.values()), strict=True))
        for pair, content, image in some:
            vector = np.asarray(pair.image_embedding, np.float32) if content is None else known[image]
            if isinstance(vector, BadImage):
                intake.reject(Reject(pair.row, pair.id, vector.came))
            else:
                intake.keep(pair, image)
                yield pair, image, vector


def encode(engine: Engine, texts: Sequence[str], keys: Int64) -> Embeddings:
    """Encode captions, some at a time; equal ones, by `keys`, once."""
    distinct = list(dict.fromkeys(texts))
    parts = [engine.encode_texts(distinct[start : start + TEXTS]).values for start in range(0, len(distinct), TEXTS)]
    return Embeddings(np.concatenate(parts)[keys])


def ranks(engine: Engine, side: Side, queries: Embeddings, candidates: Embeddings, right: list[Right]) -> list[Int64]:
    """Rank the best right candidate of every query, for each notion of what is right."""
    found: list[list[Int64]] = [[] for _ in right]
    start = 0
    for block in engine.score_blocks(side, queries, candidates):
        for each, notion in zip(found, right, strict=True):
            each.append(best_ranks(block, notion[side][start : start + len(block)]))
        start += len(block)
    return [np.concatenate(each) for each in found]


def report(of_images: Int64, of_texts: Int64) -> dict[str, float | None]:
    """Name the figures: an image is retrieved for a text, and a text for an image."""
    ways = {"image": (of_texts, len(of_images)), "text": (of_images, len(of_texts))}
    figures = {
        f"{way}_retrieval_recall@{k}": recall_at(found, k, candidates)
        for k in KS
        for way, (found, candidates) in ways.items()
    }
    return figures | {f"{way}_retrieval_median_rank": median_rank(found) for way, (found, _) in ways.items()}
