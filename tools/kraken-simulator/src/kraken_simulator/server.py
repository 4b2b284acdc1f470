"""The HTTP server of WebSocket and REST, with the refusals before a request is read."""

import asyncio

from aiohttp import web

from kraken_simulator.exchange import Exchange
from kraken_simulator.limits import ConnectionRateLimit
from kraken_simulator.rest.api import PublicApi
from kraken_simulator.session import WebSocketSession
from kraken_simulator.subscriptions import ClientSubscriptions, UnifiedSubscriptions

_SLOW_SECONDS = 10.0
_UNAVAILABLE_PAGE = "<html><head><title>503 Service Temporarily Unavailable</title></head></html>"
_CLOSE_SECONDS = 1.0


class ExchangeServer:
    """The handlers of the exchange's port."""

    def __init__(self, exchange: Exchange) -> None:
        config = exchange.config
        self._exchange = exchange
        self.attempt_limit = ConnectionRateLimit(config.connection_limit, config.connection_window)
        self._api = PublicApi(exchange)

    def application(self) -> web.Application:
        """Return the application of the port."""
        application = web.Application()
        application.router.add_get("/v2", self._websocket)
        application.router.add_get("/v2/public", self._unified_websocket)
        application.router.add_get("/0/public/{method}", self._rest)
        application.router.add_post("/0/public/{method}", self._rest)
        return application

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, ClientSubscriptions(self._exchange))

    async def _unified_websocket(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, UnifiedSubscriptions(self._exchange))

    async def _serve(self, request: web.Request, subscriptions: ClientSubscriptions) -> web.StreamResponse:
        exchange = self._exchange
        exchange.stats.connection_attempts += 1
        within = self.attempt_limit.allows(request.remote or "", exchange.clock())
        if exchange.faults.on("outage"):
            exchange.stats.connections_refused += 1
            return web.Response(status=503, text=_UNAVAILABLE_PAGE, content_type="text/html")
        if exchange.faults.on("http_429") or not within:
            exchange.stats.connections_refused += 1
            return web.Response(status=429, text="error code: 1015")
        websocket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS, autoping=False, autoclose=False, compress=False, max_msg_size=1_000_000
        )
        await websocket.prepare(request)
        transport = request.transport
        if transport is not None:
            await WebSocketSession(websocket, transport, exchange, subscriptions).run()
        return websocket

    async def _rest(self, request: web.Request) -> web.Response:
        exchange = self._exchange
        exchange.stats.rest_requests += 1
        if exchange.faults.on("rest_slow"):
            await self._respond_late()
        if exchange.faults.on("rest_down"):
            exchange.stats.rest_errors += 1
            return web.Response(status=503, text=_UNAVAILABLE_PAGE, content_type="text/html")
        query = dict(request.query)
        if request.method == "POST":
            query |= {name: str(value) for name, value in (await request.post()).items()}
        text = self._api.respond(request.match_info["method"], query, request.remote or "")
        exchange.stats.rest_errors += text.startswith('{"error":["')
        return web.Response(text=text, content_type="application/json")

    async def _respond_late(self) -> None:
        until = self._exchange.clock() + _SLOW_SECONDS
        while self._exchange.faults.on("rest_slow") and self._exchange.clock() < until:  # noqa: ASYNC110 (a clock)
            await asyncio.sleep(self._exchange.config.poll_seconds)
