"""`/health`, `/health/live`, `/health/ready`, `/metrics`, and the dashboard's copy of the report."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from msgspec.structs import asdict
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry

from admin_api.admin.bodies import SystemHealth
from admin_api.admin.health import HealthReporter
from admin_api.http.responses import Body, described, json_response
from ingress_common.health import Health
from ingress_common.metrics import MetricsPage

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}


def _responses(*bodies: type) -> dict[int | str, dict[str, Any]]:
    return {
        200: described(*bodies, text="All checks pass"),
        503: described(*bodies, text="A check fails; its detail names the cause"),
    }


def _uncached(body: object, *, ok: bool) -> Response:
    return json_response(body, 200 if ok else 503, {"Cache-Control": "no-store"})


def router(health: HealthReporter, contribution: type[Body], registry: CollectorRegistry) -> APIRouter:
    """Routes of health and metrics. `contribution`: the fields of other packages in the report."""
    routes = APIRouter(tags=["health"], default_response_class=Response)
    page = MetricsPage(registry)

    @routes.get("/health", responses=_responses(SystemHealth, contribution))
    async def system() -> Response:
        """The health of the system: services, broker, store, feeds, symbols."""
        report, more = health.report()
        return _uncached({**asdict(report), **asdict(more)}, ok=report.status == "ok")

    @routes.get("/dashboard/health", include_in_schema=False)
    async def dashboard() -> Response:
        """The report of `GET /health`, always with 200, because a browser logs each 503 as an error."""
        report, more = health.report()
        return _uncached({**asdict(report), **asdict(more)}, ok=True)

    @routes.get("/health/live", responses=_responses(Health))
    async def live() -> Response:
        """Whether this process works."""
        process = health.process()
        return _uncached(process, ok=process.live)

    @routes.get("/health/ready", responses=_responses(Health))
    async def ready() -> Response:
        """Whether this service can do its work: broker and store answer."""
        process = health.process()
        return _uncached(process, ok=process.ready)

    @routes.get("/metrics", responses={200: _TEXT})
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(page.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
