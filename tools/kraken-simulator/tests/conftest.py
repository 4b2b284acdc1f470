import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kraken_simulator import Simulator, SimulatorConfig

DEADLINE = 5.0
MINUTE_START = 1_700_000_040.0


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = MINUTE_START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """A client of one simulator."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession, clock: ManualClock) -> None:
        self.simulator = simulator
        self.http = http
        self.clock = clock

    async def rest(self, method: str, **query: Any) -> dict[str, Any]:
        async with self.http.get(f"{self.simulator.rest_url}/0/public/{method}", params=query) as response:
            assert response.status == 200
            return json.loads(await response.text(), parse_float=Decimal)

    async def truth(self, symbol: str, timeframe: str = "1m", **query: Any) -> list[dict[str, Any]]:
        url = f"{self.simulator.control_url}/truth/{symbol.replace('/', '-')}"
        async with self.http.get(url, params={"timeframe": timeframe, **query}) as response:
            assert response.status == 200
            return json.loads(await response.text(), parse_float=Decimal)["candles"]

    async def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.http.request(method, self.simulator.control_url + path, json=body) as response:
            return response.status, await response.json()

    async def fault(self, kind: str, seconds: float = 30.0, **more: Any) -> Any:
        status, body = await self.control("POST", "/faults", {"kind": kind, "seconds": seconds, **more})
        assert status == 201, body
        return body

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["Socket"]:
        async with self.http.ws_connect(self.simulator.ws_url, autoping=False) as websocket:
            yield Socket(websocket)


class Socket:
    """A WebSocket connection that reads frames until one fits."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket
        self.seen: list[str] = []

    async def request(self, method: str, **params: Any) -> None:
        req_id = params.pop("req_id", None)
        message = {"method": method, "params": params} if params else {"method": method}
        await self.websocket.send_json(message | ({} if req_id is None else {"req_id": req_id}))

    async def subscribe(self, *symbols: str, interval: Any = 1, **more: Any) -> None:
        await self.request("subscribe", channel="ohlc", symbol=list(symbols), interval=interval, **more)

    async def text(self, fits: Callable[[str], bool] = lambda _: True) -> str:
        async with asyncio.timeout(DEADLINE):
            while True:
                text = await self.websocket.receive_str()
                self.seen.append(text)
                if fits(text):
                    return text

    async def frame(self, **fields: Any) -> dict[str, Any]:
        def fits(text: str) -> bool:
            if not text.startswith("{"):
                return False
            frame = json.loads(text)
            return all(frame.get(name) == value for name, value in fields.items())

        return json.loads(await self.text(fits), parse_float=Decimal)

    async def close_message(self) -> aiohttp.WSMessage:
        async with asyncio.timeout(DEADLINE):
            while True:
                message = await self.websocket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return message


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(clock: ManualClock | None = None, **settings: Any) -> AsyncIterator[Client]:
    clock = clock or ManualClock()
    defaults: dict[str, Any] = {
        "port": 0,
        "control_port": 0,
        "symbols": ("BTC/USD", "ADA/EUR"),
        "history_weeks": 12,
        "poll_seconds": 0.01,
        "rest_burst": 1_000,
    }
    async with (
        Simulator(SimulatorConfig(**(defaults | settings)), clock=clock) as simulator,
        aiohttp.ClientSession() as http,
    ):
        yield Client(simulator, http, clock)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as it:
        yield it


def shared_data(name: str) -> Path:
    path = Path(__file__).resolve().parents[4] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"needs the recorded data ../shared/data/{name}, which is not here")
    return path
