"""A writer on the in-memory broker and a SQLite file."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from example import CANDLE
from influx_writer import Limits, Writer
from influx_writer.intake import PAYLOAD_LIMIT
from influx_writer.writer import SESSION_SECONDS, client_id, last_will, shared_filters
from ingress_common.bus import Message
from ingress_common.bus.memory import MemoryBroker, MemoryBus
from ingress_common.model import Candle
from ingress_common.payloads import decode_dead_letter, encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import SqliteStore
from waiting import until

NOW = 1_700_000_030.0
TOPICS = Topics("ingress")


@dataclass
class World:
    """The broker, the file, the clock, and a client that publishes and collects dead letters."""

    path: Path
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    topics: Topics = TOPICS
    now: float = NOW
    dead: list[Any] = field(default_factory=list)
    client: Any = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def store(self) -> SqliteStore:
        return SqliteStore(self.path, clock=lambda: self.now)

    def impatient_writer(self, limits: Limits | None = None) -> tuple[Writer, MemoryBus]:
        """One that soon gives up on a lock, for tests that hold it. All others wait, as in production: theirs is that
        of a neighbour who opens or writes, which takes a while on a busy disk.
        """
        return self.writer(limits=limits, store=SqliteStore(self.path, clock=lambda: self.now, busy_seconds=0.05))

    def writer(
        self, instance: str = "w1", limits: Limits | None = None, store: SqliteStore | None = None
    ) -> tuple[Writer, MemoryBus]:
        """A writer that is not running yet, and its bus."""
        limits = limits or Limits(seconds=0.05, adopt_seconds=0.2, silent_seconds=7)
        bus = MemoryBus(
            self.broker,
            client_id=client_id(instance),
            will=last_will(self.topics, instance, self.now),
            session_expiry=SESSION_SECONDS,
            inbound_limit=limits.rows,
            payload_limit=PAYLOAD_LIMIT,
        )
        self.registry = CollectorRegistry()
        writer = Writer(
            bus=bus,
            store=store or self.store(),
            topics=self.topics,
            filters=shared_filters(self.topics),
            instance=instance,
            registry=self.registry,
            started_at=self.now,
            open_session=self.open_session,
            clock=lambda: self.now,
            limits=limits,
            backoff=lambda attempt: 0.02,
        )
        return writer, bus

    def open_session(self, instance: str, expiry: int) -> MemoryBus:
        """What a writer makes to adopt the session of another one."""
        return MemoryBus(self.broker, client_id=client_id(instance), session_expiry=expiry)

    @asynccontextmanager
    async def running(self, writer: Writer) -> AsyncIterator[asyncio.Task[None]]:
        """Run `writer`, ready to take messages; stop it cleanly at the end."""
        task = asyncio.create_task(writer.run())
        try:
            await self.until(lambda: writer.health().ready or task.done())
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def send(self, *candles: Candle, topic: str | None = None) -> None:
        """Publish as the aggregator does, and return when the broker has it all."""
        handed = []
        for candle in candles:
            where = topic or self.topics.candles(candle.symbol, candle.timeframe)
            qos = 1 if candle.closed else 0
            handed.append(await self.client.publish(where, encode_candle(candle), qos=qos, retain=True))
        for delivery in handed:
            await delivery

    async def tick(self, *candles: Candle) -> None:
        for candle in candles:
            await (await self.client.publish(self.topics.raw(candle.symbol), encode_candle(candle), qos=1))

    async def until(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        """Wait for `condition`, which may be a coroutine function."""
        await until(condition, seconds, every=0.005)

    async def stored(self, timeframe: Timeframe = Timeframe.M1, symbol: str = "BTC/USD") -> list[Candle]:
        async with self.store() as store:
            return await store.candles(symbol, timeframe, limit=100_000)

    async def forming(self, timeframe: Timeframe = Timeframe.M1) -> Candle | None:
        async with self.store() as store:
            return await store.forming("BTC/USD", timeframe)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path / "candles.db")
    async with MemoryBus(world.broker, client_id="test", inbound_limit=10_000, outbound_limit=60_000) as client:
        world.client = client
        await client.subscribe(world.topics.dead_letter("+"))

        async def collect() -> None:
            async for event in client.events():
                if isinstance(event, Message):
                    world.dead.append(decode_dead_letter(event.payload))
                    event.ack()

        task = asyncio.create_task(collect())
        yield world
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def candle() -> Callable[..., Candle]:
    """Makes a closed 1m candle of BTC/USD of an earlier minute, with what is given changed."""
    plain = replace(CANDLE, at=NOW)
    receipts = itertools.count()

    def make(minute: int = -1, **changes: Any) -> Candle:
        timeframe = changes.get("timeframe", Timeframe.M1)
        open_time = timeframe.floor(NOW) + minute * timeframe.seconds
        return replace(plain, **{"open_time": open_time, "at": NOW + next(receipts) / 100, **changes})

    return make
