"""Answers in JSON, which name the anchors that gave them, and thumbnails."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from asif.anchorset import AnchorsIdentity
from asif.service.problem import Problem

_KEPT_SECONDS = 3600
ANCHORS_HEADER = "X-Asif-Anchors"


def respond_json(content: dict[str, Any], anchors: AnchorsIdentity | None = None, status: int = 200) -> Response:
    """Return an answer; the header names the anchors: `name@version; digest=…`."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode(errors="replace")
    headers = {}
    if anchors is not None:
        headers[ANCHORS_HEADER] = f"{quote(anchors.name, safe='+')}@{anchors.version}; digest={anchors.digest}"
    return Response(body, status, headers, "application/json")


def respond_thumbnail(content: bytes | None, expected: str) -> Response:
    """Return a thumbnail in WebP; raises Problem, 404, without one."""
    if content is None:
        raise Problem(404, "no thumbnail", expected, "show the name in its place")
    return Response(content, 200, {"Cache-Control": f"private, max-age={_KEPT_SECONDS}"}, "image/webp")
