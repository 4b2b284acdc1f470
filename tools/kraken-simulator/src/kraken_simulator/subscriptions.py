"""Handles the requests of one connection: subscriptions, and refusals with Kraken's error texts."""

import asyncio
import json
from collections.abc import Collection
from typing import Any, Protocol

from kraken_simulator import frames, instruments
from kraken_simulator.book import DEPTHS
from kraken_simulator.candles import INTERVALS
from kraken_simulator.exchange import Exchange
from kraken_simulator.feeds import Topic
from kraken_simulator.listeners import Listener
from kraken_simulator.pairs import ASSET_CLASSES, CURRENCY

_PRIVATE = frozenset({"executions", "balances", "level3"})
_PUBLIC = frozenset({"ohlc", "trade", "ticker", "book"})
_WITHOUT_SNAPSHOT = frozenset({"trade"})
_UNIFIED_CLASS = "spot"
_DEFAULT_DEPTH = 10
_EVENT_TRIGGER = "trades"


class ClientConnection(Listener, Protocol):
    """The connection that sends the requests."""

    def send(self, text: str) -> None:
        """Send a response."""


class _Request:
    """A request with the fields that its response repeats."""

    def __init__(self, method: str, params: dict[str, Any], req_id: int | None, received: int) -> None:
        self.method = method
        self.params = params
        self.req_id = req_id
        self.received = received

    @property
    def subscribes(self) -> bool:
        return self.method == "subscribe"


