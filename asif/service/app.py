"""The application: routes, and what happens when it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asif.service.config import ServeConfig
from asif.service.endpoint import Endpoint
from asif.service.problem import Problem
from asif.service.routes import anchors, classify, embed, galleries, page, search, status
from asif.service.service import Call, Service

ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/v1/classify", Endpoint("classify", classify.classify)),
    ("POST", "/v1/explain", Endpoint("explain", classify.explain)),
    ("POST", "/v1/search", Endpoint("search", search.search)),
    ("POST", "/v1/embed", Endpoint("embed", embed.embed)),
    ("GET", "/v1/anchors", Endpoint("anchors", anchors.list_anchors)),
    ("POST", "/v1/anchors/{name}/swap", Endpoint("swap", anchors.swap, "admin")),
    ("POST", "/v1/anchors/{name}/pairs", Endpoint("add", anchors.add, "edit")),
    ("DELETE", "/v1/anchors/{name}/pairs", Endpoint("remove", anchors.remove, "edit")),
    ("DELETE", "/v1/anchors/{name}/pairs/{id:path}", Endpoint("remove", anchors.remove, "edit")),
    ("GET", "/v1/anchors/{name}/thumbnail", Endpoint("thumbnail", anchors.show_thumbnail)),
    ("GET", "/v1/galleries", Endpoint("galleries", galleries.list_galleries)),
    ("GET", "/v1/galleries/{name}/thumbnail", Endpoint("thumbnail", galleries.show_thumbnail)),
    ("GET", "/healthz", Endpoint("health", status.show_health, None)),
    ("GET", "/readyz", Endpoint("readiness", status.show_readiness, None)),
    ("GET", "/metrics", Endpoint("metrics", status.show_metrics, "admin")),
    ("GET", "/openapi.json", Endpoint("openapi", status.show_openapi, None)),
    ("GET", "/", Endpoint("page", page.show_page, None)),
    ("GET", "/page/{file}", Endpoint("page", page.show_file, None)),
)
"""Method, path and endpoint of every route."""


def create_app(config: ServeConfig) -> Starlette:
    """Create the application of one worker; what it serves is loaded in the background once it runs."""
    service = Service(config)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        starting = asyncio.ensure_future(asyncio.to_thread(_start, service))
        yield
        await starting
        await asyncio.to_thread(service.stop)

    app = Starlette(
        routes=[Route(path, _bind(service, endpoint), methods=[method]) for method, path, endpoint in ENDPOINTS],
        exception_handlers={HTTPException: _make_refusal(service)},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


def _start(service: Service) -> None:
    try:
        service.start()
    except Exception as error:
        service.failure = error
    service.when_started()


def _bind(service: Service, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await endpoint.answer(service, request)

    return answer


def _make_refusal(service: Service) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refuse(request: Request, error: Exception) -> Response:
        """Answer what no route does."""
        assert isinstance(error, HTTPException)
        status, headers = error.status_code, error.headers or {}

        async def handle(service: Service, call: Call, request: Request) -> Response:
            allowed = headers.get("Allow", "")
            raise Problem(
                status,
                f"{request.method} {request.url.path[:200]}",
                f"{allowed} here" if allowed else "a route that /openapi.json lists",
                "check method and path",
                headers,
            )

        return await Endpoint("none", handle, None).answer(service, request)

    return refuse
