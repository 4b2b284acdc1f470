"""The HTTP application: routes over the view of the bus and the store."""

import time
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from admin_api.http import (
    dashboard,
    problems,
    routes_candles,
    routes_health,
    routes_letters,
    routes_repair,
    routes_store,
    routes_stream,
)
from admin_api.http.context import Context
from admin_api.http.headers import SecurityHeaders
from admin_api.http.limits import Limiter
from admin_api.http.middleware import Methods, RequestCounter
from admin_api.metrics import SystemCollector


def create_app(context: Context) -> FastAPI:
    """The application; it does nothing by itself, `context` is kept up to date by the service."""
    app = FastAPI(
        title="Crypto Ingress",
        summary="Health, bootstrap, candles and repair",
        version=version("admin-api"),
        redirect_slashes=False,
        # Those pages would load their scripts from another host; `/docs` is a page of the dashboard's.
        docs_url=None,
        redoc_url=None,
    )
    context.registry.register(
        SystemCollector(context.view, context.report, lambda: context.monitor.tasks, context.clock)
    )
    problems.install(app)
    app.include_router(routes_health.router(context))
    app.include_router(routes_store.router(context))
    app.include_router(routes_candles.router(context))
    app.include_router(routes_stream.router(context))
    app.include_router(routes_repair.router(context))
    app.include_router(routes_letters.router(context))
    app.include_router(dashboard.router(context))
    _add_middleware(app, context)
    _describe(app)
    return app


def _add_middleware(app: FastAPI, context: Context) -> None:
    """The last one added is the first to see a request."""
    origins = context.http_limits.origins
    app.add_middleware(Limiter, limits=context.http_limits, metrics=context.metrics, steady=time.monotonic)
    app.add_middleware(RequestCounter, metrics=context.metrics, steady=time.monotonic)
    app.add_middleware(Methods, router=app.router)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Link", "Retry-After"],
        )
    app.add_middleware(SecurityHeaders, shared=bool(origins))


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI document with what is the same for all routes."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            problems.describe_common(generate())
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]
