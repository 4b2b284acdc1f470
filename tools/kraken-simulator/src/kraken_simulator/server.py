"""The HTTP side of WebSocket and REST: what is refused, what is limited, and which answer is asked for."""

import asyncio

from aiohttp import web

from kraken_simulator import rest
from kraken_simulator.exchange import Exchange
from kraken_simulator.limits import CallLimit, ConnectionBudget
from kraken_simulator.market import Market
from kraken_simulator.session import Session
from kraken_simulator.text import NANOS

_SLOW_SECONDS = 10.0
_UNAVAILABLE_PAGE = "<html><head><title>503 Service Temporarily Unavailable</title></head></html>"
_SECONDS_LIMIT = 100_000_000_000
_CLOSE_SECONDS = 1.0


class ExchangeServer:
    """Handlers of the exchange's own port."""

    def __init__(self, exchange: Exchange) -> None:
        config = exchange.config
        self._exchange = exchange
        self.budget = ConnectionBudget(config.connection_budget, config.connection_window)
        self._calls = CallLimit(config.rest_rate, config.rest_burst)
        self._names = {name: market for market in exchange.markets.values() for name in market.pair.names}

    def application(self) -> web.Application:
        """Return the application of the port."""
        application = web.Application()
        application.router.add_get("/v2", self._websocket)
        application.router.add_get("/0/public/{method}", self._rest)
        return application

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        exchange = self._exchange
        exchange.stats.connection_attempts += 1
        within = self.budget.allows(request.remote or "", exchange.clock())
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
            await Session(websocket, transport, exchange).run()
        return websocket

    async def _rest(self, request: web.Request) -> web.Response:
        exchange = self._exchange
        exchange.stats.rest_requests += 1
        if exchange.faults.on("rest_slow"):
            await self._dawdle()
        if exchange.faults.on("rest_down"):
            exchange.stats.rest_errors += 1
            return web.Response(status=503, text=_UNAVAILABLE_PAGE, content_type="text/html")
        text = self._answer(request)
        exchange.stats.rest_errors += text.startswith('{"error":["')
        return web.Response(text=text, content_type="application/json")

    async def _dawdle(self) -> None:
        until = self._exchange.clock() + _SLOW_SECONDS
        while self._exchange.faults.on("rest_slow") and self._exchange.clock() < until:  # noqa: ASYNC110 (a clock)
            await asyncio.sleep(self._exchange.config.poll_seconds)

    def _answer(self, request: web.Request) -> str:
        exchange = self._exchange
        system, now, query = exchange.faults.system, int(exchange.clock()), request.query
        if exchange.faults.on("outage"):
            return rest.error_json(rest.UNAVAILABLE)
        method = request.match_info["method"]
        if method == "SystemStatus":
            return rest.system_status_json(system, now)
        if system == "maintenance":
            return rest.error_json(rest.UNAVAILABLE)
        if method not in ("AssetPairs", "OHLC", "Trades"):
            return rest.error_json(rest.UNKNOWN_METHOD)
        if exchange.faults.on("rest_limit"):
            return rest.error_json(rest.TOO_MANY)
        if method == "AssetPairs":
            return self._asset_pairs(query.get("pair"), system)
        market = self._names.get(query.get("pair", ""))
        if market is None or not exchange.is_listed(market.pair.symbol):
            return rest.error_json(rest.UNKNOWN_PAIR if query.get("pair") else rest.INVALID)
        if not self._calls.allows(f"{request.remote} {market.pair.symbol}", exchange.clock()):
            return rest.error_json(rest.TOO_MANY)
        since = rest.parse_since(query["since"]) if "since" in query else None
        if "since" in query and since is None:
            return rest.error_json(rest.INVALID)
        market.advance(exchange.now())
        if method == "OHLC":
            minutes = rest.parse_interval(query.get("interval", "1"))
            if minutes is None:
                return rest.error_json(rest.INVALID)
            return rest.ohlc_json(market, minutes, now, since)
        return self._trades(market, since, query.get("count", str(rest.MAX_TRADES)))

    def _trades(self, market: Market, since: int | None, count: str) -> str:
        if not count.isdigit() or not 1 <= int(count) <= rest.MAX_TRADES:
            return rest.error_json(rest.INVALID)
        if since is not None and since < _SECONDS_LIMIT:
            since *= NANOS
        return rest.trades_json(market, since, int(count))

    def _asset_pairs(self, names: str | None, system: str) -> str:
        listed = self._exchange.listed
        markets = list(listed.values())
        if names:
            found = [self._names.get(name.strip()) for name in names.split(",")]
            markets = [market for market in found if market is not None and market.pair.symbol in listed]
            if len(markets) != len(found):
                return rest.error_json(rest.UNKNOWN_PAIR)
        return rest.asset_pairs_json((market.pair for market in markets), system)
