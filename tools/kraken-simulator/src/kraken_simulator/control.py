"""The control port: truth, faults on demand, counters."""

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from aiohttp import web

from kraken_simulator.errors import FaultError
from kraken_simulator.exchange import Exchange
from kraken_simulator.faults import CHANGES, KINDS, Fault
from kraken_simulator.limits import ConnectionRateLimit
from kraken_simulator.parsing import parse_fault, parse_rate
from kraken_simulator.text import NANOS, rfc3339_shortest
from kraken_simulator.truth import TIMEFRAMES, true_candles, truth_json


class ControlServer:
    """Handlers of the control port."""

    def __init__(self, exchange: Exchange, attempt_limit: ConnectionRateLimit) -> None:
        self._exchange = exchange
        self._attempt_limit = attempt_limit
        self._started = exchange.clock()

    def application(self) -> web.Application:
        """Return the application of the port."""
        application = web.Application()
        application.router.add_get("/truth/{pair}", self._truth)
        application.router.add_get("/faults", self._list_faults)
        application.router.add_post("/faults", self._start_fault)
        application.router.add_delete("/faults", self._end_faults)
        application.router.add_get("/rate", self._show_rate)
        application.router.add_post("/rate", self._set_rate)
        application.router.add_delete("/rate", self._end_rate)
        application.router.add_get("/stats", self._stats)
        application.router.add_get("/health", self._health)
        return application

    async def _truth(self, request: web.Request) -> web.Response:
        exchange = self._exchange
        known = exchange.directory.truth_of(request.match_info["pair"].replace("-", "/"))
        if known is None:
            names = ", ".join(market.pair.path_name for market in exchange.markets.values())
            return _problem(404, f"pair: expected one of {names}, was {request.match_info['pair']!r}")
        market, until = known
        timeframe = request.query.get("timeframe", "1m")
        if timeframe not in TIMEFRAMES:
            return _problem(400, f"timeframe: expected one of {', '.join(TIMEFRAMES)}, was {timeframe!r}")
        try:
            first = _moment(request.query.get("from"), "from", 0)
            end = _moment(request.query.get("to"), "to", 2**33)
        except ValueError as error:
            return _problem(400, str(error))
        seconds = TIMEFRAMES[timeframe]
        market.advance(exchange.now())
        opens, ends = (-int(-moment // seconds) * seconds for moment in (first, end))
        trades = market.true_trades(opens * NANOS, min(ends * NANOS, until))
        scale = market.digits.scale
        text = await asyncio.to_thread(lambda: truth_json(true_candles(scale, trades, seconds)))
        return web.Response(text=text, content_type="application/json")

    async def _list_faults(self, _: web.Request) -> web.Response:
        active = [_described(fault) for fault in self._exchange.faults.running]
        return web.json_response({"kinds": {**KINDS, **CHANGES}, "active": active})

    async def _start_fault(self, request: web.Request) -> web.Response:
        try:
            fault_request = parse_fault(await request.json(), self._exchange.markets)
            fault = self._exchange.start_fault(fault_request)
        except json.JSONDecodeError:
            return _problem(400, 'expected a JSON object such as {"kind": "eof", "seconds": 5}')
        except FaultError as error:
            return _problem(400, str(error))
        return web.json_response(_described(fault), status=201)

    async def _end_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"ended": [_described(fault) for fault in self._exchange.end_faults()]})

    async def _show_rate(self, _: web.Request) -> web.Response:
        return web.json_response({"ticks": self._exchange.ticks})

    async def _set_rate(self, request: web.Request) -> web.Response:
        try:
            ticks, seconds = parse_rate(await request.json())
        except json.JSONDecodeError:
            return _problem(400, 'expected a JSON object such as {"ticks": 5000, "seconds": 60}')
        except FaultError as error:
            return _problem(400, str(error))
        self._exchange.set_rate(ticks, seconds)
        return web.json_response({"ticks": self._exchange.ticks}, status=201)

    async def _end_rate(self, _: web.Request) -> web.Response:
        self._exchange.end_rate()
        return web.json_response({"ticks": self._exchange.ticks})

    async def _stats(self, _: web.Request) -> web.Response:
        exchange = self._exchange
        now = exchange.clock()
        counters: dict[str, Any] = {
            **asdict(exchange.stats),
            "connection_attempts_in_window": self._attempt_limit.in_window(now),
            "connection_limit": exchange.config.connection_limit,
            "open_connections": len(exchange.listeners),
            "subscriptions": sum(len(listener.topics) for listener in exchange.listeners),
            "symbols": len(exchange.markets),
            "ticks": exchange.ticks,
            "trades": sum(market.trades for market in exchange.markets.values()),
            "uptime_seconds": round(now - self._started, 3),
        }
        return web.json_response(counters)

    async def _health(self, _: web.Request) -> web.Response:
        exchange = self._exchange
        return web.json_response({"status": "ok", "system": exchange.faults.system, "symbols": list(exchange.markets)})


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _moment(text: str | None, name: str, default: float) -> float:
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        message = f"{name}: expected RFC 3339 or unix seconds, was {text!r}"
        raise ValueError(message) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _described(fault: Fault) -> dict[str, object]:
    return {
        "id": fault.number,
        "kind": fault.kind,
        "symbol": fault.symbol,
        "started": rfc3339_shortest(round(fault.started * 1_000) * 1_000_000),
        "until": rfc3339_shortest(round(fault.until * 1_000) * 1_000_000) if isfinite(fault.until) else None,
        "new_connections": fault.new_connections,
        "description": {**KINDS, **CHANGES}[fault.kind],
    }
