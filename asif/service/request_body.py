"""Read the body of a request within limits: JSON or a form with files, into one checked model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from asif.classify import parse_labels
from asif.service.config import Limits
from asif.service.problem import Problem
from asif.service.schemas import (
    ClassifyBody,
    EmbedBody,
    PairsBody,
    QueryBody,
    SearchBody,
    UploadedImage,
    list_fields_of_form,
)

Body = TypeVar("Body", bound=BaseModel)
_FORM = "multipart/form-data"
_WAS_READ = "asif.body_was_read"
_MOST_ERRORS = 20
_BYTES_AT_ONCE = 16_384
"""Bytes of JSON that are read without a thread, in less time than a change of threads takes."""
_QUERY_FIELDS = tuple(QueryBody.model_fields)
_PAIR_FIELDS = ("captions", "id", "source", "licence", "url")
_WITH_IMAGES = (ClassifyBody, EmbedBody, SearchBody, PairsBody)


async def read_body(request: Request, model: type[Body], limits: Limits) -> Body:
    """Read the body of a request as a model.

    Raises Problem: 400 for what is no JSON or no form, 408 for a body that comes too slowly, 413 for too much, 415 for
    another content type, 422 for what the model does not allow.
    """
    try:
        return await _read_bounded(request, model, limits)
    finally:
        request.scope[_WAS_READ] = True


def was_read(request: Request) -> bool:
    """Tell whether the body of a request was read, or refused."""
    return _WAS_READ in request.scope


async def _read_bounded(request: Request, model: type[Body], limits: Limits) -> Body:
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    bounded = Request(request.scope, _bound_bytes(request, limits))
    try:
        with anyio.fail_after(limits.body_s):
            if content_type == "application/json":
                content = await bounded.body()
                if len(content) <= _BYTES_AT_ONCE:
                    return _parse_json(content, model, limits)
                return await asyncio.to_thread(_parse_json, content, model, limits)
            if content_type == _FORM and issubclass(model, _WITH_IMAGES):
                async with bounded.form(
                    max_files=limits.images + 1, max_fields=limits.labels, max_part_size=limits.body_bytes
                ) as form:
                    return await _parse_form(form, model, limits)
    except TimeoutError:
        raise Problem(
            408, f"no complete body in {limits.body_s:g} s", "a body that comes in time", "send it again"
        ) from None
    except HTTPException as error:
        raise Problem(400, f"a form that cannot be read: {error.detail}", _FORM, "check how the form is sent") from None
    forms = f" or {_FORM}" if issubclass(model, _WITH_IMAGES) else ""
    raise Problem(
        415, f"the content type {content_type[:100]!r}", f"application/json{forms}", "set the header Content-Type"
    )


def _bound_bytes(request: Request, limits: Limits) -> Callable[[], Any]:
    """Return the receive function of a request, which raises Problem as soon as its body is too long."""
    announced = request.headers.get("content-length", "0")
    received = 0

    async def receive() -> Message:
        nonlocal received
        if announced.isdecimal() and int(announced) > limits.body_bytes:
            raise _too_long(limits)
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received += len(message.get("body", b""))
        if received > limits.body_bytes:
            raise _too_long(limits)
        return message

    return receive


def _too_long(limits: Limits) -> Problem:
    return Problem(
        413,
        f"a body of more than {limits.body_bytes:,} bytes",
        f"at most {limits.body_bytes:,}",
        "send fewer or smaller images in one request",
        {"Connection": "close"},
    )


def _parse_json(content: bytes, model: type[Body], limits: Limits) -> Body:
    try:
        return check_sizes(model.model_validate_json(content), limits)
    except ValidationError as error:
        raise _describe_invalid(error) from None


def _describe_invalid(error: ValidationError) -> Problem:
    """Return 400 for what is no JSON, 422 for JSON of another form, with all that is wrong."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(each["type"] == "json_invalid" for each in found):
        return Problem(400, f"a body that is no JSON: {found[0]['msg']}", "JSON in UTF-8", "check the body")
    places = [{"at": _name_place(each), "message": each["msg"]} for each in found[:_MOST_ERRORS]]
    return Problem(
        422,
        f"{places[0]['at']}: {places[0]['message']}",
        "a body as /openapi.json describes it",
        f"correct {places[0]['at']}",
        errors=places,
    )


def _name_place(error: ErrorDetails) -> str:
    return ".".join(map(str, error["loc"])) or "the body"


async def _parse_form(form: FormData, model: type[Body], limits: Limits) -> Body:
    """Read a form: files are images; `request` is JSON with all other fields, or they are fields of the form."""
    images = []
    values: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            images.append(UploadedImage(content=await value.read(), name=value.filename or None))
        else:
            values.setdefault(name, []).append(value)
    return await asyncio.to_thread(_build_from_form, values, images, model, limits)


