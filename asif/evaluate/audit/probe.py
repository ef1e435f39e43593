"""A probe: sample queries of an anchor set, images with or without captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.engine import Engine
from asif.errors import InputRefused
from asif.evaluate.anchor_overlap import count_images_among_anchors
from asif.evaluate.comparison.datasets import load_retrieval_set
from asif.evaluate.retrieval import check_pair_vectors, embed_image_rows
from asif.evaluate.row_reader import RowLimits, RowReader
from asif.modality import find_modality, name_many
from asif.pairs import Pair, Place, Reject, open_captioned, open_labelled, redact_url
from asif.pairs.image_files import classify_file, list_loose_files, summarise_unread
from asif.pairs.location import list_folder, parse_place
from asif.pairs.splits import choose_split_folder
from asif.vectors import SIDES, Embeddings, Float32, Side


@dataclass(frozen=True)
class Probe:
    """Hold queries by side, unit rows [q, d]; `about` has their path and counts."""

    queries: dict[Side, Float32]
    about: dict[str, Any]


def encode_probe(
    engine: Engine,
    path: str,
    limits: RowLimits | None = None,
    split: str | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> Probe:
    """Encode a probe: pairs, labelled images (without their labels), an image, or a folder of images.

    `split` chooses one of several splits; `announce` is called with a description of what is read, and what is not.
    Raises UsageError for a missing path or split, InputRefused if no row can be used, EncoderMismatch for vectors of
    other encoders.
    """
    limits = limits or RowLimits()
    try:
        source = open_captioned(path, split=split, modality=_find_modality(engine))
    except InputRefused as no_pairs:
        return _encode_without_captions(engine, path, no_pairs, limits, split, announce)
    announce(source.describe())
    dataset = load_retrieval_set(engine, source, path, limits)
    queries = dict(zip(SIDES, (dataset.images.values, dataset.texts.values), strict=True))
    return Probe(queries, {"path": redact_url(path), **dataset.description.counts})


def _encode_without_captions(
    engine: Engine,
    path: str,
    no_pairs: InputRefused,
    limits: RowLimits,
    split: str | None,
    announce: Callable[[str], None],
) -> Probe:
    """Encode a probe of images alone; raises `no_pairs` if there are none."""
    try:
        data = open_labelled(path, split=split, modality=_find_modality(engine))
    except InputRefused:
        modality = find_modality(engine.anchors, "image")
        files, unread = _list_images(parse_place(path), split, modality)
        if not files:
            raise no_pairs from None
        announce(
            "\n".join(
                [
                    f"{redact_url(path)}: {len(files):,} {name_many(modality)}",
                    *(f"  not read: {text}" for text in unread),
                ]
            )
        )
        items: Iterator[Pair | Reject] = (Pair(row, str(file), file, ("",)) for row, file in enumerate(files))
        return _encode_images(engine, path, items, RowReader(len(files), limits))
    announce(data.source.describe())
    check_pair_vectors(engine, data.source)
    return _encode_images(engine, path, data.read(), RowReader(data.source.rows, limits))


def _find_modality(engine: Engine) -> str | None:
    """Return the modality in which a probe is read; None for images, which may be vectors."""
    modality = find_modality(engine.anchors, "image")
    return None if modality == "image" else modality


def _list_images(place: Place, split: str | None, modality: str) -> tuple[list[Place], tuple[str, ...]]:
    """Return an image file, or the image files of a folder or its split by name, and a text for its other files."""
    if not place.is_dir():
        return ([place] if classify_file(place.name, modality) is None else []), ()
    inside = list_folder(place)
    folder = choose_split_folder(place, inside, split)
    found = list_loose_files(folder or place, modality)
    images = [file for file, kind in found if kind is None]
    folders = [
        "folder" for within in list_folder(folder or place).values() if within.is_dir() and within.name[0] not in "._"
    ]
    return images, summarise_unread([*(kind for _, kind in found if kind is not None), *folders])


def _encode_images(engine: Engine, path: str, items: Iterator[Pair | Reject], reader: RowReader) -> Probe:
    """Encode the images of some rows."""
    vectors = [vector for _, _, vector in embed_image_rows(engine, items, reader)]
    counts, _ = reader.close(parse_place(path))
    among = count_images_among_anchors(engine.anchors, reader.images)
    values = Embeddings.from_raw(np.stack(vectors)).values
    return Probe(
        {"image": values}, {"path": redact_url(path), **counts, "images": len(values), "images_among_anchors": among}
    )
