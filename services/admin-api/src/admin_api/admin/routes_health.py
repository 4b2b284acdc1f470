"""`/health`, `/health/live`, `/health/ready`, `/metrics`, and the dashboard's copy of the report."""

from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry

from admin_api.admin.bodies import ProcessHealth, SystemHealth
from admin_api.admin.health import HealthReporter
from admin_api.http.responses import JSON, Body, described
from ingress_common.metrics import MetricsPage

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}


def _responses(body: type[Body]) -> dict[int | str, dict[str, Any]]:
    return {200: described(body, "All checks pass"), 503: described(body, "A check fails; its detail names the cause")}


def _json(content: dict[str, Any], status: int) -> Response:
    return Response(msgspec.json.encode(content), status, {"Cache-Control": "no-store"}, media_type=JSON)


def router(health: HealthReporter, registry: CollectorRegistry) -> APIRouter:
    """Routes of health and metrics."""
    routes = APIRouter(tags=["health"], default_response_class=Response)
    page = MetricsPage(registry)

    @routes.get("/health", responses=_responses(SystemHealth))
    async def system() -> Response:
        """The health of the system: services, broker, store, feeds, symbols."""
        report = health.report()
        return _json(report.as_json(), 200 if report.ok else 503)

    @routes.get("/dashboard/health", include_in_schema=False)
    async def dashboard() -> Response:
        """The report of `GET /health`, always with 200, because a browser logs each 503 as an error."""
        return _json(health.report().as_json(), 200)

    @routes.get("/health/live", responses=_responses(ProcessHealth))
    async def live() -> Response:
        """Whether this process works."""
        process = health.process()
        return _json(process.as_json(), 200 if process.live else 503)

    @routes.get("/health/ready", responses=_responses(ProcessHealth))
    async def ready() -> Response:
        """Whether this service can do its work: broker and store answer."""
        process = health.process()
        return _json(process.as_json(), 200 if process.ready else 503)

    @routes.get("/metrics", responses={200: _TEXT})
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(page.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
