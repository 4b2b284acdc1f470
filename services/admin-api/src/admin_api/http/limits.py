"""What a client may ask for: how often, and how much at once."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.http.problems import invalid, problem
from admin_api.metrics import AdminMetrics

_FREE = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Asked by machines that must get an answer however busy others at their address are."""

_UNCOUNTED = frozenset({"/stream"})
"""Streams have limits of their own, in number instead of in rate."""

_MAX_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What the service takes over HTTP.

    `rate` (requests a second and address; 0: any number) and `burst` (above it at once); `streams`: open at once on
    this instance; `body`, `url`: bytes; `origins`: pages of which other origins may read, `*` for all.
    """

    rate: float = 0
    burst: int = 500
    streams: int = 1_000
    body: int = 64 * 1024
    url: int = 8 * 1024
    origins: tuple[str, ...] = ()


class TokenBuckets:
    """A token bucket for each address; those that were not heard of longest are forgotten, which makes them full."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float) -> float:
        """Take a token at `now` (seconds of any steady clock).

        0 if there was one, else the seconds until there is one.
        """
        tokens, since = self._buckets.pop(address, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[address] = (tokens - 1 if wait == 0 else tokens, now)
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return wait


class Limiter:
    """Refuses what is too often, too long or too large, before anything else looks at it.

    `steady` gives seconds of a clock that does not jump. Behind a proxy all requests come from one address, unless
    TRUSTED_PROXIES names it.
    """

    def __init__(self, app: ASGIApp, limits: HttpLimits, metrics: AdminMetrics, steady: Callable[[], float]) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._steady = steady
        self._buckets = TokenBuckets(limits.rate, limits.burst) if limits.rate > 0 else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is within the limits."""
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
        limits, path = self._limits, scope["path"]
        if self._buckets is not None and path not in _FREE and path not in _UNCOUNTED:
            wait = self._buckets.take(_address(scope), self._steady())
            if wait > 0:
                seconds = ceil(wait)
                detail = (
                    f"expected at most {limits.rate:g} requests a second from one address; try again in {seconds} s"
                )
                return problem(429, detail, {"Retry-After": str(seconds)})
        length = len(scope.get("raw_path") or path.encode()) + len(scope["query_string"])
        if length > limits.url:
            return problem(414, f"expected a path and query of at most {limits.url} bytes, got {length}")
        if "\0" in path or b"%00" in scope["query_string"]:
            return invalid([{"name": "", "detail": "expected a path and query without NUL, got one"}])
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > limits.body:
                return problem(413, f"expected a body of at most {limits.body} bytes, got {int(value)}")
        return None

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` for a body whose length was not said: 413 once it is longer than allowed."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limits.body:
                self._metrics.refused.labels("413").inc()
                raise HTTPException(413, f"expected a body of at most {self._limits.body} bytes, got more")
            return message

        return bounded


def _address(scope: Scope) -> str:
    """The client's address; of IPv6 the network of 64 bits that one customer has."""
    client = scope.get("client")
    host = client[0] if client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return str(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return host
