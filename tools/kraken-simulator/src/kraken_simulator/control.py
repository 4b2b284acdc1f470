"""The control port: the truth, faults on demand, counters."""

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from kraken_simulator.errors import FaultError
from kraken_simulator.exchange import Exchange
from kraken_simulator.faults import KINDS, Fault, parse_fault
from kraken_simulator.limits import ConnectionBudget
from kraken_simulator.text import NANOS, rfc3339_shortest
from kraken_simulator.truth import TIMEFRAMES, true_candles, truth_json


class ControlServer:
    """Handlers of the control port."""

    def __init__(self, exchange: Exchange, budget: ConnectionBudget) -> None:
        self._exchange = exchange
        self._budget = budget
        self._started = exchange.clock()

    def application(self) -> web.Application:
        """Return the application of the port."""
        application = web.Application()
        application.router.add_get("/truth/{pair}", self._truth)
        application.router.add_get("/faults", self._list_faults)
        application.router.add_post("/faults", self._start_fault)
        application.router.add_delete("/faults", self._end_faults)
        application.router.add_get("/stats", self._stats)
        application.router.add_get("/health", self._health)
        return application

    async def _truth(self, request: web.Request) -> web.Response:
        exchange = self._exchange
        market = exchange.markets.get(request.match_info["pair"].replace("-", "/"))
        if market is None:
            names = ", ".join(market.pair.path_name for market in exchange.markets.values())
            return _problem(404, f"pair: expected one of {names}, was {request.match_info['pair']!r}")
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
        trades = market.true_trades(opens * NANOS, ends * NANOS)
        text = await asyncio.to_thread(lambda: truth_json(true_candles(market.pair, trades, seconds)))
        return web.Response(text=text, content_type="application/json")

    async def _list_faults(self, _: web.Request) -> web.Response:
        active = [_described(fault) for fault in self._exchange.faults.running]
        return web.json_response({"kinds": dict(KINDS), "active": active})

    async def _start_fault(self, request: web.Request) -> web.Response:
        try:
            asked = parse_fault(await request.json(), self._exchange.markets)
        except json.JSONDecodeError:
            return _problem(400, 'expected a JSON object such as {"kind": "eof", "seconds": 5}')
        except FaultError as error:
            return _problem(400, str(error))
        return web.json_response(_described(self._exchange.start_fault(asked)), status=201)

    async def _end_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"ended": [_described(fault) for fault in self._exchange.end_faults()]})

    async def _stats(self, _: web.Request) -> web.Response:
        exchange = self._exchange
        now = exchange.clock()
        counters: dict[str, Any] = {
            **asdict(exchange.stats),
            "connection_attempts_in_window": self._budget.in_window(now),
            "connection_budget": exchange.config.connection_budget,
            "open_connections": len(exchange.listeners),
            "subscriptions": sum(len(listener.subscriptions) for listener in exchange.listeners),
            "symbols": len(exchange.markets),
            "trades": sum(len(market.tape) for market in exchange.markets.values()),
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
        "until": rfc3339_shortest(round(fault.until * 1_000) * 1_000_000),
        "new_connections": fault.new_connections,
        "description": KINDS[fault.kind],
    }
