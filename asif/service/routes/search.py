"""POST /v1/search: queries to the items of a gallery."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asif.anchorset import Gallery
from asif.engine import Engine
from asif.engine.search.encode import find_ways, join_parts, list_images, list_texts
from asif.engine.search.query import Query
from asif.engine.search.results import SearchAnswer, SearchOptions
from asif.errors import BadMedia
from asif.modality import find_modality
from asif.pairs.filter_expression import parse_where
from asif.pairs.item import ITEM_FIELDS
from asif.report.answers import describe_search_answer, describe_task
from asif.service.json_response import respond_json
from asif.service.request_body import read_body
from asif.service.schemas import QueryBody, SearchBody
from asif.service.service import Call, Service, check_expected
from asif.vectors import Float32


async def search(service: Service, call: Call, request: Request) -> Response:
    """Search a gallery."""
    service.queue.check_room()
    body = await read_body(request, SearchBody, service.limits)
    if body.where is not None:
        parse_where(body.where, ITEM_FIELDS)
    gallery = await service.open_gallery(call, body.gallery)
    _, engine = await service.find_engine(call, body.anchors)
    files = iter(await service.read_images([image for query in body.queries for image in query.images], engine))
    are_sounds = find_modality(engine.anchors, "image") == "audio"
    queries = [_make_query(query, [next(files) for _ in query.images], are_sounds) for query in body.queries]
    photos: list[bytes | BadMedia] = list_images(queries)  # type: ignore[assignment]
    with service.admit(photos, list_texts(queries)):
        images, _ = await service.encode_images(call, engine, photos)
        texts = await service.encode_texts(call, engine, list_texts(queries))
    options = SearchOptions(
        body.k,
        body.offset,
        body.where,
        body.only_relevant,
        body.explain,
        body.approximate,
        call.grant.items_where,
    )
    started = time.perf_counter()
    answers, settings = await service.run(_search, engine, gallery, queries, texts, images, options)
    service.metrics.stage.labels("search").observe(time.perf_counter() - started)
    identity = answers[0].anchors
    check_expected(call, [identity.digest, identity.version])
    results = [_describe(answer, settings) for answer in answers]
    if not service.keys.is_open:
        for result in results:
            _hide_places(result)
    return respond_json({"results": results}, identity)


def _make_query(body: QueryBody, files: list[bytes | BadMedia], are_sounds: bool) -> Query:
    images, sounds = ([], files) if are_sounds else (files, [])
    return Query.of(body.texts, images, body.ids, body.minus, sounds)  # type: ignore[arg-type]


def _search(
    engine: Engine,
    gallery: Gallery,
    queries: list[Query],
    texts: dict[str, Float32],
    images: list[Float32 | BadMedia],
    options: SearchOptions,
) -> tuple[list[SearchAnswer], dict[str, Any]]:
    """Return the answers, and how the engine searches."""
    encoded = join_parts(queries, gallery, texts, images, options.within, find_ways(queries, engine.anchors))
    return engine.search_vectors(gallery, encoded, options), describe_task(engine, "search")


def _describe(answer: SearchAnswer, settings: dict[str, Any]) -> dict[str, Any]:
    """Describe an answer as the command line does, with the captions of items, for those who have not their files."""
    described = describe_search_answer(answer, settings)
    for result, fields in zip(answer.results, described.get("results", ()), strict=True):
        fields["captions"] = list(result.item.captions)
    return described


def _hide_places(answer: dict[str, Any]) -> None:
    """Leave out where files are on this machine; those on the web stay."""
    for result in answer.get("results", ()):
        if not result["uri"].startswith(("http://", "https://")):
            result["uri"] = None
