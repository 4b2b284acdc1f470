"""What happens to every request: it is counted and timed, and HEAD and OPTIONS are answered for all routes alike."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.http.problems import allowed_methods, problem
from admin_api.metrics import AdminMetrics

_ENDLESS = frozenset({"/stream"})


class RequestCounter:
    """Counts answers by route and status, and times them up to their head, so that a stream is not a slow answer.

    Only ASGI, so that a stream passes through without a copy of each chunk. `steady`: seconds, never stepping.
    """

    def __init__(self, app: ASGIApp, metrics: AdminMetrics, steady: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._steady = steady

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count at the head of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._steady()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's template, not the path: a client must not be able to make up labels.
                route = getattr(scope.get("route"), "path", "unknown")
                self._metrics.requests.labels(route, str(message["status"])).inc()
                self._metrics.seconds.labels(route).observe(self._steady() - began)
            await send(message)

        await self._app(scope, receive, counted)


class Methods:
    """HEAD is GET without the body, wherever there is GET; OPTIONS tells what there is."""

    def __init__(self, app: ASGIApp, router: Router) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer OPTIONS; turn HEAD into GET for the application."""
        method = scope.get("method")
        if scope["type"] != "http" or method not in ("HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        allowed = [name for name in allowed_methods(self._router, scope) if self._is_allowed(name, scope)]
        if method == "OPTIONS" and allowed:
            await Response(status_code=204, headers={"Allow": ", ".join(allowed)})(scope, receive, send)
        elif method == "HEAD" and allowed and "HEAD" not in allowed:
            detail = f"expected {' or '.join(allowed)}, got HEAD"
            await problem(405, detail, {"Allow": ", ".join(allowed)})(scope, receive, send)
        elif method == "HEAD":
            # A copy, because the server must go on knowing that it was HEAD.
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self._app(scope, receive, send)

    @staticmethod
    def _is_allowed(method: str, scope: Scope) -> bool:
        return method != "HEAD" or scope["path"] not in _ENDLESS


def _without_body(send: Send) -> Send:
    async def bodiless(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return bodiless
