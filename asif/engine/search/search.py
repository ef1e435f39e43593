"""Search a gallery: queries to ranked items, with the chance of each score and the anchors behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from asif.aligners.protocol import reads_tokens, uses_texts
from asif.anchorset import AnchorsIdentity
from asif.engine.encoder_pool import EncoderPool
from asif.engine.search.block_rows import read_texts
from asif.engine.search.encode import EncodedQuery, check_gallery, encode_queries
from asif.engine.search.gallery_rows import add_rows
from asif.engine.search.hub import Hub, check_hub
from asif.engine.search.query import Query
from asif.engine.search.represented import RepresentedGallery, extend_query
from asif.engine.search.results import (
    EXPECTED_BY_CHANCE,
    SearchAnswer,
    SearchEvidence,
    SearchOptions,
    SearchResult,
    Space,
)
from asif.errors import UsageError
from asif.explain import compute_contributions
from asif.pairs.item import ITEM_FIELDS, ItemRecord
from asif.vectors import (
    SIDES,
    AnchorContributions,
    DenseRows,
    Embeddings,
    Float32,
    Float64,
    Int64,
    Rows,
    Side,
    TopK,
    gather_rows,
    join_rows,
    normalise_rows,
)

QUERIES_PER_BATCH = 256
_VALUES_SHOWN = 10


def search_gallery(
    represented: RepresentedGallery,
    encoders: EncoderPool,
    queries: Sequence[Query],
    options: SearchOptions,
    hub: Hub | None = None,
) -> Iterator[SearchAnswer]:
    """Search a gallery for each query; yields one answer per query, in order.

    `hub` turns files of a modality that the anchors do not pair into texts.
    Raises EncoderMismatch for a gallery of another encoder than that of the anchors, NotFound for an item that a query
    names and the gallery does not have, UsageError for a filter that no item matches.
    """
    if hub is not None:
        check_hub(hub.anchors, represented.task.anchors)
    among = _find_searched(represented, encoders, options)
    return _search_in_batches(represented, encoders, queries, among, options, hub)


def search_encoded(
    represented: RepresentedGallery, encoders: EncoderPool, queries: Sequence[EncodedQuery], options: SearchOptions
) -> list[SearchAnswer]:
    """Search a gallery for queries that are encoded already; raises what `search_gallery` does."""
    return list(_answer_queries(represented, queries, _find_searched(represented, encoders, options), options))


def _find_searched(represented: RepresentedGallery, encoders: EncoderPool, options: SearchOptions) -> Int64 | None:
    """Return the rows to look at, None for all; raises EncoderMismatch, and UsageError if no item matches."""
    check_gallery(represented.gallery, represented.task.anchors, encoders)
    among = represented.find_among(options)
    if among is not None and not len(among):
        raise _find_no_match(represented, options)
    return among


def _search_in_batches(
    represented: RepresentedGallery,
    encoders: EncoderPool,
    queries: Sequence[Query],
    among: Int64 | None,
    options: SearchOptions,
    hub: Hub | None,
) -> Iterator[SearchAnswer]:
    gallery, anchors = represented.gallery, represented.task.anchors
    waiting = iter(queries)
    while batch := list(islice(waiting, QUERIES_PER_BATCH)):
        started = time.perf_counter()
        encoded = encode_queries(batch, gallery, anchors, encoders, options.within, hub)
        encode_ms = 1000 * (time.perf_counter() - started) / len(batch)
        answers = _answer_queries(represented, encoded, among, options)
        for answer, each in zip(answers, encoded, strict=True):
            used = each.hub
            if used is not None and hub is not None and answer.error is None:
                used = replace(used, loss=hub.measure_loss(represented))
            yield replace(answer, timings_ms={"encode": encode_ms, **answer.timings_ms}, hub=used)


def _find_no_match(represented: RepresentedGallery, options: SearchOptions) -> UsageError:
    """Return the error for a filter that no item matches, which names values that occur."""
    where, gallery = options.where or "", represented.gallery
    within = None if options.within is None else represented.find_matches(options.within)
    items: Sequence[ItemRecord] = gallery.records(range(len(gallery)) if within is None else within)
    known = []
    for name in ("label", "source", "licence"):
        if name in where:
            values = sorted({value for item in items for value in ITEM_FIELDS[name](item) if value})
            more = ", …" if len(values) > _VALUES_SHOWN else ""
            known.append(f"{name}: {', '.join(values[:_VALUES_SHOWN])}{more}" if values else f"{name}: no item has one")
    return UsageError(
        f"no item of {gallery.ref} matches {where!r}",
        f"an expression that some of {len(items):,} items match",
        f"known values of {'; '.join(known)}" if known else f"look at items: asif gallery info {gallery.name}",
    )


def _answer_queries(
    represented: RepresentedGallery, encoded: Sequence[EncodedQuery], among: Int64 | None, options: SearchOptions
) -> Iterator[SearchAnswer]:
    """Answer queries in order; those of one space are searched for together."""
    searched = len(represented.gallery) if among is None else len(among)
    found: dict[int, SearchAnswer] = {}
    for is_shared in (True, False):
        group = [
            at for at, each in enumerate(encoded) if not each.error and each.is_shared(represented.side) == is_shared
        ]
        if group:
            found |= zip(
                group,
                _search_in_space(represented, [encoded[at] for at in group], is_shared, among, options),
                strict=True,
            )
    for at, each in enumerate(encoded):
        yield (
            found[at]
            if at in found
            else replace(_make_answer(represented, each.query, "shared", searched), error=each.error)
        )


def _search_in_space(
    represented: RepresentedGallery,
    encoded: Sequence[EncodedQuery],
    is_shared: bool,
    among: Int64 | None,
    options: SearchOptions,
) -> list[SearchAnswer]:
    """Answer queries of one space."""
    clock = [time.perf_counter()]
    prepared = _prepare_queries(represented, encoded, is_shared)
    rows = join_rows([each.row for each in prepared])
    rows = extend_query(rows, represented.task) if is_shared else rows
    clock.append(time.perf_counter())
    best, recall = _find_best(represented, rows, is_shared, among, options)
    clock.append(time.perf_counter())
    curves = represented.measure_chances(rows, [each.facing for each in prepared], is_shared)
    clock.append(time.perf_counter())
    represent, compare, chance = (1000 * seconds / len(encoded) for seconds in np.diff(clock).tolist())
    answers = []
    for each, curve, indices, scores in zip(prepared, curves, best.indices, best.scores, strict=True):
        started = time.perf_counter()
        answer = _describe_found(represented, each, indices, scores, curve.estimate(scores), among, options)
        describe = 1000 * (time.perf_counter() - started)
        timings = {"represent": represent, "compare": compare, "chance": chance, "describe": describe}
        answers.append(replace(answer, timings_ms=timings, recall=recall))
    return answers


def _find_best(
    represented: RepresentedGallery, queries: Rows, is_shared: bool, among: Int64 | None, options: SearchOptions
) -> tuple[TopK, float | None]:
    """Return the best items, and the recall if the search is approximate; in the gallery's own space it is exact."""
    k = options.offset + options.k
    if options.approximate and is_shared:
        cells = represented.cells
        assert isinstance(queries, DenseRows)
        return cells.find_best(represented.shared, queries, k, among), cells.recall
    items = represented.shared if is_shared else represented.own
    return items.find_best(queries, k, among), None


