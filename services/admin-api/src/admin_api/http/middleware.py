"""Middleware for all routes: metrics, HEAD and OPTIONS, security headers.

Plain ASGI, so that a stream passes through without a copy of each chunk.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.http.problems import allowed_methods, problem

_ENDLESS = frozenset({"/stream"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"


class HttpMetrics:
    """Metrics of requests: count, duration, refusals."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "ingress_admin_requests", "HTTP requests, by route and status", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "ingress_admin_request_seconds",
            "Time from an HTTP request's arrival to the head of its response, by route",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused = Counter(
            "ingress_admin_refused", "HTTP requests beyond a limit, by status", ("status",), registry=registry
        )


class RequestCounter:
    """Counts responses by route and status, and measures the time to their head, so that a stream counts as fast.

    `steady`: a monotonic clock in seconds.
    """

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, steady: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._steady = steady

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count at the head of the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._steady()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's template, not the path: clients must not create labels at will.
                route = getattr(scope.get("route"), "path", "unknown")
                self._metrics.requests.labels(route, str(message["status"])).inc()
                self._metrics.seconds.labels(route).observe(self._steady() - began)
            await send(message)

        await self._app(scope, receive, counted)


class Methods:
    """Answers HEAD on every GET route (without the body), and OPTIONS with the allowed methods."""

    def __init__(self, app: ASGIApp, router: Router) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer OPTIONS; turn HEAD into GET for the application."""
        method = scope.get("method")
        if scope["type"] != "http" or method not in ("HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        endless = scope["path"] in _ENDLESS
        allowed = [name for name in allowed_methods(self._router, scope) if name != "HEAD" or not endless]
        if method == "OPTIONS" and allowed:
            await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)
        elif method == "HEAD" and allowed and "HEAD" not in allowed:
            detail = f"expected {' or '.join(allowed)}, got HEAD"
            await problem(405, detail, {"Allow": ", ".join(allowed)})(scope, receive, send)
        elif method == "HEAD":
            # A copy, because the server must still see HEAD and send no body.
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def bodiless(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return bodiless


class SecurityHeaders:
    """Adds security headers to every response; headers that a route has set stay.

    The dashboard's pages have their own content policy; all other responses are data, which may load nothing.
    `shared`: other origins may read responses (CORS_ORIGINS).
    """

    def __init__(self, app: ASGIApp, *, shared: bool) -> None:
        self._app = app
        self._headers = {**_SECURITY, "Cross-Origin-Resource-Policy": "cross-origin" if shared else "same-origin"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add headers to the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if not headers.get("content-type", "").startswith("text/html"):
                    headers.setdefault("Content-Security-Policy", _DATA_POLICY)
            await send(message)

        await self._app(scope, receive, with_headers)
