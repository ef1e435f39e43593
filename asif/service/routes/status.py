"""/healthz, /readyz, /metrics and /openapi.json: for those who run the service."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from asif.service.json_response import respond_json
from asif.service.openapi import describe_api
from asif.service.service import Call, Service


async def show_health(service: Service, call: Call, request: Request) -> Response:
    """Say that the process answers."""
    return respond_json({"status": "ok"})


async def show_readiness(service: Service, call: Call, request: Request) -> Response:
    """Say whether requests are answered now; 503 while the service starts or drains."""
    if service.is_draining:
        return respond_json({"status": "draining"}, status=503)
    if not service.is_ready:
        return respond_json({"status": "failed" if service.failure else "starting"}, status=503)
    return respond_json({"status": "ready"})


async def show_metrics(service: Service, call: Call, request: Request) -> Response:
    """Return what the service counted, for Prometheus."""
    return Response(service.metrics.format(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def show_openapi(service: Service, call: Call, request: Request) -> Response:
    """Return the description of the API."""
    return respond_json(describe_api(service.limits))
