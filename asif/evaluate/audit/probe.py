"""A probe: images, with captions or without, that stand for what an anchor set will be asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asif.engine import Engine
from asif.errors import InputRefused
from asif.evaluate.examined import retrieval_set
from asif.evaluate.intake import Intake, Terms
from asif.evaluate.result import also_anchors
from asif.evaluate.retrieval import check_vectors, embedded
from asif.pairs import Pair, Reject, open_captioned, open_labelled
from asif.vectors import SIDES, Embeddings, Float32, Side


@dataclass(frozen=True)
class Probe:
    """Hold queries by side, unit rows [q, d], and what they are."""

    queries: dict[Side, Float32]
    about: dict[str, Any]


def probe_of(engine: Engine, path: str, images: list[Path], terms: Terms | None = None) -> Probe:
    """Encode a probe: pairs, labelled images (their labels are not asked), or `images`, the files in a plain folder.

    Raises InputRefused where nothing can be used, EncoderMismatch for vectors of other encoders.
    """
    terms = terms or Terms()
    if images:
        items: Iterator[Pair | Reject] = (Pair(row, str(file), file, ("",)) for row, file in enumerate(images))
        return of_images(engine, path, items, Intake(len(images), terms))
    try:
        source = open_captioned(path)
    except InputRefused as no_captions:
        try:
            data = open_labelled(path)
        except InputRefused:
            raise no_captions from None
        check_vectors(engine, data.source)
        return of_images(engine, path, data.read(), Intake(data.source.rows, terms))
    found = retrieval_set(engine, source, path, terms)
    queries = dict(zip(SIDES, (found.images.values, found.texts.values), strict=True))
    return Probe(queries, {"path": path, **found.described["counts"]})


def of_images(engine: Engine, path: str, items: Iterator[Pair | Reject], intake: Intake) -> Probe:
    """Encode images alone."""
    vectors = [vector for _, _, vector in embedded(engine, items, intake)]
    counts, _ = intake.close(Path(path))
    among = also_anchors(engine.anchors, intake.images)
    values = Embeddings.from_raw(np.stack(vectors)).values
    return Probe({"image": values}, {"path": path, **counts, "images": len(values), "images_among_anchors": among})
