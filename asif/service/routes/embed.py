"""POST /v1/embed: vectors of images and texts, by the encoders of some anchors."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asif.errors import BadMedia
from asif.service.json_response import respond_json
from asif.service.request_body import read_body
from asif.service.schemas import EmbedBody
from asif.service.service import Call, Service
from asif.vectors import SIDES, Float32


async def embed(service: Service, call: Call, request: Request) -> Response:
    """Encode images and texts."""
    service.queue.check_room()
    body = await read_body(request, EmbedBody, service.limits)
    _, engine = await service.find_engine(call, body.anchors)
    anchors = engine.anchors
    files = await service.read_images(body.images, engine)
    with service.admit(files, body.texts):
        images, _ = await service.encode_images(call, engine, files)
        texts = await service.encode_texts(call, engine, body.texts)
    encoders = {
        side: {"encoder": anchors.encoder_spec(side), "fingerprint": anchors.fingerprint(side).digest} for side in SIDES
    }
    content = {
        "images": list(map(_describe_vector, images)),
        "texts": [_describe_vector(texts[text]) for text in body.texts],
        "encoders": encoders,
    }
    return respond_json(content, anchors.named)


def _describe_vector(vector: Float32 | BadMedia) -> dict[str, Any]:
    return {"error": vector.came} if isinstance(vector, BadMedia) else {"embedding": vector.tolist()}
