"""The description of the API as OpenAPI 3.1: bodies from the models that check them, answers by example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from asif.service.config import Limits
from asif.service.problem import MEDIA_TYPE, TITLES
from asif.service.schemas import (
    BODIES,
    ClassifyBody,
    EmbedBody,
    ExplainBody,
    PairsBody,
    SearchBody,
    SwapBody,
)
from asif.version import VERSION

_SCHEMAS = "#/components/schemas/{model}"
_COMMON = (400, 401, 403, 404, 408, 413, 415, 421, 422, 429, 500, 503, 504, 507)
_CHANGING = (*_COMMON, 409, 412)
_WITH_FORM = (ClassifyBody, ExplainBody, SearchBody, EmbedBody, PairsBody)
_TEXT, _NUMBER, _COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer"}


def describe_api(limits: Limits) -> dict[str, Any]:
    """Return the description; its limits are those of the service."""
    _, defined = models_json_schema([(body, "validation") for body in BODIES], ref_template=_SCHEMAS)
    schemas: dict[str, Any] = defined["$defs"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asif",
            "version": VERSION,
            "description": f"Zero-shot classification and search over named pairs. Bodies up to {limits.body_mb:g} MB.",
        },
        "paths": _describe_paths(),
        "components": {
            "schemas": {**schemas, **_ANSWERS},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _describe_paths() -> dict[str, Any]:
    name = _parameter("name", "path", True)
    return {
        "/v1/classify": {"post": _post("Label images.", ClassifyBody, "Classifications", expects=True)},
        "/v1/explain": {"post": _post("Label images, and say why.", ExplainBody, "Classifications", expects=True)},
        "/v1/search": {"post": _post("Search a gallery.", SearchBody, "SearchAnswers", expects=True)},
        "/v1/embed": {"post": _post("Encode images and texts.", EmbedBody, "Vectors", expects=True)},
        "/v1/anchors": {"get": _get("List anchor sets.", "AnchorSets")},
        "/v1/anchors/{name}/swap": {
            "parameters": [name],
            "post": _post("Serve another version under a name.", SwapBody, "Changed", expects=True),
        },
        "/v1/anchors/{name}/pairs": {
            "parameters": [name],
            "post": _post("Add pairs.", PairsBody, "Changed", expects=True),
            "delete": _describe_removal(_parameter("id", "query", True)),
        },
        "/v1/anchors/{name}/pairs/{id}": {
            "parameters": [name, _parameter("id", "path", True)],
            "delete": _describe_removal(),
        },
        "/v1/anchors/{name}/thumbnail": {
            "parameters": [name, _parameter("id", "query", True)],
            "get": _answers("Show the thumbnail of a pair.", {"image/webp": {}}, (*_COMMON, 412)),
        },
        "/v1/galleries": {"get": _get("List galleries.", "Galleries")},
        "/v1/galleries/{name}/thumbnail": {
            "parameters": [name, _parameter("id", "query", True)],
            "get": _answers("Show the thumbnail of an item.", {"image/webp": {}}, _COMMON),
        },
        "/healthz": {"get": _open("Tell whether the process answers.", "Status")},
        "/readyz": {"get": _open("Tell whether requests are answered.", "Status")},
        "/metrics": {"get": _answers("Show counts for Prometheus.", {"text/plain": {"schema": _TEXT}}, _COMMON)},
    }


def _describe_removal(*parameters: dict[str, Any]) -> dict[str, Any]:
    purge = _parameter("purge", "query", False, {"type": "boolean"})
    expected = _parameter("If-Anchors-Match", "header", False)
    return {**_get("Take a pair out.", "Changed", _CHANGING), "parameters": [*parameters, purge, expected]}


def _parameter(name: str, place: str, required: bool, schema: Mapping[str, Any] = _TEXT) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _post(summary: str, body: type[BaseModel], answer: str, expects: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _refer(body.__name__)}}
    described = _get(summary, answer, _CHANGING)
    described["requestBody"] = {"required": True, "content": content}
    if body in _WITH_FORM:
        described["description"] = (
            "Also as multipart/form-data: files are images, other fields those of the body, or one field `request` "
            "with the body in JSON."
        )
    if expects:
        described["parameters"] = [_parameter("If-Anchors-Match", "header", False)]
    return described


def _get(summary: str, answer: str, problems: tuple[int, ...] = _COMMON) -> dict[str, Any]:
    return _answers(summary, {"application/json": {"schema": _refer(answer)}}, problems)


def _open(summary: str, answer: str) -> dict[str, Any]:
    described = _get(summary, answer, (421, 403))
    described["responses"]["503"] = {"description": TITLES[503], "content": described["responses"]["200"]["content"]}
    return {**described, "security": []}


def _answers(summary: str, content: Mapping[str, Any], problems: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": summary, "content": content}}
    for status in sorted(problems):
        found[str(status)] = {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": _refer("Problem")}}}
    return {"summary": summary, "responses": found}


def _refer(schema: str) -> dict[str, str]:
    return {"$ref": _SCHEMAS.format(model=schema)}


def _object(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _list(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


_IDENTITY = _object({"name": _TEXT, "version": _TEXT, "digest": _TEXT})
_NUMBERS = {"type": "object", "additionalProperties": _NUMBER}
_PAIR = _object({"id": _TEXT, "captions": _list(_TEXT), "contribution": _NUMBER})
_EXPLANATION = _object({"contributions": _list(_PAIR), "remainder": _NUMBER, "others": _COUNT})
_CLASSIFICATION: dict[str, Any] = _object(
    {},
    image=_TEXT,
    audio=_TEXT,
    error=_TEXT,
    predictions=_list(_object({"label": _TEXT, "score": _NUMBER})),
    anchors=_IDENTITY,
    aligner=_TEXT,
    explanation=_EXPLANATION,
    credits=_object({"label": _TEXT, "pairs": _list({"type": "object"}), "others": _COUNT}),
    timings_ms=_NUMBERS,
) | {"anyOf": [{"required": ["image"]}, {"required": ["audio"]}]}
_RESULT = _object(
    {
        "id": _TEXT,
        "uri": {"type": ["string", "null"]},
        "score": _NUMBER,
        "chance": _NUMBER,
        "captions": _list(_TEXT),
    },
    explanation=_EXPLANATION,
)
_SEARCH_ANSWER = _object(
    {"query": _TEXT},
    error=_TEXT,
    results=_list(_RESULT),
    searched=_COUNT,
    relevant=_COUNT,
    space=_TEXT,
    recall=_NUMBER,
    gallery=_IDENTITY,
    anchors=_IDENTITY,
    aligner={"type": ["string", "null"]},
    timings_ms=_NUMBERS,
)
_ANCHOR_SET = _object(
    {
        "name": _TEXT,
        "ref": _TEXT,
        "version": _TEXT,
        "digest": _TEXT,
        "pairs": _COUNT,
        "encoders": _object({"image": _TEXT, "text": _TEXT}),
        "modalities": _object({"image": _TEXT, "text": _TEXT}),
        "aligner": _TEXT,
        "up_to_date": {"type": "boolean"},
    }
)
_GALLERY = _object({"name": _TEXT, "version": _TEXT, "digest": _TEXT, "kind": _TEXT, "items": _COUNT, "encoder": _TEXT})
_VECTOR = _object({}, embedding=_list(_NUMBER), error=_TEXT)
_ENCODER = _object({"encoder": _TEXT, "fingerprint": _TEXT})
_ANSWERS: dict[str, Any] = {
    "Classifications": _object({"results": _list(_CLASSIFICATION)}),
    "SearchAnswers": _object({"results": _list(_SEARCH_ANSWER)}),
    "Vectors": _object(
        {
            "images": _list(_VECTOR),
            "texts": _list(_VECTOR),
            "encoders": _object({"image": _ENCODER, "text": _ENCODER}),
        }
    ),
    "AnchorSets": _object({"anchors": _list(_ANCHOR_SET)}),
    "Galleries": _object({"galleries": _list(_GALLERY)}),
    "Changed": _object(
        {"anchors": _ANCHOR_SET, "all_workers": {"type": "boolean"}},
        ids=_list(_TEXT),
        receipt={"type": "string", "description": "The text of a receipt file."},
    ),
    "Status": _object({"status": _TEXT}),
    "Problem": _object(
        {"type": _TEXT, "title": _TEXT, "status": _COUNT, "detail": _TEXT},
        expected=_TEXT,
        to_do=_TEXT,
        request_id=_TEXT,
        errors=_list({"type": "object"}),
    ),
}
