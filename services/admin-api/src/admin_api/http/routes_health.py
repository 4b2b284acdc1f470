"""`/health`, `/health/live`, `/health/ready`, `/metrics`."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from admin_api.http.context import Context
from admin_api.http.models import ProcessHealth, SystemHealth

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}


def _not_well(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {503: {"description": "Not well; the checks say what", "model": model}}


def router(context: Context) -> APIRouter:
    """Routes for monitoring."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health", response_model=SystemHealth, responses=_not_well(SystemHealth))
    async def health() -> JSONResponse:
        """The health of everything: services, broker, store, feeds, symbols."""
        report = context.report()
        return JSONResponse(report.as_json(), 200 if report.ok else 503)

    @routes.get("/health/live", response_model=ProcessHealth, responses=_not_well(ProcessHealth))
    async def live() -> JSONResponse:
        """Whether this process works."""
        health = context.health()
        return JSONResponse(health.as_json(), 200 if health.live else 503)

    @routes.get("/health/ready", response_model=ProcessHealth, responses=_not_well(ProcessHealth))
    async def ready() -> JSONResponse:
        """Whether this service does its work: broker and store answer."""
        health = context.health()
        return JSONResponse(health.as_json(), 200 if health.ready else 503)

    @routes.get("/metrics", response_class=Response, responses={200: _TEXT})
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(context.registry), media_type=CONTENT_TYPE_LATEST)

    return routes
