"""A client of the simulator's control port: markets, truth, faults."""

import asyncio
import json
import time
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx

from chaos.judge import SECONDS, TrueCandle, Truth
from kraken_simulator.profiles import default_profiles

_ALL_PROFILES = 368
_FULL_SET = 8
_AT_ONCE = 4
_BEFORE = 200


def markets(count: int) -> str:
    """The value of SIM_SYMBOLS for `count` markets: half of them the busiest, half the thinnest."""
    if count <= _FULL_SET:
        return str(count)
    names = [profile.pair.symbol for profile in default_profiles(_ALL_PROFILES)]
    return ",".join([*names[: (count + 1) // 2], *names[-(count // 2) :]])


class Kraken:
    """A running simulator by its control port."""

    def __init__(self, control_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=control_url, timeout=30)
        self._calls = asyncio.Semaphore(_AT_ONCE)

    async def close(self) -> None:
        """Close the connections to it."""
        await self._http.aclose()

    async def symbols(self) -> list[str]:
        """All its markets."""
        return (await self._get("/health"))["symbols"]

    async def truth(self, symbol: str, timeframe: str, first: int) -> Truth:
        """The true candles from `first` (unix seconds) on, and enough earlier ones for a price."""
        truth = await self._truth(symbol, timeframe, max(0, first - _BEFORE * SECONDS[timeframe]))
        return truth if truth.price_before(first) is not None else await self._truth(symbol, timeframe, 0)

    async def _truth(self, symbol: str, timeframe: str, begins: int) -> Truth:
        path = f"/truth/{symbol.replace('/', '-')}?timeframe={timeframe}&from={begins}"
        return Truth(tuple(_true_candle(candle) for candle in (await self._get(path))["candles"]), begins)

    async def start_fault(self, kind: str, seconds: float, symbol: str | None) -> float:
        """Start a fault; returns its duration in seconds."""
        body = {"kind": kind, "seconds": seconds, "symbol": symbol}
        answer = (await self._http.post("/faults", json=body)).raise_for_status().json()
        return max(0.0, datetime.fromisoformat(answer["until"]).timestamp() - time.time())

    async def set_rate(self, ticks: float, seconds: float) -> None:
        """Let all markets together trade `ticks` times a second for a while."""
        (await self._http.post("/rate", json={"ticks": ticks, "seconds": seconds})).raise_for_status()

    async def end_faults(self) -> None:
        """End all that still run."""
        (await self._http.delete("/faults")).raise_for_status()

    async def stats(self) -> dict[str, Any]:
        """Its counters."""
        return await self._get("/stats")

    async def _get(self, path: str) -> Any:
        async with self._calls:
            answer = await self._http.get(path)
        return json.loads(answer.raise_for_status().text, parse_float=Decimal)


def _true_candle(candle: dict[str, Any]) -> TrueCandle:
    prices = {name: Decimal(candle[name]) for name in ("open", "high", "low", "close", "volume")}
    open_time = int(datetime.fromisoformat(candle["open_time"]).timestamp())
    return TrueCandle(open_time=open_time, trades=candle["trades"], **prices)
