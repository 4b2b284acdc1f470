"""Limits of requests: rate per address, body size, URL length."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from math import ceil

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.http.middleware import HttpMetrics
from admin_api.http.problems import ProblemError, invalid, problem

_FREE = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Never rate-limited: probes and scrapers must always get an answer."""

_MAX_ADDRESSES = 10_000

MAX_BODY = 64 * 1024
"""Maximum length of a request body, in bytes."""

MAX_URL = 8 * 1024
"""Maximum length of a path with its query, in bytes."""


class TokenBuckets:
    """A token bucket per address. The least recently used buckets are dropped: a new one is full."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float) -> float:
        """Take a token at `now` (seconds of a monotonic clock).

        Returns 0 if one was available, else the seconds until one is.
        """
        tokens, since = self._buckets.pop(address, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[address] = (tokens - 1 if wait == 0 else tokens, now)
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


class Limiter:
    """Refuses requests that are too frequent, too long or too large, before they are parsed: 413, 414, 422, 429.

    `rate`: requests per second and address (0: unlimited); `burst`: requests at once above it. `steady`: a monotonic
    clock in seconds. Behind a proxy all requests have one address, unless TRUSTED_PROXIES names the proxy.
    """

    def __init__(
        self, app: ASGIApp, rate: float, burst: int, metrics: HttpMetrics, steady: Callable[[], float]
    ) -> None:
        self._app = app
        self._rate = rate
        self._metrics = metrics
        self._steady = steady
        self._buckets = TokenBuckets(rate, burst) if rate > 0 else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that is within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            self._metrics.refused.labels(str(refusal.status_code)).inc()
            await refusal(scope, receive, send)
            return
        await self._app(scope, self._bounded(receive), send)

    def _refusal(self, scope: Scope) -> Response | None:
        path = scope["path"]
        if self._buckets is not None and path not in _FREE:
            wait = self._buckets.take(address_of(scope), self._steady())
            if wait > 0:
                seconds = ceil(wait)
                detail = f"expected at most {self._rate:g} requests a second from one address; try again in {seconds} s"
                return problem(429, detail, {"Retry-After": str(seconds)})
        length = len(scope.get("raw_path") or path.encode()) + len(scope["query_string"])
        if length > MAX_URL:
            return problem(414, f"expected a path and query of at most {MAX_URL} bytes, got {length}")
        if "\0" in path or b"%00" in scope["query_string"]:
            return invalid(ProblemError("", "expected a path and query without NUL, got one"))
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > MAX_BODY:
                return problem(413, f"expected a body of at most {MAX_BODY} bytes, got {int(value)}")
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` for a body of unknown length: 413 once it is longer than allowed."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                self._metrics.refused.labels("413").inc()
                raise HTTPException(413, f"expected a body of at most {MAX_BODY} bytes, got more")
            return message

        return bounded


def address_of(scope: Scope) -> str:
    """The client's address; for IPv6 its /64 network, which one customer has."""
    client = scope.get("client")
    host = client[0] if client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return str(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return host
