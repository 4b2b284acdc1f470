"""The HTTP application: routes over the view of the bus and the store."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version

from fastapi import FastAPI, Request, Response

from admin_api import dashboard, problems, routes_candles, routes_health, routes_letters, routes_repair, routes_store
from admin_api.context import Context
from admin_api.metrics import SystemCollector


def create_app(context: Context) -> FastAPI:
    """The application; it does nothing by itself, `context` is kept up to date by the service."""
    app = FastAPI(
        title="Crypto Ingress",
        summary="Health, bootstrap, candles and repair",
        version=version("admin-api"),
    )
    context.registry.register(
        SystemCollector(context.view, context.report, lambda: context.monitor.tasks, context.clock)
    )
    problems.install(app)
    app.include_router(routes_health.router(context))
    app.include_router(routes_store.router(context))
    app.include_router(routes_candles.router(context))
    app.include_router(routes_repair.router(context))
    app.include_router(routes_letters.router(context))
    app.include_router(dashboard.router(context))

    @app.middleware("http")
    async def _count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        # The route's template, not the path: a client must not be able to make up labels.
        route = getattr(request.scope.get("route"), "path", "unknown")
        context.metrics.requests.labels(route, str(response.status_code)).inc()
        return response

    return app
