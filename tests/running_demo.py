"""A running `crypto-ingress demo`, requests to it, and comparison of its candles with the truth."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx

from command import Running
from ingress_common.timeframes import Timeframe
from ingress_common.times import parse_rfc3339
from servers import free_port

_NUMBERS = ("open", "high", "low", "close", "volume")


class Demo:
    """A running demo and requests to it."""

    def __init__(self, running: Running, port: int, control: int, http: httpx.AsyncClient) -> None:
        self.running = running
        self.url = f"http://127.0.0.1:{port}"
        self._control = f"http://127.0.0.1:{control}"
        self.http = http

    async def health(self) -> int | None:
        """The status code of /health; None before it listens."""
        try:
            return (await self.http.get(f"{self.url}/health")).status_code
        except httpx.TransportError:
            return None

    def problem(self) -> str | None:
        """What it printed, if it has ended; None while it runs."""
        return None if self.running.process.returncode is None else self.running.output()

    async def symbols(self) -> list[str]:
        answer = await self.http.get(f"{self.url}/symbols")
        return [entry["symbol"] for entry in answer.raise_for_status().json()["symbols"]]

    async def candles(self, symbol: str, timeframe: Timeframe) -> list[dict]:
        """The served candles, oldest first; empty if there are none. Numbers keep their text."""
        path = f"{self.url}/candles/{symbol.replace('/', '-')}?timeframe={timeframe.value}&limit=5000"
        try:
            answer = await self.http.get(path)
        except httpx.TransportError:
            return []
        return json.loads(answer.text, parse_float=Decimal)["candles"] if answer.status_code == 200 else []

    async def truth(self, symbol: str, timeframe: Timeframe, start: str) -> dict[str, dict]:
        """The candles with trades from `start` on, by open time."""
        parameters = {"timeframe": timeframe.value, "from": start}
        answer = await self.http.get(f"{self._control}/truth/{symbol.replace('/', '-')}", params=parameters)
        candles = json.loads(answer.raise_for_status().text, parse_float=Decimal)["candles"]
        return {candle["open_time"]: candle for candle in candles}

    async def fault(self, kind: str, seconds: int) -> None:
        answer = await self.http.post(f"{self._control}/faults", json={"kind": kind, "seconds": seconds})
        assert answer.status_code == 201, answer.text

    async def until(self, condition: Callable[[], Awaitable[str | None]], seconds: float) -> None:
        """Wait until `condition` returns no complaint."""
        deadline = time.monotonic() + seconds
        while (complaint := await condition()) is not None:
            assert self.running.process.returncode is None, self.running.output()
            assert time.monotonic() < deadline, f"{complaint}; it printed: {self.running.output()}"
            await asyncio.sleep(0.2)

    async def until_health(self, status: int, seconds: float) -> None:
        async def complaint() -> str | None:
            found = await self.health()
            return None if found == status else f"expected /health {status}, got {found}"

        await self.until(complaint, seconds)


@asynccontextmanager
async def running_demo(folder: Path, **settings: str) -> AsyncIterator[Demo]:
    """Run a demo in `folder`, on its own ports."""
    port, control = free_port(), free_port()
    own = {"HTTP_PORT": str(port), "SIM_PORT": "0", "SIM_CONTROL_PORT": str(control), **settings}
    async with (
        Running("demo", "crypto_ingress", "demo", folder=folder, **own) as running,
        httpx.AsyncClient(timeout=10) as http,
    ):
        yield Demo(running, port, control, http)


async def disagreement(demo: Demo, symbol: str, timeframe: Timeframe) -> str | None:
    """The first difference of the served closed candles from the simulator's trades; None if there is none."""
    served = [candle for candle in await demo.candles(symbol, timeframe) if candle["closed"]]
    if not served:
        return None
    truth = await demo.truth(symbol, timeframe, served[0]["open_time"])
    close = None
    for i, candle in enumerate(served):
        what = f"{symbol} {timeframe.value} {candle['open_time']}"
        expected_time = parse_rfc3339(served[0]["open_time"]) + i * timeframe.seconds
        if parse_rfc3339(candle["open_time"]) != expected_time:
            return f"{what}: expected the candle of {expected_time}, there is a gap"
        true = truth.get(candle["open_time"])
        if not candle["complete"]:
            return f"{what} is not complete"
        if true is None:
            flat = {candle["open"], candle["high"], candle["low"], candle["close"]}
            if not candle["infilled"] or candle["trades"] or (close is not None and flat != {close}):
                return f"{what}: expected a flat candle at {close}, got {candle}"
        elif candle["infilled"] or any(candle[name] != true[name] for name in (*_NUMBERS, "trades")):
            return f"{what}: expected {true}, got {candle}"
        close = candle["close"]
    return None
