"""The page, and its stylesheet and script."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from asif.service.problem import Problem
from asif.service.service import Call, Service

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {"index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}


async def show_page(service: Service, call: Call, request: Request) -> Response:
    """Return the page."""
    return _respond("index.html")


async def show_file(service: Service, call: Call, request: Request) -> Response:
    """Return a file of the page."""
    name = request.path_params["file"]
    if name not in _TYPES:
        raise Problem(404, f"/page/{name[:100]}", "a file of the page", "open /")
    return _respond(name)


def _respond(name: str) -> Response:
    return Response(_read(name), headers={"Cache-Control": "no-cache"}, media_type=_TYPES[name])


@cache
def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
