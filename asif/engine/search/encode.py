"""Encode queries with the encoders of some anchors, which must be those of the gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from asif.anchorset import Gallery, OpenAnchors
from asif.encoders import ImageInput
from asif.engine.encoder_pool import EncoderPool
from asif.engine.predict import encode_in_batches, iter_vectors
from asif.engine.search.hub import Hub
from asif.engine.search.query import Query, QueryPart
from asif.engine.search.results import HubUsed
from asif.errors import BadMedia, EncoderMismatch, NotFound, UsageError
from asif.modality import find_modalities, find_modality, name_many, name_one
from asif.pairs.filter_expression import parse_where
from asif.pairs.item import ITEM_FIELDS
from asif.vectors import Float32, Side, gather_rows


@dataclass(frozen=True)
class EncodedQuery:
    """Hold the vectors of a query's parts [d], in order, each of the side of its kind, as `ways` {kind: side} says.

    `hub` says how a part became a text, if one did.
    """

    query: Query
    vectors: tuple[Float32, ...]
    error: BadMedia | None = None
    ways: Mapping[str, Side] = field(default_factory=dict)
    hub: HubUsed | None = None

    def list_sides(self, gallery: Side) -> list[tuple[Side, Float32]]:
        """Return the side and the vector of each part; an item is of the gallery's side."""
        return list(zip(_find_sides(self.query, self.ways, gallery), self.vectors, strict=True))

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
    hub: Hub | None = None,
) -> list[EncodedQuery]:
    """Encode all parts of all queries, each kind at once; equal texts are encoded once.

    Files of a modality that the anchors do not pair become texts by `hub`. Encoders of an aligner of tokens encode only
    what the aligner compares, not queries of the gallery's own side. Raises UsageError where nothing pairs a file.
    """
    ways = find_ways(queries, anchors, None if hub is None else hub.anchors)
    if encoders.plain is encoders:
        return _encode_all(queries, gallery, anchors, encoders, ways, within, hub)
    compared = [any(side != gallery.side for side in _find_sides(each, ways, gallery.side)) for each in queries]
    found = {}
    for is_compared, pool in ((True, encoders), (False, encoders.plain)):
        some = [each for each, mine in zip(queries, compared, strict=True) if mine == is_compared]
        found[is_compared] = iter(_encode_all(some, gallery, anchors, pool, ways, within, hub) if some else ())
    return [next(found[is_compared]) for is_compared in compared]


def _find_sides(query: Query, ways: Mapping[str, Side], gallery: Side) -> list[Side]:
    """Return the side of each part; an item is of the gallery's side."""
    sides: dict[str, Side] = {"text": "text", "image": "image", **ways, "item": gallery}
    return [sides[part.kind] for part in query.parts]


def _encode_all(
    queries: Sequence[Query],
    gallery: Gallery,
    anchors: OpenAnchors,
    encoders: EncoderPool,
    ways: Mapping[str, Side],
    within: str | None,
    hub: Hub | None,
) -> list[EncodedQuery]:
    """Encode all parts of all queries with the same encoders."""
    texts = list_texts(queries)
    text_vectors: dict[str, Float32] = {}
    if texts:
        encoders.report_cut_texts(texts, anchors)
        text_vectors = dict(zip(texts, encoders.encode_texts(texts, anchors).values, strict=True))
    own = set(find_modalities(anchors).values())
    files = [part for query in queries for part in query.parts if part.is_file]
    mine = _encode_images([part.content for part in files if part.kind in own], anchors, encoders)
    if hub is None:
        return join_parts(queries, gallery, text_vectors, mine, within, ways)
    others = iter_as_texts(hub, encoders, [part.content for part in files if part.kind not in own])
    found = [(next(mine), ()) if part.kind in own else next(others) for part in files]
    joined = join_parts(queries, gallery, text_vectors, [vector for vector, _ in found], within, ways)
    captions = iter([(part.kind not in own, words) for part, (_, words) in zip(files, found, strict=True)])
    return [_name_captions(each, [next(captions) for part in each.query.parts if part.is_file], hub) for each in joined]


def _name_captions(encoded: EncodedQuery, files: Sequence[tuple[bool, tuple[str, ...]]], hub: Hub) -> EncodedQuery:
    """Give a query the captions that stand for its files; `files` tell which of them became texts."""
    captions = tuple(caption for is_text, words in files if is_text for caption in words)
    used = HubUsed(hub.anchors.named, captions) if any(is_text for is_text, _ in files) else None
    return replace(encoded, hub=used)


def iter_as_texts(
    hub: Hub, encoders: EncoderPool, files: Sequence[ImageInput]
) -> Iterator[tuple[Float32 | BadMedia, tuple[str, ...]]]:
    """Yield for each file the vector of the text that stands for it, and its captions; or the error of reading it."""
    for vector in _encode_images(files, hub.anchors, encoders):
        if isinstance(vector, BadMedia):
            yield vector, ()
        else:
            texts, captions = hub.find_texts(vector[None])
            yield texts[0], captions[0]


def find_ways(queries: Sequence[Query], anchors: OpenAnchors, hub: OpenAnchors | None = None) -> dict[str, Side]:
    """Return the side on which parts of each kind are compared; raises UsageError for a file that nothing pairs."""
    ways: dict[str, Side] = {modality: side for side, modality in find_modalities(anchors).items()}
    if hub is not None:
        ways.setdefault(find_modality(hub, "image"), "text")
    for part in (part for query in queries for part in query.parts):
        if part.is_file and part.kind not in ways:
            paired = " and ".join(map(name_many, find_modalities(anchors).values()))
            raise UsageError(
                f"a query with {name_one(part.kind)}, and {anchors.ref}, which pairs {paired}",
                f"{name_one(find_modality(anchors, 'image'))}, or anchors that pair {name_many(part.kind)} with texts",
                "name such anchors besides, to go by way of texts: --via REF",
            )
    return ways


def list_texts(queries: Sequence[Query]) -> list[str]:
    """List the texts of queries, each once."""
    return list(dict.fromkeys(str(part.content) for part in _list_parts(queries, "text")))


def list_images(queries: Sequence[Query]) -> list[ImageInput]:
    """List the images and sounds of queries, in order."""
    return [part.content for query in queries for part in query.parts if part.is_file]


def join_parts(
    queries: Sequence[Query],
    gallery: Gallery,
    text_vectors: Mapping[str, Float32],
    image_vectors: Iterable[Float32 | BadMedia],
    within: str | None = None,
    ways: Mapping[str, Side] | None = None,
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
                if part.is_file
                else item_vectors[str(part.content)]
            )
            if isinstance(found, BadMedia):
                error = error or found
            else:
                vectors.append(found)
        encoded.append(EncodedQuery(query, tuple(vectors), error, ways or {}))
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