@dataclass(frozen=True)
class _PreparedQuery:
    """Hold a query as one row, the rows of its parts, and the factor by which each part counts.

    `facing` [d] is the sum of the parts on the other side than the gallery's that do not take away.
    """

    query: Query
    row: Rows
    parts: tuple[Rows, ...]
    factors: tuple[float, ...]
    facing: Float32 | None
    is_shared: bool


def _prepare_queries(
    represented: RepresentedGallery, encoded: Sequence[EncodedQuery], is_shared: bool
) -> list[_PreparedQuery]:
    """Represent all parts of all queries, each side at once, and add those of each query."""
    parts = [(side, vector) for each in encoded for side, vector in each.list_sides(represented.side)]
    rows: list[Rows | None] = [None] * len(parts)
    texts = _list_texts(represented, encoded) if is_shared and uses_texts(represented.task.fitted) else None
    items = _take_items(represented, encoded) if is_shared and reads_tokens(represented.task.fitted) else {}
    for side in SIDES:
        of_side = [at for at, part in enumerate(parts) if part[0] == side and at not in items]
        if of_side:
            vectors = np.stack([parts[at][1] for at in of_side])
            made: Rows = DenseRows(vectors)
            if is_shared:
                asked = Embeddings(vectors, tuple(texts[at] for at in of_side) if texts and side == "text" else None)
                made = represented.task.fitted.represent(side, asked, represented.task.kernel)
            for place, at in enumerate(of_side):
                rows[at] = made[place : place + 1]
    for at, item in items.items():
        rows[at] = item
    waiting = iter([row for row in rows if row is not None])
    return [
        _prepare_query(each, tuple(islice(waiting, len(each.vectors))), represented.side, is_shared) for each in encoded
    ]


def _take_items(represented: RepresentedGallery, encoded: Sequence[EncodedQuery]) -> dict[int, Rows]:
    """Return the rows of parts that are items, by the number of the part; their vectors have no tokens."""
    gallery, parts = represented.gallery, [part for each in encoded for part in each.query.parts]
    names = {at: str(part.content) for at, part in enumerate(parts) if part.kind == "item"}
    found = gallery.find_rows(names.values()) if names else {}
    return {at: represented.take_item(found[name]) for at, name in names.items()}


