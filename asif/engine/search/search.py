"""Search a gallery: queries to ranked items, with the chance of each score and the anchors behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from asif.anchorset import AnchorsIdentity, Gallery, OpenAnchors
from asif.encoders import ImageInput
from asif.engine.encoder_pool import EncoderPool
from asif.engine.predict import encode_in_batches, iter_vectors
from asif.engine.search.gallery_rows import add_rows
from asif.engine.search.query import Query, QueryPart
from asif.engine.search.represented import RepresentedGallery, extend_query, represent_block
from asif.errors import BadImage, EncoderMismatch, NotFound, UsageError
from asif.explain import Contributions, compute_contributions
from asif.pairs import PairRecord
from asif.pairs.item import ITEM_FIELDS, ItemRecord
from asif.vectors import (
    AnchorContributions,
    DenseRows,
    Embeddings,
    Float32,
    FusedRows,
    Int64,
    Rows,
    Side,
    gather_rows,
    join_rows,
)

QUERIES_PER_BATCH = 256
_VALUES_SHOWN = 10
Space = Literal["shared", "image", "text"]


@dataclass(frozen=True)
class SearchOptions:
    """Say which results are wanted: `k` after the first `offset`, of the items that match `where`.

    With `only_relevant`, results are left out if one item as good, or more, is expected by chance among those that are
    searched. `explain` is the number of anchors to name behind each result.
    """

    k: int = 20
    offset: int = 0
    where: str | None = None
    only_relevant: bool = False
    explain: int = 0

    def __post_init__(self) -> None:
        if self.k < 1 or self.offset < 0:
            raise UsageError(
                f"k is {self.k}, offset {self.offset}", "k from 1, offset from 0", "pass for example k=20, offset=0"
            )


@dataclass(frozen=True)
class SearchEvidence:
    """The anchors behind a score; `parts` has the sum of the contributions to each part of the query, in its order.

    The score is the sum of all contributions minus `hubness`.
    """

    contributions: Contributions
    records: tuple[PairRecord, ...]
    parts: tuple[float, ...]
    hubness: float = 0.0


@dataclass(frozen=True)
class SearchResult:
    """One item that was found: its row in the gallery, its record, its score, and the chance of such a score."""

    row: int
    item: ItemRecord
    score: float
    chance: float
    evidence: SearchEvidence | None = None

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def uri(self) -> str:
        return self.item.uri

    def __repr__(self) -> str:
        return f"<SearchResult {self.id}: {self.score:.4f}, chance {self.chance:.2g}>"


@dataclass(frozen=True)
class SearchAnswer:
    """The results of one query, best first; `error` if an image of it could not be decoded.

    `space` is where scores were computed: `shared` by the aligner, or the space of the gallery's own encoder, if all of
    the query was of its kind. `searched` counts the items that match the filter. `relevant` counts those of the first
    k that less than one item is expected to reach by chance.
    """

    query: Query
    results: tuple[SearchResult, ...]
    gallery: AnchorsIdentity
    anchors: AnchorsIdentity
    space: Space
    searched: int
    relevant: int
    timings_ms: dict[str, float] = field(default_factory=dict)
    error: BadImage | None = None

    def __iter__(self) -> Iterator[SearchResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.id} {each.score:.4f}" for each in self.results[:3])
        more = ", …" if len(self.results) > 3 else ""
        return f"<SearchAnswer {str(self.query)!r} in {self.gallery.name}: {shown or 'nothing'}{more}>"


@dataclass(frozen=True)
class _EncodedQuery:
    """Hold the vectors of a query's parts [d], in order, each of the side of its kind."""

    query: Query
    vectors: tuple[Float32, ...]
    error: BadImage | None = None


def search_gallery(
    represented: RepresentedGallery, encoders: EncoderPool, queries: Sequence[Query], options: SearchOptions
) -> Iterator[SearchAnswer]:
    """Search a gallery for each query; yields one answer per query, in order.

    Raises EncoderMismatch for a gallery of another encoder than that of the anchors, NotFound for an item that a query
    names and the gallery does not have, UsageError for a filter that no item matches.
    """
    gallery, anchors = represented.gallery, represented.task.anchors
    check_gallery(gallery, anchors, encoders)
    among = None if options.where is None else _find_matches(represented, options.where)
    return _search_in_batches(represented, encoders, queries, among, options)


