"""Errors as problem details (RFC 9457): a status, what came, what was expected, what to do; no path of the server."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.responses import Response

from asif.errors import (
    AsifError,
    BadMedia,
    Busy,
    EncoderMismatch,
    InputRefused,
    IntegrityError,
    NotFound,
    OutOfSpace,
    Stale,
    Unreachable,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "the request cannot be read",
    401: "no valid key",
    403: "not allowed",
    404: "not found",
    405: "another method is expected",
    408: "the body came too slowly",
    409: "in conflict with what is served",
    412: "other anchors are served",
    413: "too much in one request",
    415: "another content type is expected",
    421: "a host that this service does not answer for",
    422: "the request makes no sense",
    429: "too many requests",
    500: "an error of the service",
    502: "an image cannot be fetched",
    503: "not ready",
    504: "the deadline has passed",
    507: "the disk or the memory is full",
}
_STATUS: tuple[tuple[type[AsifError], int], ...] = (
    (NotFound, 404),
    (UsageError, 422),
    (Busy, 409),
    (EncoderMismatch, 409),
    (Stale, 409),
    (InputRefused, 422),
    (IntegrityError, 500),
    (OutOfSpace, 507),
    (Unreachable, 503),
)
_REST_OF_PATH = r"(?:/[^\s'\":,;)]*)?"


class Problem(Exception):
    """End a request with a problem: its status, and the three parts of an error."""

    def __init__(
        self,
        status: int,
        came: str,
        expected: str = "",
        fix: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(status, came)
        self.status, self.came, self.expected, self.fix = status, came, expected, fix
        self.headers, self.errors = dict(headers or {}), list(errors)

    @classmethod
    def of(cls, error: AsifError, home: Path, status: int | None = None) -> Problem:
        """Return the problem for an error of a call; paths of this machine are left out."""
        if status is None:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        came, expected, fix = (hide_paths(part, home) for part in (error.came, error.expected, error.fix))
        return cls(status, came, expected, fix)

    def respond(self, request_id: str) -> Response:
        """Return the response."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES[self.status],
            "status": self.status,
            "detail": self.came,
            "expected": self.expected,
            "to_do": self.fix,
            "request_id": request_id,
        }
        if self.errors:
            content["errors"] = self.errors
        body = json.dumps(content, ensure_ascii=False).encode(errors="replace")
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def hide_paths(text: str, home: Path) -> str:
    """Replace paths of this machine in a text by an ellipsis.

    >>> hide_paths("there is no anchor set 'x' in /srv/asif/anchors, or so", Path("/srv/asif"))
    "there is no anchor set 'x' in …, or so"
    """
    places = {str(home), str(home.absolute()), str(Path.home()), str(Path.cwd()), tempfile.gettempdir()}
    places |= {str(Path(__file__).parents[1]), str(Path(__file__).parents[2])}
    for place in sorted(places - {"/", "."}, key=len, reverse=True):
        text = re.sub(re.escape(place) + _REST_OF_PATH, "…", text)
    return text


def refuse_image(error: BadMedia, what: str = "the image") -> Problem:
    """Return the problem of an image that cannot be used at all."""
    return Problem(422, f"{what}: {error.came}", error.expected, error.fix)
