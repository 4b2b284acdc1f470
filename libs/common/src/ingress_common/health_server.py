"""The HTTP server of a service: liveness, readiness, metrics."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ingress_common.errors import StartError
from ingress_common.health import Health
from ingress_common.http_protocol import GuardedProtocol
from ingress_common.metrics import MetricsPage
from ingress_common.redaction import shown_address
from ingress_common.tls import TlsFiles

__all__ = ["HealthServer", "StartError", "serve_http"]

_SHUTDOWN_SECONDS = 2

_PLAIN = TlsFiles()

_BACKLOG = 1024
"""Connections that may wait to be accepted: the number of clients that reconnect at once after a restart."""

_SEND_BUFFER = 256 * 1024
"""Bytes that the system buffers for a peer that does not read. Its own default is several megabytes."""


class _GuestServer(uvicorn.Server):
    """uvicorn on a loop whose signal handlers belong to the service."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serve_http(
    app: ASGIApp, host: str, port: int, *, trusted_proxies: Sequence[str] = (), tls: TlsFiles = _PLAIN
) -> AsyncIterator[int]:
    """Serve `app` on `host`:`port` (0: any free port) inside the running loop; yields the port.

    A connection from one of `trusted_proxies` (addresses, networks, or `*`) has the client's address in
    X-Forwarded-For. With a certificate in `tls` the server speaks TLS only; with authorities too, it accepts only
    clients with a certificate from them. On exit, open requests have 2 s to finish.

    Raises:
        StartError: the address cannot be listened on, or the application did not start.
    """
    with _listen(host, port) as listener:
        config = uvicorn.Config(
            app,
            http=GuardedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            ssl_certfile=tls.cert_file,
            ssl_keyfile=tls.key_file,
            ssl_ca_certs=None if tls.ca_file is None else str(tls.ca_file),
            ssl_cert_reqs=ssl.CERT_NONE if tls.ca_file is None else ssl.CERT_REQUIRED,
        )
        server = _GuestServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http.serve")
        try:
            ready = asyncio.create_task(server.ready.wait(), name="http.ready")
            try:
                await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
            if not server.started:
                raise StartError(f"expected the HTTP application on {host}:{port} to start, but it failed")
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await asyncio.wait([task])


class HealthServer:
    """An async context manager that serves `/health/live`, `/health/ready` (200 or 503, JSON) and `/metrics`.

    Port 0 takes any free port; once entered, `port` is the actual one. StartError if the port is in use.
    """

    def __init__(
        self, host: str, port: int, health: Callable[[], Health], registry: CollectorRegistry, tls: TlsFiles = _PLAIN
    ) -> None:
        self._host = host
        self._tls = tls
        self.port = port
        self._health = health
        self._page = MetricsPage(registry)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start serving."""
        app = Starlette(
            routes=[
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route("/metrics", self._metrics),
            ]
        )
        self.port = await self._stack.enter_async_context(serve_http(app, self._host, self.port, tls=self._tls))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        await self._stack.aclose()

    async def _live(self, _request: Request) -> Response:
        health = self._health()
        return JSONResponse(health.as_json(), 200 if health.live else 503)

    async def _ready(self, _request: Request) -> Response:
        health = self._health()
        return JSONResponse(health.as_json(), 200 if health.ready else 503)

    async def _metrics(self, _request: Request) -> Response:
        return Response(self._page.text(), media_type=CONTENT_TYPE_LATEST)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        # A name that means no address may be a secret given to the wrong setting.
        reason = getattr(error, "strerror", None) or "it is no host name"
        expected = f"expected an address of this machine, got {shown_address(host)}"
        raise StartError(f"cannot listen: {expected}: {reason} (HTTP_HOST)") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        settings = "HTTP_HOST, HTTP_PORT, HEALTH_PORT"
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error} ({settings})") from None
    return listener