def _search_in_batches(
    represented: RepresentedGallery,
    encoders: EncoderPool,
    queries: Sequence[Query],
    among: Int64 | None,
    options: SearchOptions,
) -> Iterator[SearchAnswer]:
    gallery, anchors = represented.gallery, represented.task.anchors
    waiting = iter(queries)
    while batch := list(islice(waiting, QUERIES_PER_BATCH)):
        started = time.perf_counter()
        encoded = encode_queries(batch, gallery, anchors, encoders)
        encode_ms = 1000 * (time.perf_counter() - started) / len(batch)
        for answer in _answer_queries(represented, encoded, among, options):
            yield replace(answer, timings_ms={"encode": encode_ms, **answer.timings_ms})


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
    queries: Sequence[Query], gallery: Gallery, anchors: OpenAnchors, encoders: EncoderPool
) -> list[_EncodedQuery]:
    """Encode all parts of all queries, each kind at once; equal texts are encoded once."""
    texts = list(dict.fromkeys(str(part.content) for part in _list_parts(queries, "text")))
    text_vectors: dict[str, Float32] = {}
    if texts:
        encoders.report_cut_texts(texts, anchors)
        text_vectors = dict(zip(texts, encoders.encode_texts(texts, anchors).values, strict=True))
    images = iter(_encode_images([part.content for part in _list_parts(queries, "image")], anchors, encoders))
    item_vectors = _find_items([str(part.content) for part in _list_parts(queries, "item")], gallery)
    encoded = []
    for query in queries:
        vectors: list[Float32] = []
        error: BadImage | None = None
        for part in query.parts:
            found = (
                text_vectors[str(part.content)]
                if part.kind == "text"
                else next(images)
                if part.kind == "image"
                else item_vectors[str(part.content)]
            )
            if isinstance(found, BadImage):
                error = error or found
            else:
                vectors.append(found)
        encoded.append(_EncodedQuery(query, tuple(vectors), error))
    return encoded


def _list_parts(queries: Sequence[Query], kind: str) -> list[QueryPart]:
    return [part for query in queries for part in query.parts if part.kind == kind]


def _encode_images(
    images: Sequence[ImageInput], anchors: OpenAnchors, encoders: EncoderPool
) -> Iterator[Float32 | BadImage]:
    if not images:
        return iter(())
    return iter_vectors(encode_in_batches(encoders.load_image_encoder(anchors), images))


def _find_items(ids: Sequence[str], gallery: Gallery) -> dict[str, Float32]:
    """Return the vectors of items by id; raises NotFound."""
    if not ids:
        return {}
    rows = gallery.find_rows(ids)
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


def _find_matches(represented: RepresentedGallery, where: str) -> Int64:
    """Return the rows that match; raises UsageError, which names values that occur, if there are none."""
    rows = represented.find_matches(where)
    if len(rows):
        return rows
    known = []
    for name in ("label", "source", "licence"):
        if name in where:
            values = sorted({value for item in represented.gallery for value in ITEM_FIELDS[name](item) if value})
            more = ", …" if len(values) > _VALUES_SHOWN else ""
            known.append(f"{name}: {', '.join(values[:_VALUES_SHOWN])}{more}" if values else f"{name}: no item has one")
    raise UsageError(
        f"no item of {represented.gallery.ref} matches {where!r}",
        f"an expression that some of {len(represented.gallery):,} items match",
        f"known values of {'; '.join(known)}"
        if known
        else f"look at items: asif gallery info {represented.gallery.name}",
    )


def _answer_queries(
    represented: RepresentedGallery, encoded: Sequence[_EncodedQuery], among: Int64 | None, options: SearchOptions
) -> Iterator[SearchAnswer]:
    """Answer queries in order; those of one space are searched for together."""
    started = time.perf_counter()
    prepared = [None if each.error else _prepare_query(represented, each) for each in encoded]
    represent_ms = 1000 * (time.perf_counter() - started) / len(encoded)
    started = time.perf_counter()
    found: dict[int, tuple[Int64, Float32]] = {}
    for is_shared in (True, False):
        chosen = [at for at, each in enumerate(prepared) if each is not None and each.is_shared == is_shared]
        if chosen:
            rows = represented.shared if is_shared else represented.own
            queries = join_rows([each.extended for at in chosen if (each := prepared[at]) is not None])
            best = rows.find_best(queries, options.offset + options.k, among)
            found |= {at: (best.indices[place], best.scores[place]) for place, at in enumerate(chosen)}
    compare_ms = 1000 * (time.perf_counter() - started) / len(encoded)
    searched = len(represented.gallery) if among is None else len(among)
    for at, ready in enumerate(prepared):
        if ready is None:
            answer = _make_answer(represented, encoded[at].query, "shared", searched)
            yield replace(answer, error=encoded[at].error)
            continue
        started = time.perf_counter()
        answer = _describe_found(represented, ready, *found[at], searched, options)
        describe_ms = 1000 * (time.perf_counter() - started)
        yield replace(answer, timings_ms={"represent": represent_ms, "compare": compare_ms, "describe": describe_ms})


