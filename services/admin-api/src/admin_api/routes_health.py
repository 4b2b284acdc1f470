"""`/health`, `/health/live`, `/health/ready`, `/metrics`."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from admin_api.context import Context

_NOT_WELL: dict[int | str, dict[str, Any]] = {503: {"description": "Not well; the checks say what"}}


def router(context: Context) -> APIRouter:
    """Routes for monitoring."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health", responses=_NOT_WELL)
    async def health() -> JSONResponse:
        """The health of everything: services, broker, store, feeds, symbols."""
        report = context.report()
        return JSONResponse(report.as_json(), 200 if report.ok else 503)

    @routes.get("/health/live", responses=_NOT_WELL)
    async def live() -> JSONResponse:
        """Whether this process works."""
        health = context.health()
        return JSONResponse(health.as_json(), 200 if health.live else 503)

    @routes.get("/health/ready", responses=_NOT_WELL)
    async def ready() -> JSONResponse:
        """Whether this service does its work: broker and store answer."""
        health = context.health()
        return JSONResponse(health.as_json(), 200 if health.ready else 503)

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(context.registry), media_type=CONTENT_TYPE_LATEST)

    return routes