def _build_from_form(
    values: dict[str, list[str]], images: list[UploadedImage], model: type[Body], limits: Limits
) -> Body:
    if "request" in values:
        given = _read_request_field(values.pop("request"))
        if values:
            raise Problem(422, f"the field {min(values)!r} beside request", "fields within request", "move it there")
    else:
        given = _nest_fields(_take_fields(values, model), model)
    _add_images(given, images, model)
    try:
        return check_sizes(model.model_validate(given, strict=True), limits)
    except ValidationError as error:
        raise _describe_invalid(error) from None


def _read_request_field(texts: list[str]) -> dict[str, Any]:
    try:
        found = json.loads(texts[0])
    except ValueError as error:
        raise Problem(400, f"the field request is no JSON: {error}", "JSON in UTF-8", "check the field") from None
    if not isinstance(found, dict) or len(texts) > 1:
        raise Problem(422, "the field request", "one JSON object", "check the field")
    return found


def _take_fields(values: dict[str, list[str]], model: type[BaseModel]) -> dict[str, Any]:
    """Turn the texts of a form into the values of fields; unknown ones stay as they are, to be refused."""
    kinds = list_fields_of_form(model)
    if issubclass(model, SearchBody):
        kinds |= list_fields_of_form(QueryBody)
    if issubclass(model, PairsBody):
        kinds |= {"captions": "list", "replace": "flag"}
    found: dict[str, Any] = {}
    for name, texts in values.items():
        kind = kinds.get(name, "text")
        if name == "labels" and len(texts) == 1:
            found[name] = list(parse_labels(texts[0]))
        elif kind == "list":
            found[name] = texts
        elif kind == "number":
            found[name] = int(texts[-1]) if texts[-1].lstrip("-").isdecimal() else texts[-1]
        elif kind == "flag":
            found[name] = {"true": True, "1": True, "false": False, "0": False}.get(texts[-1].lower(), texts[-1])
        else:
            found[name] = texts[-1]
    return found


def _nest_fields(fields: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Put the fields of the one query, or of the one pair, of a form where the model has them."""
    for kind, outer, names in ((SearchBody, "queries", _QUERY_FIELDS), (PairsBody, "pairs", _PAIR_FIELDS)):
        if issubclass(model, kind):
            fields[outer] = [{name: fields.pop(name) for name in names if name in fields}]
    return fields


def _add_images(given: dict[str, Any], images: list[UploadedImage], model: type[BaseModel]) -> None:
    """Put the files of a form where the model has images: the first query's, the pairs' in order, or all."""
    if not images:
        return
    if issubclass(model, PairsBody):
        pairs = given.get("pairs")
        if not isinstance(pairs, list) or len(pairs) != len(images):
            raise Problem(422, f"{len(images)} files for other than {len(images)} pairs", "a file for each pair", "")
        for pair, image in zip(pairs, images, strict=True):
            pair["image"] = image
        return
    place = given
    if issubclass(model, SearchBody):
        queries = given.setdefault("queries", [{}])
        if not isinstance(queries, list) or len(queries) != 1 or not isinstance(queries[0], dict):
            raise Problem(422, "files with several queries", "one query in a form", "send images as base64 in JSON")
        place = queries[0]
    place["images"] = [*(place.get("images") or []), *images]


def check_sizes(body: Body, limits: Limits) -> Body:
    """Refuse more images, labels, queries, results or longer texts than the limits allow, with 413."""
    found = body.model_dump(exclude={"images": True} if "images" in type(body).model_fields else None)
    counts = {
        "images": (_count_images(body), limits.images),
        "labels": (len(found.get("labels") or ()), limits.labels),
        "queries": (len(found.get("queries") or ()), limits.queries),
        "texts": (len(found.get("texts") or ()), limits.labels),
        "k": (found.get("k") or 0, limits.results),
    }
    for name, (count, most) in counts.items():
        if count > most:
            raise Problem(413, f"{name}: {count:,}", f"at most {most:,}", "send less in one request")
    longest = max(map(_count_bytes, _iter_texts(found)), default=0)
    if longest > limits.text_bytes:
        raise Problem(413, f"a text of {longest:,} bytes", f"at most {limits.text_bytes:,}", "shorten it")
    return body


def _count_images(body: BaseModel) -> int:
    if isinstance(body, SearchBody):
        return sum(len(query.images) for query in body.queries)
    return len(body.pairs) if isinstance(body, PairsBody) else len(getattr(body, "images", ()))


def _count_bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


def _iter_texts(value: Any) -> Any:
    """Iterate over all texts of a body but images."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in ("base64", "content"):
                yield from _iter_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _iter_texts(inner)
