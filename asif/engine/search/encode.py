"""Encode queries with the encoders of some anchors, which must be those of the gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asif.anchorset import Gallery, OpenAnchors
from asif.encoders import ImageInput
from asif.engine.encoder_pool import EncoderPool
from asif.engine.predict import encode_in_batches, iter_vectors
from asif.engine.search.query import Query, QueryPart
from asif.errors import BadMedia, EncoderMismatch, NotFound
from asif.pairs.filter_expression import parse_where
from asif.pairs.item import ITEM_FIELDS
from asif.vectors import Float32, Side, gather_rows


@dataclass(frozen=True)
class EncodedQuery:
    """Hold the vectors of a query's parts [d], in order, each of the side of its kind."""

    query: Query
    vectors: tuple[Float32, ...]
    error: BadMedia | None = None

    def list_sides(self, gallery: Side) -> list[tuple[Side, Float32]]:
        """Return the side and the vector of each part; an item is of the gallery's side."""
        sides: dict[str, Side] = {"text": "text", "image": "image", "item": gallery}
        return [(sides[part.kind], vector) for part, vector in zip(self.query.parts, self.vectors, strict=True)]

    def is_shared(self, gallery: Side) -> bool:
        """Tell whether a part is on the other side than the gallery, so that the aligner has to compare."""
        return any(side != gallery for side, _ in self.list_sides(gallery))


def check_gallery(gallery: Gallery, anchors: OpenAnchors, encoders: EncoderPool) -> None:
    """Raise EncoderMismatch unless one encoder made a gallery and its side of some anchors; see `check_encoder`."""
    side = gallery.side
    if gallery.fingerprint == anchors.fingerprint(side):
        return
    specs = gallery.encoder_spec, anchors.encoder_spec(side)
    try:
        if specs[0] == specs[1] != "precomputed":
            load: Callable[..., Any] = encoders.load_image_encoder if side == "image" else encoders.load_text_encoder
            encoders.check(anchors, side, load(gallery.opened))
            return
    except EncoderMismatch as error:
        why = f" ({error.came})"
    else:
        why = ""
    raise EncoderMismatch(
        f"{gallery.ref} was made with {specs[0]}, fingerprint {gallery.fingerprint.digest[:12]}{why}",
        f"{specs[1]}, fingerprint {anchors.fingerprint(side).digest[:12]}, with which {anchors.ref} was made",
        "search with anchors of the gallery's encoder, --anchors REF, or make a gallery for these: "
        f"asif gallery build SRC --name NAME --anchors {anchors.ref}",
    )


def encode_queries(
    queries: Sequence[Query],
    gallery: Gallery,
    anchors: OpenAnchors,
    encoders: EncoderPool,
    within: str | None = None,
) -> list[EncodedQuery]:
    """Encode all parts of all queries, each kind at once; equal texts are encoded once."""
    texts = list_texts(queries)
    text_vectors: dict[str, Float32] = {}
    if texts:
        encoders.report_cut_texts(texts, anchors)
        text_vectors = dict(zip(texts, encoders.encode_texts(texts, anchors).values, strict=True))
    return join_parts(queries, gallery, text_vectors, _encode_images(list_images(queries), anchors, encoders), within)


def list_texts(queries: Sequence[Query]) -> list[str]:
    """List the texts of queries, each once."""
    return list(dict.fromkeys(str(part.content) for part in _list_parts(queries, "text")))


def list_images(queries: Sequence[Query]) -> list[ImageInput]:
    """List the images of queries, in order."""
    return [part.content for part in _list_parts(queries, "image")]


def join_parts(
    queries: Sequence[Query],
    gallery: Gallery,
    text_vectors: Mapping[str, Float32],
    image_vectors: Iterable[Float32 | BadMedia],
    within: str | None = None,
) -> list[EncodedQuery]:
    """Give each query the vectors of its parts: of its texts by text, of its images in order, of items as stored.

    Raises NotFound for an item that the gallery does not have, or that does not match `within`.
    """
    images = iter(image_vectors)
    item_vectors = _find_items([str(part.content) for part in _list_parts(queries, "item")], gallery, within)
    encoded = []
    for query in queries:
        vectors: list[Float32] = []
        error: BadMedia | None = None
        for part in query.parts:
            found = (
                text_vectors[str(part.content)]
                if part.kind == "text"
                else next(images)
                if part.kind == "image"
                else item_vectors[str(part.content)]
            )
            if isinstance(found, BadMedia):
                error = error or found
            else:
                vectors.append(found)
        encoded.append(EncodedQuery(query, tuple(vectors), error))
    return encoded


def _list_parts(queries: Sequence[Query], kind: str) -> list[QueryPart]:
    return [part for query in queries for part in query.parts if part.kind == kind]


def _encode_images(
    images: Sequence[ImageInput], anchors: OpenAnchors, encoders: EncoderPool
) -> Iterator[Float32 | BadMedia]:
    if not images:
        return iter(())
    return iter_vectors(encode_in_batches(encoders.load_image_encoder(anchors), images))


def _find_items(ids: Sequence[str], gallery: Gallery, within: str | None) -> dict[str, Float32]:
    """Return the vectors of items by id; raises NotFound."""
    if not ids:
        return {}
    rows = gallery.find_rows(ids)
    if within is not None:
        matches = parse_where(within, ITEM_FIELDS)
        rows = {name: row for name, row in rows.items() if matches(gallery.records([row])[0])}
    missing = [name for name in ids if name not in rows]
    if missing:
        raise NotFound(
            f"{gallery.ref} has no item {missing[0]!r}",
            "the id of an item of the gallery",
            f"list some: asif gallery info {gallery.name}, or search by the file itself: --image FILE",
        )
    return {
        name: gather_rows(gallery.vectors, np.array([row], np.int64))[0].astype(np.float32)
        for name, row in rows.items()
    }
