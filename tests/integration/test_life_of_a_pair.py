"""A pair is listed, delisted, renamed and taken out of SYMBOLS while the pipeline runs, in the last minute of a week:
every candle equals the truth, on the bus and in the store, nothing forming is left behind, and health is green.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from admin_api.app import AdminApi
from admin_api.settings import AdminSettings
from influx_writer.writer import SESSION_SECONDS
from ingress_common.bus import Bus, LastWill, Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.bus.url import MqttUrl
from ingress_common.model import Candle
from ingress_common.payloads import decode_candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339
from ingress_store import CandleStore, open_store
from kraken_simulator import Simulator, SimulatorConfig
from pipeline import TOPICS, aggregator_on, gateway_of, writer_on
from stack_users import stack_mosquitto
from waiting import until

WEEK = Timeframe.W1.seconds
SYMBOLS = ("BTC/USD", "ETH/USD", "ADA/USD", "SOL/EUR")

pytestmark = pytest.mark.timeout(400)


class World:
    """Kraken and all services on one broker, by one clock, and who listens. `connect` makes a bus of a client id."""

    def __init__(self, connect: Callable[..., Bus], seconds: float, folder: Path) -> None:
        shift = WEEK - (time.time() + seconds) % WEEK
        self.clock = lambda: time.time() + shift
        self.end = int(Timeframe.W1.ceil(self.clock()))
        self.kraken = Simulator(
            SimulatorConfig(port=0, control_port=0, symbols=SYMBOLS, history_weeks=12), clock=self.clock
        )
        self.connect = connect
        self.closed: dict[tuple[str, Timeframe, int], Candle] = {}
        self.letters: list[bytes] = []
        self.retained: dict[str, bytes] = {}
        self.admin: AdminApi | None = None
        self._store_url = f"sqlite:///{folder / 'candles.db'}"
        self._running: dict[str, asyncio.Task[None]] = {}

    def store(self) -> CandleStore:
        return open_store(self._store_url, clock=self.clock)

    # --- services ---

    async def follow(self, *patterns: str) -> None:
        """(Re)start the gateway with these SYMBOLS."""

        def connect(name: str, will: LastWill | None) -> Bus:
            return self.connect(name, will=will)

        await self._replace("gateway", gateway_of(self.kraken, patterns, CollectorRegistry(), connect, self.clock))

    async def restart_aggregator(self) -> None:
        # Every run has a session of its own.
        bus = self.connect(f"aggregator-{uuid4().hex[:8]}", session_expiry=60, inbound_limit=1000)
        await self._replace("aggregator", aggregator_on(bus, CollectorRegistry(), self.clock))

    async def start(self) -> None:
        """Start the listener, the writer and admin-api."""
        bus = self.connect("writer", session_expiry=SESSION_SECONDS, inbound_limit=8_000)
        writer = writer_on(bus, self.connect("writer-control"), self.store(), CollectorRegistry(), self.clock)
        self.admin = AdminApi(
            AdminSettings(_env_file=None, store_url=self._store_url, instance_id="a1", http_port=0),
            bus=self.connect("admin", inbound_limit=5000),
            letters_bus=self.connect("admin-letters", session_expiry=SESSION_SECONDS),
            store=self.store(),
            registry=CollectorRegistry(),
            started_at=self.clock(),
            clock=self.clock,
        )
        self._running["listener"] = asyncio.create_task(self._listen())
        await self._replace("writer", writer)
        await self._replace("admin", self.admin)

    async def stop(self) -> None:
        for name in tuple(self._running):
            await self._end(name)

    async def _replace(self, name: str, service: Any) -> None:
        await self._end(name)
        self._running[name] = asyncio.create_task(service.run(), name=name)

    async def _end(self, name: str) -> None:
        if task := self._running.pop(name, None):
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        async with self.connect("listener", inbound_limit=60_000) as bus:
            await bus.subscribe(TOPICS.candles("+", "+"), TOPICS.ending("+", "+"), TOPICS.dead_letter("+"))
            async for event in bus.events():
                if isinstance(event, Message):
                    self._take(event)
                    event.ack()

    def _take(self, message: Message) -> None:
        if "/dead-letter/" in message.topic:
            self.letters.append(message.payload)
            return
        if not message.payload:
            self.retained.pop(message.topic, None)
            return
        candle, known = decode_candle(message.payload), self.retained.get(message.topic)
        if known is None or decode_candle(known).open_time <= candle.open_time:
            # What is retained is the newest.
            self.retained[message.topic] = message.payload
        if candle.closed:
            self.closed[candle.symbol, candle.timeframe, candle.open_time] = candle

    # --- what is known of it ---

    async def change(self, kind: str, symbol: str, **fields: object) -> None:
        """Change a pair at Kraken."""
        async with httpx.AsyncClient(timeout=30.0) as client:
            body = {"kind": kind, "symbol": symbol, **fields}
            (await client.post(f"{self.kraken.control_url}/faults", json=body)).raise_for_status()

    def on_the_bus(self, symbol: str) -> dict[Timeframe, Candle]:
        """The retained candles of `symbol`."""
        found = {timeframe: self.retained.get(TOPICS.candles(symbol, timeframe)) for timeframe in TIMEFRAMES}
        return {timeframe: decode_candle(payload) for timeframe, payload in found.items() if payload}

    def has_closed_whole(self, symbol: str, minute: int) -> bool:
        """Whether the minute has closed and no timeframe lacks anything."""
        candles = self.on_the_bus(symbol)
        return (
            (symbol, Timeframe.M1, minute) in self.closed
            and len(candles) == len(TIMEFRAMES)
            and all(candle.complete for candle in candles.values())
        )

    def endings(self) -> list[str]:
        """The last windows that are open."""
        return [topic for topic in self.retained if "/ending/" in topic]

    async def truth(self, symbol: str, timeframe: Timeframe, window: int) -> tuple | None:
        """The numbers of a window, if it traded."""
        url = f"{self.kraken.control_url}/truth/{symbol.replace('/', '-')}"
        query = {"timeframe": timeframe.value, "from": str(window), "to": str(window + timeframe.seconds)}
        async with httpx.AsyncClient(timeout=30.0) as client:
            rows = (await client.get(url, params=query)).raise_for_status().json()["candles"]
        for row in rows:
            if parse_rfc3339(row["open_time"]) == window:
                prices = (Decimal(str(row[name])) for name in ("open", "high", "low", "close", "volume"))
                return (*prices, row["trades"])
        return None

    async def health(self) -> dict[str, str]:
        """What is red, with its detail; empty if `/health` is 200."""
        assert self.admin is not None
        async with httpx.AsyncClient(timeout=30.0) as client:
            answer = await client.get(f"http://127.0.0.1:{self.admin.port}/health")
        failing = {check["name"]: check["detail"] for check in answer.json()["checks"] if not check["ok"]}
        assert (answer.status_code == 200) is not bool(failing)
        return failing


USERS = {
    "gateway": "kraken-gateway",
    "aggregator": "aggregator",
    "writer": "influx-writer",
    "admin": "admin-api",
    "listener": "viewer",
}
"""The users of the clients, by the first part of their names."""


@pytest.fixture(params=["memory", "mosquitto"])
async def world(request, tmp_path) -> AsyncIterator[World]:
    if request.param == "memory":
        connect = on_memory()
    else:
        # With the stack's rights, so that all of them are there that this life takes.
        connect = on_mosquitto(stack_mosquitto(request.getfixturevalue("mosquitto_of"), tmp_path))
    world = World(connect, 130.0, tmp_path)
    async with world.kraken:
        await world.start()
        yield world
        await world.stop()


def on_memory() -> Callable[..., Bus]:
    broker = MemoryBroker()
    return lambda name, **options: MemoryBus(broker, client_id=name, **options)


def on_mosquitto(url_of: Callable[[str], MqttUrl]) -> Callable[..., Bus]:
    return lambda name, **options: MqttBus(url_of(USERS[name.partition("-")[0]]), client_id=name, **options)


def numbers(candle: Candle) -> tuple:
    return (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades)


async def expect_truth(world: World, store: CandleStore, symbol: str, timeframe: Timeframe, window: int) -> None:
    """That the window is closed as it was, on the bus and in the store."""
    published = world.closed[symbol, timeframe, window]
    assert published.complete, (symbol, timeframe, window)
    assert (numbers(published) if published.trades else None) == await world.truth(symbol, timeframe, window)
    (stored,) = await store.candles(symbol, timeframe, start=window, end=window + 1, limit=1)
    assert stored.closed
    assert numbers(stored) == pytest.approx(numbers(published))


async def until_none(condition: Callable[[], Awaitable[Mapping[str, str]]], seconds: float) -> None:
    async def none() -> bool:
        return not await condition()

    await until(none, seconds, what=condition, every=0.5)


async def test_pairs_that_come_and_go_in_the_last_minute_of_a_week(world):
    await world.follow("*/USD", "SOL/EUR")
    await world.restart_aggregator()
    # What is missing of the minute of the start is filled when that minute is over.
    minute = world.end - 2 * Timeframe.M1.seconds
    await until(lambda: all(world.has_closed_whole(symbol, minute) for symbol in SYMBOLS), 120.0)
    changed_at = world.clock()
    assert changed_at < world.end - 15.0, "the start took too long"
    await world.change("list", "NEW/USD", trades_per_minute=90, status="limit_only")
    await world.change("delist", "ADA/USD")
    await world.change("rename", "ETH/USD", to="ETX/USD")
    # A minute may be over already, and closed.
    await until(lambda: len(world.endings()) >= 12, 20.0)
    await until(lambda: all(c.closed for s in ("ADA/USD", "ETH/USD") for c in world.on_the_bus(s).values()), 10.0)
    await world.restart_aggregator()
    # Taken out of SYMBOLS.
    await world.follow("*/USD")
    await until(lambda: not world.on_the_bus("SOL/EUR"), 60.0)
    await until(lambda: len(world.on_the_bus("NEW/USD")) == 7 == len(world.on_the_bus("ETX/USD")), 60.0)
    await until(lambda: world.clock() > world.end + 3, 90.0, every=0.5)
    await until(lambda: not world.endings(), 20.0, what=world.endings)
    for symbol in ("ADA/USD", "ETH/USD"):
        assert {t: c.closed for t, c in world.on_the_bus(symbol).items()} == dict.fromkeys(TIMEFRAMES, True)
    async with world.store() as store:
        for symbol in ("BTC/USD", "ADA/USD", "ETH/USD", "ETX/USD", "NEW/USD"):
            for timeframe in TIMEFRAMES:
                window = timeframe.floor(changed_at)
                await until(lambda key=(symbol, timeframe, window): key in world.closed, 30.0)
                await expect_truth(world, store, symbol, timeframe, window)
    assert not [key for key in world.closed if key[0] == "SOL/EUR" and key[2] + key[1].seconds >= world.end]
    assert world.letters == []
    await until_none(world.health, 60.0)
