"""POST /v1/classify and /v1/explain: images, or sounds where the anchors pair these, to labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from asif.aligners import TemplateMode
from asif.classify import DEFAULT_TEMPLATES, Labels
from asif.engine import Classification, Engine
from asif.errors import BadMedia
from asif.modality import find_modality
from asif.report.answers import describe_classification, describe_task
from asif.service.json_response import respond_json
from asif.service.request_body import read_body
from asif.service.schemas import ClassifyBody, ExplainBody, ImageFile, ImageUrl
from asif.service.service import Call, Service, check_expected
from asif.vectors import Embeddings, Float32


async def classify(service: Service, call: Call, request: Request) -> Response:
    """Label images."""
    service.queue.check_room()
    return await _answer(service, call, await read_body(request, ClassifyBody, service.limits))


async def explain(service: Service, call: Call, request: Request) -> Response:
    """Label images, and name the anchors behind the first label of each."""
    service.queue.check_room()
    return await _answer(service, call, await read_body(request, ExplainBody, service.limits))


async def _answer(service: Service, call: Call, body: ClassifyBody) -> Response:
    _, engine = await service.find_engine(call, body.anchors)
    labels, settings = await service.run(_prepare_labels, engine, body)
    files = await service.read_images(body.images, engine)
    prompts = [] if engine.has_candidates(labels) else labels.prompts()
    service.metrics.labels.labels("encoded" if prompts else "cached").inc()
    with service.admit(files, prompts):
        vectors, encoded = await service.encode_images(call, engine, files)
        await service.encode_texts(call, engine, prompts)
    started = time.perf_counter()
    results = await service.run(_classify_vectors, engine, vectors, labels, body)
    service.metrics.stage.labels("answer").observe(time.perf_counter() - started)
    waited = {"queue": encoded.queue_ms, "encode": encoded.encode_ms / max(1, len(encoded.results))}
    results = [replace(each, timings_ms={**waited, **each.timings_ms}) for each in results]
    identity = next((each.anchors for each in results if each.anchors is not None), engine.anchors.named)
    check_expected(call, [identity.digest, identity.version])
    modality = find_modality(engine.anchors, "image")
    names = [_name_image(image, f"{modality} {number}") for number, image in enumerate(body.images, 1)]
    described = [
        describe_classification(each, name, settings, modality) for each, name in zip(results, names, strict=True)
    ]
    return respond_json({"results": described}, identity)


def _prepare_labels(engine: Engine, body: ClassifyBody) -> tuple[Labels, dict[str, Any]]:
    """Return the labels with their templates, and how the engine answers."""
    choice = engine.role("classify").choice
    mode: TemplateMode = body.template_mode or choice.aligner.template_mode
    labels = Labels(tuple(body.labels), tuple(body.templates or DEFAULT_TEMPLATES), mode)
    labels.check_words()
    settings = {**describe_task(engine, "classify"), "template_mode": mode, "templates": list(labels.templates)}
    return labels, settings


def _classify_vectors(
    engine: Engine, vectors: Sequence[Float32 | BadMedia], labels: Labels, body: ClassifyBody
) -> list[Classification]:
    """Classify all images that could be read; the others get their errors."""
    readable = [vector for vector in vectors if not isinstance(vector, BadMedia)]
    with_credits = body.credits or body.explain > 0
    find = partial(engine.classify_vectors, where=body.where, licences=body.licences)
    found = iter(
        find(Embeddings(np.stack(readable)), labels, top=body.top, explain=body.explain, credits=with_credits)
        if readable
        else ()
    )
    return [Classification("", error=vector) if isinstance(vector, BadMedia) else next(found) for vector in vectors]


def _name_image(image: ImageFile | ImageUrl, otherwise: str) -> str:
    return image.name or (image.url if isinstance(image, ImageUrl) else "") or otherwise
