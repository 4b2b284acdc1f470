"""Middleware for all routes: metrics, HEAD, security headers.

Plain ASGI, so that a stream passes through without a copy of each chunk.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENDLESS = frozenset({"/stream"})
"""Paths whose responses have no end, so that HEAD cannot be answered."""

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


class Head:
    """Passes HEAD on as GET, except on ENDLESS routes. The server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope.get("method") == "HEAD" and scope["path"] not in ENDLESS:
            # A copy, because the server must still see HEAD and send no body.
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


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