def _list_texts(represented: RepresentedGallery, encoded: Sequence[EncodedQuery]) -> list[tuple[str, ...]]:
    """Return the texts of all parts of all queries: none of images, of items those that the gallery has of them."""
    gallery, texts = represented.gallery, []
    for part in (part for each in encoded for part in each.query.parts):
        if part.kind == "item" and represented.side == "text":
            (item,) = gallery.records(list(gallery.find_rows([str(part.content)]).values()))
            texts.append(item.captions)
        else:
            texts.append((str(part.content),) if part.kind == "text" else ())
    return texts


def _prepare_query(encoded: EncodedQuery, rows: tuple[Rows, ...], gallery: Side, is_shared: bool) -> _PreparedQuery:
    """Add the rows of a query's parts; raises UsageError if they cancel each other out."""
    weights = [part.weight for part in encoded.query.parts]
    row, factors = add_rows(rows, weights)
    if not any(factors):
        raise UsageError(
            f"the parts of the query {str(encoded.query)!r} cancel each other out", "something left", "change a weight"
        )
    facing = [
        weight * vector
        for weight, (side, vector) in zip(weights, encoded.list_sides(gallery), strict=True)
        if side != gallery and weight > 0
    ]
    about = None
    if facing:
        total = np.add.reduce(np.array(facing, np.float64))
        about = normalise_rows(total[None])[0] if total.any() else None
    return _PreparedQuery(encoded.query, row, rows, tuple(factors), about, is_shared)


def _make_answer(represented: RepresentedGallery, query: Query, space: Space, searched: int) -> SearchAnswer:
    gallery = represented.gallery
    identity = AnchorsIdentity(gallery.name, gallery.version, gallery.digest)
    return SearchAnswer(query, (), identity, represented.task.anchors.named, space, searched, 0)


def _describe_found(
    represented: RepresentedGallery,
    ready: _PreparedQuery,
    rows: Int64,
    scores: Float32,
    chances: Float64,
    among: Int64 | None,
    options: SearchOptions,
) -> SearchAnswer:
    """Leave out what chance would reach, read the records, and explain the scores."""
    searched = len(represented.gallery) if among is None else len(among)
    relevant = int((chances * searched < EXPECTED_BY_CHANCE).sum())
    stop = relevant if options.only_relevant else len(rows)
    shown = slice(options.offset, max(options.offset, stop))
    records = represented.gallery.records(rows[shown])
    reasons: list[SearchEvidence] | list[None] = [None] * len(records)
    if options.explain and ready.is_shared:
        reasons = _explain(represented, ready, rows[shown], options.explain)
    found = zip(rows[shown].tolist(), records, scores[shown].tolist(), chances[shown].tolist(), reasons, strict=True)
    results = [SearchResult(*each) for each in found]
    answer = _make_answer(
        represented, ready.query, "shared" if ready.is_shared else represented.gallery.modality, searched
    )
    return replace(answer, results=tuple(results), relevant=relevant)


def _represent_found(represented: RepresentedGallery, rows: Int64) -> Rows:
    """Represent some items, in any order, without biases."""
    task, blocks = represented.task, represented.gallery.vectors
    if reads_tokens(task.fitted):
        return join_rows([represented.take_item(row) for row in rows.tolist()])
    vectors = np.concatenate([gather_rows(blocks, rows[at : at + 1]) for at in range(len(rows))])
    texts = read_texts(represented.gallery, rows, task)
    return task.fitted.represent(represented.side, Embeddings(np.asarray(vectors, np.float32), texts), task.kernel)


def _explain(represented: RepresentedGallery, ready: _PreparedQuery, rows: Int64, top: int) -> list[SearchEvidence]:
    """Split the scores of items into contributions of anchors, which are the sums of those to the query's parts."""
    task, side = represented.task, represented.side
    items = _represent_found(represented, rows)
    evidence = []
    for at, row in enumerate(rows.tolist()):
        item, by_part = items[at : at + 1], []
        for part, factor in zip(ready.parts, ready.factors, strict=True):
            image, text = (item, part) if side == "image" else (part, item)
            split = task.fitted.split_score(image, text)
            by_part.append(AnchorContributions(split.anchors, split.values * factor))
        contributions = compute_contributions(AnchorContributions.add(by_part), top)
        evidence.append(
            SearchEvidence(
                contributions,
                tuple(task.anchors.records(contributions.anchors)),
                tuple(float(one.values.sum()) for one in by_part),
                represented.read_bias(row),
            )
        )
    return evidence