@dataclass(frozen=True)
class _PreparedQuery:
    """Hold a query as one row, the rows of its parts, and the factor by which each part counts.

    `facing` [m, d] are the vectors of the parts on the other side than the gallery's.
    """

    query: Query
    row: Rows
    parts: tuple[Rows, ...]
    factors: tuple[float, ...]
    facing: Float32 | None
    extended: Rows

    @property
    def is_shared(self) -> bool:
        return self.facing is not None


def _find_side(part: QueryPart, gallery: Side) -> Side:
    if part.kind == "item":
        return gallery
    return "text" if part.kind == "text" else "image"


def _prepare_query(represented: RepresentedGallery, encoded: _EncodedQuery) -> _PreparedQuery:
    """Represent the parts of a query, and add them; raises UsageError if they cancel each other out."""
    side, task = represented.side, represented.task
    sides = [_find_side(part, side) for part in encoded.query.parts]
    weights = [part.weight for part in encoded.query.parts]
    is_shared = any(each != side for each in sides)
    vectors = [vector[None] for vector in encoded.vectors]
    rows: list[Rows] = (
        [
            task.fitted.represent(each, Embeddings(vector), task.kernel)
            for each, vector in zip(sides, vectors, strict=True)
        ]
        if is_shared
        else [DenseRows(vector) for vector in vectors]
    )
    row, factors = add_rows(rows, weights)
    if not any(factors):
        raise UsageError(
            f"the parts of the query {str(encoded.query)!r} cancel each other out", "something left", "change a weight"
        )
    facing = None
    if is_shared:
        facing = np.concatenate([vector for each, vector in zip(sides, vectors, strict=True) if each != side])
    extended = extend_query(row, task) if is_shared else row
    return _PreparedQuery(encoded.query, row, tuple(rows), tuple(factors), facing, extended)


def _make_answer(represented: RepresentedGallery, query: Query, space: Space, searched: int) -> SearchAnswer:
    gallery = represented.gallery
    identity = AnchorsIdentity(gallery.name, gallery.version, gallery.digest)
    return SearchAnswer(query, (), identity, represented.task.anchors.named, space, searched, 0)


def _describe_found(
    represented: RepresentedGallery,
    ready: _PreparedQuery,
    rows: Int64,
    scores: Float32,
    searched: int,
    options: SearchOptions,
) -> SearchAnswer:
    """Measure the chance of each score, leave out what chance would reach, and explain the rest."""
    chances = represented.measure_chance(ready.row, ready.facing).estimate(scores)
    relevant = int((chances * searched < 1).sum())
    stop = min(len(rows), relevant) if options.only_relevant else len(rows)
    shown = slice(options.offset, max(options.offset, stop))
    records = represented.gallery.records(rows[shown])
    results = []
    for row, record, score, chance in zip(rows[shown].tolist(), records, scores[shown], chances[shown], strict=True):
        evidence = _explain(represented, ready, row, options.explain) if options.explain and ready.is_shared else None
        results.append(SearchResult(row, record, float(score), float(chance), evidence))
    answer = _make_answer(represented, ready.query, "shared" if ready.is_shared else represented.side, searched)
    return replace(answer, results=tuple(results), relevant=relevant)


def _explain(represented: RepresentedGallery, ready: _PreparedQuery, row: int, top: int) -> SearchEvidence:
    """Split the score of an item into contributions of anchors, which are the sums of those to the query's parts."""
    task, side = represented.task, represented.side
    vector = gather_rows(represented.gallery.vectors, np.array([row], np.int64))
    item = task.fitted.represent(side, Embeddings(np.asarray(vector, np.float32)), task.kernel)
    by_part = []
    for part, factor in zip(ready.parts, ready.factors, strict=True):
        image, text = (item, part) if side == "image" else (part, item)
        split = task.fitted.split_score(image, text)
        by_part.append(AnchorContributions(split.anchors, split.values * factor))
    anchors, places = np.unique(np.concatenate([one.anchors for one in by_part]), return_inverse=True)
    values = np.zeros(len(anchors))
    np.add.at(values, places, np.concatenate([one.values for one in by_part]))
    contributions = compute_contributions(AnchorContributions(anchors, values), top)
    bias = _read_bias(represented, vector)
    return SearchEvidence(
        contributions,
        tuple(task.anchors.records(contributions.anchors)),
        tuple(float(one.values.sum()) for one in by_part),
        bias,
    )


def _read_bias(represented: RepresentedGallery, vector: Float32) -> float:
    """Return what the hubness correction takes off the scores of an item."""
    if represented.task.choice.hubness.method == "none":
        return 0.0
    rows = represent_block(vector, represented.side, represented.task)
    first = rows.parts[0] if isinstance(rows, FusedRows) else rows
    return -float(first.values[0, -1])
