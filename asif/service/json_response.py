"""Answers in JSON, which name the anchors that gave them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from asif.anchorset import AnchorsIdentity

ANCHORS_HEADER = "X-Asif-Anchors"


def respond_json(content: dict[str, Any], anchors: AnchorsIdentity | None = None, status: int = 200) -> Response:
    """Return an answer; the header names the anchors: `name@version; digest=…`."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False).encode(errors="replace")
    headers = {}
    if anchors is not None:
        headers[ANCHORS_HEADER] = f"{anchors.name}@{anchors.version}; digest={anchors.digest}"
    return Response(body, status, headers, "application/json")
