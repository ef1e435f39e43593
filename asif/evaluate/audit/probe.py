"""A probe: images, with captions or without, that stand for what an anchor set will be asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.engine import Engine
from asif.errors import InputRefused
from asif.evaluate.comparison.datasets import retrieval_set
from asif.evaluate.provenance import also_anchors
from asif.evaluate.retrieval import check_vectors, embedded
from asif.evaluate.row_reader import Intake, Terms
from asif.pairs import Pair, Place, Reject, open_captioned, open_labelled, redacted
from asif.pairs.location import entries, place_of
from asif.pairs.webdataset import IMAGES
from asif.vectors import SIDES, Embeddings, Float32, Side


@dataclass(frozen=True)
class Probe:
    """Hold queries by side, unit rows [q, d], and what they are."""

    queries: dict[Side, Float32]
    about: dict[str, Any]


def probe_of(engine: Engine, path: str, terms: Terms | None = None) -> Probe:
    """Encode a probe: pairs; else labelled images, whose labels are not asked; else an image, or a folder of images.

    Raises UsageError for a path that is not there, InputRefused where nothing can be used, EncoderMismatch for vectors
    of other encoders.
    """
    terms = terms or Terms()
    try:
        source = open_captioned(path)
    except InputRefused as no_pairs:
        return without_captions(engine, path, no_pairs, terms)
    found = retrieval_set(engine, source, path, terms)
    queries = dict(zip(SIDES, (found.images.values, found.texts.values), strict=True))
    return Probe(queries, {"path": redacted(path), **found.described["counts"]})


def without_captions(engine: Engine, path: str, no_pairs: InputRefused, terms: Terms) -> Probe:
    """Encode a probe of images alone; raises `no_pairs` where there are none."""
    try:
        data = open_labelled(path)
    except InputRefused:
        files = images_at(place_of(path))
        if not files:
            raise no_pairs from None
        items: Iterator[Pair | Reject] = (Pair(row, str(file), file, ("",)) for row, file in enumerate(files))
        return of_images(engine, path, items, Intake(len(files), terms))
    check_vectors(engine, data.source)
    return of_images(engine, path, data.read(), Intake(data.source.rows, terms))


def images_at(place: Place) -> list[Place]:
    """Return an image file, or those in a folder, by their names."""
    files = list(entries(place).values()) if place.is_dir() else [place]
    return [file for file in files if file.suffix.lower().lstrip(".") in IMAGES and file.is_file()]


def of_images(engine: Engine, path: str, items: Iterator[Pair | Reject], intake: Intake) -> Probe:
    """Encode images alone."""
    vectors = [vector for _, _, vector in embedded(engine, items, intake)]
    counts, _ = intake.close(place_of(path))
    among = also_anchors(engine.anchors, intake.images)
    values = Embeddings.from_raw(np.stack(vectors)).values
    return Probe(
        {"image": values}, {"path": redacted(path), **counts, "images": len(values), "images_among_anchors": among}
    )