class ClientSubscriptions:
    """The subscriptions of one connection; responds to its requests."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._numbers: dict[tuple[str, str], int] = {}
        self._symbols: dict[str, int] = {}
        self._instruments: frozenset[str] = frozenset()

    @property
    def topics(self) -> Collection[Topic]:
        """All subscriptions of the connection except instrument."""
        return tuple(Topic(channel, symbol, number) for (channel, symbol), number in self._numbers.items())

    @property
    def is_empty(self) -> bool:
        """Whether the connection has no subscription."""
        return not self._numbers and not self._instruments

    @property
    def instruments(self) -> frozenset[str]:
        """The asset classes of the instrument subscription; empty without one."""
        return self._instruments

    def follows(self, symbol: str) -> bool:
        """Return whether the connection is subscribed to a symbol on any channel."""
        return symbol in self._symbols

    async def respond(self, text: str, connection: ClientConnection) -> None:
        """Respond to one request."""
        received = self._exchange.now()
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            self._refuse(connection, "Malformed request", _Request("", {}, None, received))
            return
        method, req_id, params = fields.get("method"), fields.get("req_id"), fields.get("params")
        request = _Request(
            method if isinstance(method, str) else "",
            params if isinstance(params, dict) else {},
            req_id if isinstance(req_id, int) and not isinstance(req_id, bool) else None,
            received,
        )
        if request.method == "ping":
            if not self._exchange.is_silent(connection):
                connection.send(frames.pong(request.req_id, received, self._exchange.now()))
        elif request.method in ("subscribe", "unsubscribe"):
            await self._on_subscription(connection, request)
        else:
            self._refuse(connection, "Unsupported event", request)

    def _refuse(self, connection: ClientConnection, text: str, request: _Request, symbol: object = None) -> None:
        times = {"time_in": request.received, "time_out": self._exchange.now()}
        connection.send(frames.error(text, request.method or None, symbol=symbol, req_id=request.req_id, **times))

    def _ack(self, connection: ClientConnection, request: _Request, result: dict[str, object]) -> None:
        times = {"time_in": request.received, "time_out": self._exchange.now()}
        connection.send(frames.ack(request.method, result, req_id=request.req_id, **times))

    async def _on_subscription(self, connection: ClientConnection, request: _Request) -> None:
        channel, symbols = str(request.params.get("channel")), request.params.get("symbol")
        problem = self._problem_of(request.params)
        if problem is not None:
            self._refuse(connection, problem, request)
        elif channel == "instrument":
            self._on_instrument(connection, request)
        elif not isinstance(symbols, list) or not symbols:
            self._refuse(connection, "Malformed request", request)
        else:
            for symbol in symbols:
                await asyncio.sleep(0)  # a snapshot takes milliseconds: let other connections run
                refusal = self._symbol_problem(channel, symbol, request.params)
                if refusal is not None:
                    self._refuse(connection, refusal, request, symbol)
                elif request.subscribes:
                    self._subscribe(connection, Topic(channel, symbol, _number(channel, request.params)), request)
                else:
                    self._unsubscribe(connection, Topic(channel, symbol, _number(channel, request.params)), request)

    def _problem_of(self, params: dict[str, Any]) -> str | None:
        channel = params.get("channel")
        if isinstance(channel, str) and channel in _PRIVATE:
            return "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
        known = isinstance(channel, str) and (channel in _PUBLIC or channel == "instrument")
        return None if known else "Unsupported event"

    def _symbol_problem(self, channel: str, symbol: object, params: dict[str, Any]) -> str | None:
        if not isinstance(symbol, str) or "/" not in symbol or "*" in symbol:
            return f"Currency pair not in ISO 4217-A3 format {symbol}"
        if not self._exchange.directory.is_listed(symbol):
            return f"Currency pair not supported {symbol}"
        if channel == "ohlc":
            return _problem("ohlc interval", params.get("interval"), INTERVALS)
        if channel == "book":
            return _problem("book depth", params.get("depth", _DEFAULT_DEPTH), DEPTHS)
        return None

    def _subscribe(self, connection: ClientConnection, topic: Topic, request: _Request) -> None:
        channel, symbol, number = topic
        if (channel, symbol) in self._numbers:
            other = channel == "ohlc" and self._numbers[channel, symbol] != number
            text = "Already subscribed to one ohlc interval on this symbol" if other else "Already subscribed"
            self._refuse(connection, text, request, symbol)
            return
        self._exchange.publisher.subscribe(connection, topic, self._exchange.now())
        self._numbers[channel, symbol] = number
        self._symbols[symbol] = self._symbols.get(symbol, 0) + 1
        snapshot = request.params.get("snapshot", channel not in _WITHOUT_SNAPSHOT) is not False
        self._ack(connection, request, _result(topic, request.params) | {"snapshot": snapshot})
        if snapshot:
            self._exchange.publisher.send_snapshot(connection, topic, self._exchange.now())

    def _unsubscribe(self, connection: ClientConnection, topic: Topic, request: _Request) -> None:
        channel, symbol, number = topic
        if self._numbers.get((channel, symbol)) != number:
            self._refuse(connection, "Subscription Not Found", request, symbol)
            return
        del self._numbers[channel, symbol]
        self._symbols[symbol] -= 1
        if not self._symbols[symbol]:
            del self._symbols[symbol]
        self._exchange.publisher.unsubscribe(connection, topic)
        result = _result(topic, request.params)
        self._ack(connection, request, {name: value for name, value in result.items() if name != "warnings"})

    def _on_instrument(self, connection: ClientConnection, request: _Request) -> None:
        exchange = self._exchange
        if request.subscribes == bool(self._instruments):
            text = "Already subscribed" if request.subscribes else "Subscription Not Found"
            self._refuse(connection, text, request)
            return
        tokenized = request.params.get("include_tokenized_assets") is True
        self._instruments = (
            frozenset() if not request.subscribes else frozenset(ASSET_CLASSES if tokenized else [CURRENCY])
        )
        if not request.subscribes:
            self._ack(connection, request, {"channel": "instrument"})
            return
        snapshot = request.params.get("snapshot") is not False
        self._ack(connection, request, {"channel": "instrument", "snapshot": snapshot})
        if snapshot:
            markets = exchange.directory.listed(self._instruments)
            listings = ((market.pair, exchange.directory.status_of(market)) for market in markets)
            connection.send_data(instruments.snapshot(listings))


class UnifiedSubscriptions(ClientSubscriptions):
    """The subscriptions of a connection to the unified socket, whose requests require an `asset_class`."""

    def _problem_of(self, params: dict[str, Any]) -> str | None:
        if params.get("asset_class") != _UNIFIED_CLASS:
            return "Asset class not supported"
        return super()._problem_of(params)


def _number(channel: str, params: dict[str, Any]) -> int:
    if channel == "ohlc":
        return int(params["interval"])
    return int(params.get("depth", _DEFAULT_DEPTH)) if channel == "book" else 0


def _problem(name: str, value: object, allowed: Collection[int]) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return f"Subscription {name} must be an integer"
    return None if value in allowed else f"Subscription {name} not supported"


def _result(topic: Topic, params: dict[str, Any]) -> dict[str, object]:
    result: dict[str, object] = {"channel": topic.channel, "symbol": topic.symbol}
    if topic.channel == "ohlc":
        return result | {"interval": topic.number, "warnings": [frames.WARNING]}
    if topic.channel == "book":
        return result | {"depth": topic.number}
    if topic.channel == "ticker":
        return result | {"event_trigger": params.get("event_trigger", _EVENT_TRIGGER)}
    return result
