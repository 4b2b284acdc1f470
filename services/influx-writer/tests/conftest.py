"""A writer on the in-memory broker and a SQLite file."""

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from memory_broker import MemoryBroker, MemoryBus
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from example import CANDLE
from influx_writer import Limits, Writer
from influx_writer.intake import PAYLOAD_LIMIT
from influx_writer.writer import SESSION_SECONDS, client_id, control_client_id, last_will
from ingress_common.backoff import Backoff
from ingress_common.bus import Message
from ingress_common.minute_trades import trades_property
from ingress_common.model import Candle, FeedCondition, FeedState, MinuteTrades, RepublishRequest, Watermark
from ingress_common.payloads import (
    decode_dead_letter,
    decode_republish_request,
    decode_status,
    encode_candle,
    encode_feed_state,
    encode_watermark,
)
from ingress_common.sequence import REQUEST, Numbering, request_of
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import SqliteStore
from waiting import until

NOW = 1_700_000_030.0
TOPICS = Topics("ingress")


@dataclass
class World:
    """The broker, the file, the clock, and a client that publishes as an aggregator does and collects dead letters.

    `published`: the closed candles that it keeps; `responds`: whether it responds to requests for them; `drops`: how
    many of the next responses the broker drops.
    """

    path: Path
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    topics: Topics = TOPICS
    now: float = NOW
    dead: list[Any] = field(default_factory=list)
    published: dict[tuple[str, Timeframe, int], Candle] = field(default_factory=dict)
    requests: list[RepublishRequest] = field(default_factory=list)
    numbering: Numbering = field(default_factory=Numbering)
    responds: bool = True
    request_seconds: float = 60
    drops: int = 0
    last_request: tuple[RepublishRequest, str | None] | None = None
    controls: dict[MemoryBus, MemoryBus] = field(default_factory=dict)
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
        limits = limits or Limits(seconds=0.05)
        limits = dataclasses.replace(limits, reassign_seconds=0.05)
        bus = MemoryBus(
            self.broker,
            client_id=client_id(self.topics, instance),
            session_expiry=SESSION_SECONDS,
            inbound_limit=limits.inbound,
            payload_limit=PAYLOAD_LIMIT,
        )
        control = MemoryBus(
            self.broker,
            client_id=control_client_id(self.topics, instance),
            will=last_will(self.topics, instance, self.now),
        )
        self.controls[bus] = control
        self.registry = CollectorRegistry()
        writer = Writer(
            bus=bus,
            control=control,
            store=store or self.store(),
            topics=self.topics,
            instance=instance,
            registry=self.registry,
            started_at=self.now,
            clock=lambda: self.now,
            limits=limits,
            backoff=Backoff(0.02, 0.02),
            request_backoff=Backoff(self.request_seconds, self.request_seconds),
        )
        return writer, bus

    async def feed(self, *symbols: str) -> None:
        """A gateway's feed carries `symbols`."""
        state = FeedState("f", FeedCondition.LIVE, self.now, symbols)
        await (await self.client.publish(self.topics.feed("f"), encode_feed_state(state), retain=True))

    async def watermark(self, at: float, trades: MinuteTrades = MappingProxyType({})) -> None:
        """Its watermark, made at `at` (unix seconds). `trades`: those of the ticks that it has published."""
        mark = encode_watermark(Watermark("f", at - 1, at))
        stated = trades_property(trades)
        await (await self.client.publish(self.topics.watermark("f"), mark, properties=stated))

    def cut(self, bus: MemoryBus, *, reconnect: bool = True) -> None:
        """Both connections of a writer die without a goodbye."""
        for connection in (bus, self.controls[bus]):
            connection.drop(reconnect=reconnect)

    def mend(self, bus: MemoryBus) -> None:
        """What was cut may connect again."""
        for connection in (bus, self.controls[bus]):
            connection.resume()

    def listed(self, instance: str = "w1") -> set[str]:
        """The symbols that a writer lists."""
        return set(self.status(instance).get("symbols", ()))

    def status(self, instance: str = "w1") -> Mapping[str, Any]:
        """The fields of a writer's status; none without one."""
        payload = self.broker.retained.get(self.topics.status("influx-writer", instance))
        return decode_status(payload).details if payload else {}

    @asynccontextmanager
    async def running(
        self, writer: Writer, instance: str = "w1", begun: Callable[[], Any] | None = None
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run `writer`, once it has `begun`: it has its symbols and has requested what it may lack. Stop it cleanly."""
        before = len(self.requests)
        task = asyncio.create_task(writer.run())

        def has_begun() -> bool:
            requested = {symbol for request in self.requests[before:] for symbol in request.symbols}
            return writer.health().ready and bool(self.listed(instance)) and requested >= self.listed(instance)

        try:
            await self.until(lambda: (begun or has_begun)() or task.done())
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
            properties = self.numbering.next(candle.symbol) if candle.closed else None
            if candle.closed and topic is None:
                self.keep(candle)
            handed.append(
                await self.client.publish(where, encode_candle(candle), qos=qos, retain=True, properties=properties)
            )
        for delivery in handed:
            await delivery

    def keep(self, candle: Candle) -> None:
        """What an aggregator remembers."""
        self.published[candle.symbol, candle.timeframe, candle.open_time] = candle

    def lose(self, *candles: Candle) -> None:
        """The broker takes candles from the aggregator and drops them."""
        for candle in candles:
            self.keep(candle)
            self.numbering.next(candle.symbol)

    async def respond(self, request: RepublishRequest, name: str | None) -> None:
        """Publish again, as an aggregator does."""
        for symbol in request.symbols:
            kept = [c for c in self.published.values() if c.symbol == symbol and request.start <= c.at <= request.end]
            for position, candle in enumerate(kept, 1):
                last = {REQUEST: name} if name and position == len(kept) else {}
                if self.drops:
                    self.drops -= 1
                    self.numbering.next(symbol)
                    continue
                await self.client.publish(
                    self.topics.candles(symbol, candle.timeframe),
                    encode_candle(candle),
                    properties={**self.numbering.next(symbol), **last},
                )

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
        await client.subscribe(world.topics.dead_letter("+"), world.topics.republish_requests())
        await world.feed("BTC/USD", "ETH/USD")

        async def collect() -> None:
            async for event in client.events():
                if not isinstance(event, Message):
                    continue
                if event.topic == world.topics.republish_requests():
                    request = decode_republish_request(event.payload)
                    world.requests.append(request)
                    world.last_request = request, request_of(event.properties)
                    if world.responds:
                        await world.respond(*world.last_request)
                else:
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
