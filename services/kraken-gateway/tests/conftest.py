"""A Kraken that follows a script, and a listener on the bus."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from gateway_world import HEARTBEAT, frame_of
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ingress_common.bus import LastWill, Message
from ingress_common.minute_trades import trades_of
from ingress_common.payloads import (
    decode_candle,
    decode_dead_letter,
    decode_feed_state,
    decode_history,
    decode_watermark,
)
from ingress_common.times import rfc3339
from ingress_common.topics import Topics
from kraken_gateway.metrics import GatewayMetrics

DATA = Path(__file__).parents[4] / "shared" / "data"
Script = Callable[["Client"], Awaitable[None]]


@pytest.fixture
def recorded() -> Callable[[str], str]:
    def read(name: str) -> str:
        path = DATA / "kraken" / name
        if not path.exists():
            pytest.skip(f"real data is absent: {path.name} under ../shared/data/kraken")
        return path.read_text()

    return read


def status_frame(system: str) -> str:
    return json.dumps(
        {
            "channel": "status",
            "type": "update",
            "data": [{"system": system, "api_version": "v2", "connection_id": 16174536464690282295}],
        }
    )


class Client:
    """The server's side of one connection: what the gateway requested, and ways to respond."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.requests: list[dict] = []
        self.responding = {"pong": True, "ack": True, "snapshot": True, "heartbeat": True}
        self.refusals: dict[str, str] = {}
        self.snapshot_sent = asyncio.Event()
        self.snapshot_rows: Callable[[str], list[dict]] = lambda symbol: [
            {"symbol": symbol, "begin": time.time() // 60 * 60 - 60 * n} for n in range(10, -1, -1)
        ]

    async def send(self, text: str | bytes) -> None:
        await self.socket.send(text)

    async def serve(self) -> None:
        """Respond like Kraken until the connection ends."""
        await self.send(status_frame("online"))
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(self._beat())
            with contextlib.suppress(ConnectionClosed):
                async for text in self.socket:
                    await self.respond(json.loads(text))
            beat.cancel()

    async def _beat(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(0.2)
                if self.responding["heartbeat"] and self.subscribed():
                    await self.send(HEARTBEAT)

    def subscribed(self) -> list[str]:
        return [s for r in self.requests if r["method"] == "subscribe" for s in r["params"].get("symbol", [])]

    async def respond(self, request: dict) -> None:
        self.requests.append(request)
        now = rfc3339(time.time())
        if request["method"] == "ping":
            if self.responding["pong"]:
                pong = {"method": "pong", "req_id": request["req_id"], "time_in": now, "time_out": now}
                await self.send(json.dumps(pong))
            return
        for symbol in request["params"]["symbol"]:
            await self._respond_about(request, symbol, now)

    async def _respond_about(self, request: dict, symbol: str, now: str) -> None:
        common = {"method": request["method"], "req_id": request["req_id"], "time_in": now, "time_out": now}
        if symbol in self.refusals:
            await self.send(json.dumps({**common, "success": False, "symbol": symbol, "error": self.refusals[symbol]}))
            return
        result = {"channel": "ohlc", "interval": request["params"]["interval"], "symbol": symbol}
        if self.responding["ack"]:
            await self.send(json.dumps({**common, "success": True, "result": result}))
        if request["method"] == "subscribe" and self.responding["snapshot"]:
            rows = self.snapshot_rows(symbol)
            if rows:
                await self.send(frame_of("snapshot", rows))
                self.snapshot_sent.set()


class FakeKraken:
    """Plays one script per connection, the last one again for further ones."""

    def __init__(self) -> None:
        self.scripts: list[Script] = [Client.serve]
        self.clients: list[Client] = []
        self.attempts = 0
        self.refuse_with: list[int] = []
        self.url = ""

    async def handle(self, socket: ServerConnection) -> None:
        client = Client(socket)
        self.clients.append(client)
        script = self.scripts[min(len(self.clients), len(self.scripts)) - 1]
        with contextlib.suppress(ConnectionClosed):
            await script(client)

    def upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        self.attempts += 1
        return socket.respond(self.refuse_with.pop(0), "no\n") if self.refuse_with else None


@pytest.fixture
async def fake_kraken() -> AsyncIterator[FakeKraken]:
    fake = FakeKraken()
    async with serve(
        fake.handle, "127.0.0.1", 0, process_request=fake.upgrade, ping_interval=None, close_timeout=0.1
    ) as server:
        fake.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
        yield fake


class Listener:
    """Everything that was published, in order, decoded."""

    def __init__(self) -> None:
        self.received: list[tuple[str, object]] = []
        self.stated: dict[int, dict[str, int]] = {}
        """The trades that watermarks state of their minutes."""
        self.changed = asyncio.Event()
        self.topics = Topics()

    def take(self, message: Message) -> None:
        levels = self.topics.split(message.topic)
        match levels:
            case ("raw", *_):
                item = decode_candle(message.payload)
            case ("history", *_):
                item = decode_history(message.payload)
            case ("feed", _, _, "watermark"):
                item = decode_watermark(message.payload)
                self.stated |= trades_of(message.properties)
            case ("feed", *_):
                item = decode_feed_state(message.payload)
            case ("dead-letter", *_):
                item = decode_dead_letter(message.payload)
            case _:
                item = message.payload
        message.ack()
        self.received.append((levels[-1] if levels[-1] in ("watermark", "attempts") else levels[0], item))
        self.changed.set()

    def of(self, kind: str) -> list:
        return [item for its_kind, item in self.received if its_kind == kind]

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until `condition` holds for what was received."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await self.changed.wait()


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def open_bus(
    broker: MemoryBroker, made: dict[str, MemoryBus], outbound_limit: int
) -> Callable[[str, LastWill | None], MemoryBus]:
    def make(suffix: str, will: LastWill | None) -> MemoryBus:
        made[suffix] = MemoryBus(broker, client_id=f"gateway-{suffix}", will=will, outbound_limit=outbound_limit)
        return made[suffix]

    return make


@pytest.fixture
def outbound_limit() -> int:
    return 1000


@pytest.fixture
def made() -> dict[str, MemoryBus]:
    """The bus connections that were made, by the suffix of their names."""
    return {}


@pytest.fixture
async def listener(broker: MemoryBroker) -> AsyncIterator[Listener]:
    listener = Listener()
    async with MemoryBus(broker, client_id="listener", inbound_limit=60_000) as bus:
        await bus.subscribe("ingress/#")

        async def listen() -> None:
            async for event in bus.events():
                if isinstance(event, Message):
                    listener.take(event)

        task = asyncio.create_task(listen())
        yield listener
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics(CollectorRegistry())


@pytest.fixture
def frame() -> Callable[..., str]:
    return frame_of


@pytest.fixture
def system_status() -> Callable[[str], str]:
    return status_frame
