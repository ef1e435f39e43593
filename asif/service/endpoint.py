"""What every route does around its own work: who calls, may he, until when, and how errors are answered."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from asif.errors import AsifError
from asif.service.config import is_loopback
from asif.service.keys import OWNER, Grant, Role
from asif.service.problem import Problem
from asif.service.request_body import was_read
from asif.service.service import Call, Service

Handler = Callable[[Service, Call, Request], Awaitable[Response]]
REQUEST_ID_HEADER = "X-Request-Id"
EXPECTED_HEADER = "If-Anchors-Match"
_RETRY_SECONDS = "2"
_LOOK_SECONDS = 0.25
_MOST_ID = 100
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}

_log = logging.getLogger(__name__)
_access_log = logging.getLogger("asif.service.access")


@dataclass(frozen=True)
class Endpoint:
    """One route: its name for metrics, what answers it, the role it needs, and whether it answers at any time."""

    route: str
    handler: Handler
    role: Role | None = "read"

    async def answer(self, service: Service, request: Request) -> Response:
        """Answer a request: each error becomes a problem, each answer has an id and headers that protect browsers."""
        started = time.perf_counter()
        request_id = _name_request(request)
        try:
            response = await self._handle(service, request)
        except Exception as error:
            response = _make_problem(error, service, request_id).respond(request_id)
        response.headers.update({**_HEADERS, REQUEST_ID_HEADER: request_id})
        if service.is_draining:  # so that no call is sent on a connection that is about to be closed
            response.headers["Connection"] = "close"
        seconds = time.perf_counter() - started
        service.metrics.requests.labels(self.route, _name_method(request), str(response.status_code)).observe(seconds)
        if service.config.access_log:
            _log_access(request, request_id, response.status_code, seconds)
        return response

    async def _handle(self, service: Service, request: Request) -> Response:
        check_origin(service, request)
        if self.role is None:
            return await self.handler(service, Call(OWNER, time.monotonic() + service.limits.deadline_s), request)
        grant = _authorise(service, request, self.role)
        _check_ready(service)
        expected = tuple(
            part.strip().strip('"') for part in request.headers.get(EXPECTED_HEADER, "").split(",") if part.strip()
        )
        call = Call(grant, time.monotonic() + service.limits.deadline_s, expected)
        try:
            with anyio.fail_after(service.limits.deadline_s):
                return await _while_connected(self.handler(service, call, request), request)
        except TimeoutError:
            seconds = service.limits.deadline_s
            raise Problem(504, f"no answer in {seconds:g} s", "an answer in time", "send less in one request") from None


def _name_method(request: Request) -> str:
    return request.method if request.method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"


def _name_request(request: Request) -> str:
    """Return the id that the caller gave, if it is plain, or a new one."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    plain = given.isascii() and given.replace("-", "").replace("_", "").isalnum() and len(given) <= _MOST_ID
    return given if plain else secrets.token_hex(8)


async def _while_connected(work: Awaitable[Response], request: Request) -> Response:
    """Await an answer; give up, and free its place in the queue, when the caller is gone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _wait_until_gone(request: Request) -> None:
    """Return when the caller is gone; looks only after the body was read, which looking would take parts of."""
    while not (was_read(request) and await request.is_disconnected()):
        await asyncio.sleep(_LOOK_SECONDS)


def check_origin(service: Service, request: Request) -> None:
    """Refuse a host name that is not this service's, and calls from pages of other origins.

    Pages that a user of this machine visits could otherwise reach the service by a name that they make mean 127.0.0.1.
    """
    host = request.headers.get("host", "")
    name = (urlsplit(f"//{host}").hostname or "").lower()
    config = service.config
    if config.is_local and not is_loopback(name) and name not in config.hosts:
        raise Problem(
            421,
            f"the host {name[:100]!r}",
            "localhost, or a name of hosts in [server]",
            "add it to hosts, or call localhost",
        )
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise Problem(
            403, "a call by a page of another origin", "the page of this service", "call it from its own page"
        )


def _authorise(service: Service, request: Request, role: Role) -> Grant:
    """Return the grant of the caller's key; raises Problem: 401, 403, or 429 if his quota is used up."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    grant = service.keys.find(key.strip() if scheme.lower() == "bearer" else None)
    if grant is None:
        raise Problem(
            401, "no valid key", "the header Authorization: Bearer KEY", "ask for a key", {"WWW-Authenticate": "Bearer"}
        )
    seconds = service.keys.take(grant)
    if seconds:
        service.metrics.refused.labels("quota").inc()
        raise Problem(
            429,
            f"more than {grant.requests_per_minute} requests a minute",
            "fewer",
            f"try again in {seconds:.0f} s",
            {"Retry-After": str(max(1, round(seconds)))},
        )
    if not grant.may(role):
        raise Problem(403, f"a key with the role {grant.role}", f"the role {role}", "use another key")
    return grant


def _check_ready(service: Service) -> None:
    """Raise a Problem, 503, while the service starts or drains."""
    if service.is_draining:
        service.metrics.refused.labels("draining").inc()
        headers = {"Retry-After": _RETRY_SECONDS}
        raise Problem(503, "the service is being stopped", "another worker", "try again", headers)
    if not service.is_ready:
        why = "could not start" if service.failure else "is starting"
        raise Problem(
            503,
            f"the service {why}",
            "a service that is ready",
            "wait until /readyz answers 200",
            {"Retry-After": _RETRY_SECONDS},
        )


def _make_problem(error: Exception, service: Service, request_id: str) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, ClientDisconnect):
        return Problem(400, "the caller is gone", "", "")
    if isinstance(error, AsifError):
        problem = Problem.of(error, service.config.home)
        if problem.status >= 500:
            _log.error("%s: %s", request_id, error)
        return problem
    if isinstance(error, MemoryError):
        return Problem(507, "memory is full", "room for the request", "send less at once")
    _log.error("%s: an unforeseen error", request_id, exc_info=error)
    return Problem(500, "an unforeseen error", "", f"see the log of the service for {request_id}")


def _log_access(request: Request, request_id: str, status: int, seconds: float) -> None:
    fields = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": request_id,
        "method": request.method,
        "path": request.url.path,
        "status": status,
        "ms": round(1000 * seconds, 1),
        "from": request.client.host if request.client else None,
    }
    _access_log.info(json.dumps(fields))
