"""Two influx-writers as processes, on a real Mosquitto: killed, frozen, without a broker, with one name."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from command import Running
from example import CANDLE
from influx_writer.writer import client_id
from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import Candle, FeedCondition, FeedState, InstanceState
from ingress_common.payloads import (
    decode_republish_request,
    decode_status,
    encode_candle,
    encode_feed_state,
)
from ingress_common.sequence import REQUEST, Numbering, request_of
from ingress_common.service_names import WRITER
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.topics import Topics
from ingress_store import CandleStore, InfluxAccess, InfluxStore, Retention, SqliteStore
from waiting import until

TOPICS = Topics()
FOREVER = Retention(dict.fromkeys(TIMEFRAMES), ticks=None)
BROKER = "allow_anonymous true\nautosave_on_changes false\n"
SYMBOLS = tuple(f"S{n}/USD" for n in range(20))


@dataclass
class World:
    """The broker, a client that publishes as an aggregator does and knows who is online, and the truth.

    `online`: the symbols that each writer lists; `missing`: the candles that each says it misses.
    """

    folder: Path
    broker: Any
    bus: MqttBus
    settings: dict[str, str]
    online: dict[str, frozenset[str]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    numbering: Numbering = field(default_factory=Numbering)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    truth: dict[tuple[str, int], Candle] = field(default_factory=dict)
    minute: int = field(default_factory=lambda: int(time.time()) // 60 - 10_000)

    def writer(self, name: str, log: str | None = None) -> Running:
        return Running(
            log or name,
            "influx_writer",
            folder=self.folder,
            MQTT_URL=self.broker.url,
            INSTANCE_ID=name,
            HTTP_PORT="0",
            RETENTION=FOREVER.text,
            **self.settings,
        )

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[list[Running]]:
        writers = [self.writer(name) for name in names]
        async with AsyncExitStack() as stack:
            for writer in writers:
                await stack.enter_async_context(writer)
                stack.callback(writer.thaw)
            await until(lambda: self.shared_by(*names))
            yield writers

    def shared_by(self, *names: str) -> bool:
        """Whether these writers, and no others, have the symbols, one each."""
        listed = [symbol for symbols in self.online.values() for symbol in symbols]
        return set(self.online) == set(names) and sorted(listed) == sorted(SYMBOLS)

    def candles(self, minutes: int = 1) -> list[Candle]:
        """The next minutes of every symbol, as first closed."""
        made = []
        for _ in range(minutes):
            self.minute += 1
            open_time = 60 * self.minute
            made += [
                replace(CANDLE, symbol=symbol, open_time=open_time, revision=0, at=time.time()) for symbol in SYMBOLS
            ]
        return made

    async def send(self, candles: list[Candle]) -> None:
        """Publish, and return when the broker has it all."""
        handed = []
        for candle in candles:
            key = (candle.symbol, candle.open_time)
            known = self.truth.get(key)
            if known is None or (candle.at, candle.revision) >= (known.at, known.revision):
                self.truth[key] = candle
            handed.append(await self.publish(candle))
        for delivery in handed:
            await delivery

    async def publish(self, candle: Candle, **more: str) -> Any:
        topic = TOPICS.candles(candle.symbol, Timeframe.M1)
        # One after the other, as an aggregator does, so that the numbers are in order.
        async with self.turn:
            properties = {**self.numbering.next(candle.symbol), **more}
            return await self.bus.publish(topic, encode_candle(candle), qos=1, retain=True, properties=properties)

    async def answer(self, request: Message) -> None:
        """Publish again, in each case the newest version, as an aggregator does."""
        wanted, name = decode_republish_request(request.payload), request_of(request.properties)
        for symbol in wanted.symbols:
            kept = [c for c in self.truth.values() if c.symbol == symbol and wanted.start <= c.at <= wanted.end]
            for position, candle in enumerate(kept, 1):
                await self.publish(candle, **({REQUEST: name} if name and position == len(kept) else {}))

    async def all_there(self, store: CandleStore) -> bool:
        return not await self.wrong(store)

    async def wrong(self, store: CandleStore) -> list[str]:
        """What differs between the store and the truth."""
        found = {}
        for symbol in SYMBOLS:
            for candle in await store.candles(symbol, Timeframe.M1, limit=100_000):
                found[symbol, candle.open_time] = (candle.revision, candle.trades)
        expected = {key: (candle.revision, candle.trades) for key, candle in self.truth.items()}
        return [
            f"{key}: expected {expected.get(key)}, got {found.get(key)}"
            for key in sorted(expected.keys() | found.keys())
            if expected.get(key) != found.get(key)
        ]

    async def follow(self) -> None:
        state = FeedState("f", FeedCondition.LIVE, time.time(), SYMBOLS)
        await self.bus.publish(TOPICS.feed("f"), encode_feed_state(state), retain=True)
        await self.bus.subscribe(TOPICS.status(WRITER, "+"), TOPICS.republish_requests())
        async for event in self.bus.events():
            if not isinstance(event, Message):
                continue
            event.ack()
            if event.topic == TOPICS.republish_requests():
                await self.answer(event)
            elif not event.retain:
                # What is retained is old news: what counts is who speaks now.
                self.follow_status(event)

    def follow_status(self, message: Message) -> None:
        status = decode_status(message.payload)
        name, details = status.instance, status.details
        if status.state is InstanceState.ONLINE:
            self.online[name] = frozenset(details["symbols"])
            self.missing[name] = details["missing_candles"]
            self.written[name] = details["written"]
        else:
            self.online.pop(name, None)


@asynccontextmanager
async def world_on(broker: Any, folder: Path, **settings: str) -> AsyncIterator[World]:
    async with MqttBus(broker.url, client_id="aggregator", outbound_limit=5000) as bus:
        world = World(folder, broker, bus, settings)
        following = asyncio.create_task(world.follow())
        try:
            yield world
        finally:
            following.cancel()
            await asyncio.wait([following])


@pytest.fixture
async def world(mosquitto_of, tmp_path):
    async with world_on(mosquitto_of(BROKER), tmp_path, STORE_URL=f"sqlite:///{tmp_path / 'c.db'}") as world:
        yield world


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore(tmp_path / "c.db", busy_seconds=20) as store:
        yield store


async def test_frozen_writer_is_replaced_and_regains_its_share(world, store):
    async with world.running("w1", "w2") as (frozen, _):
        await world.send(world.candles(10))
        await until(lambda: world.all_there(store))
        frozen.freeze()
        await world.send(world.candles(50))
        # Nothing is stored of its share until the broker misses it and the other one takes its symbols over.
        await until(lambda: world.all_there(store), 60, lambda: str(world.online))
        await until(lambda: world.shared_by("w2"))
        await world.send(world.candles(50))
        frozen.thaw()
        await until(lambda: world.shared_by("w1", "w2"))
        before = world.written["w1"]
        await world.send(world.candles(50))
        await until(lambda: world.all_there(store))
        await until(lambda: world.written["w1"] > before)


async def test_a_short_freeze_in_the_middle_of_a_burst_loses_nothing(world, store):
    async with world.running("w1", "w2") as (one, other):
        for writer in (one, other, one):
            sending = asyncio.create_task(world.send(world.candles(100)))
            writer.freeze()
            await sending
            writer.thaw()
        await until(lambda: world.all_there(store))


async def test_batch_of_a_killed_writer_is_stored_by_another(world, store):
    async with world.running("w1", "w2") as (killed, _):
        sending = asyncio.create_task(world.send(world.candles(200)))
        await until(store.symbols)
        await killed.kill()
        await sending
        await world.send(world.candles(20))
        await until(lambda: world.all_there(store))
        await until(lambda: world.shared_by("w2"))


async def test_a_writer_that_is_stopped_hands_its_symbols_over(world, store):
    async with world.running("w1", "w2") as (stopped, _):
        sending = asyncio.create_task(world.send(world.candles(200)))
        await until(store.symbols)
        stopped.process.terminate()
        assert await stopped.ended(15) == 0
        await sending
        await world.send(world.candles(20))
        await until(lambda: world.all_there(store))


async def test_scaled_up_and_down_under_load_no_candle_is_lost(world, store):
    async with world.running("w1"):
        for _ in range(2):
            sending = asyncio.create_task(world.send(world.candles(60)))
            async with world.writer("w2") as second:
                await until(lambda: world.shared_by("w1", "w2"))
                await sending
                sending = asyncio.create_task(world.send(world.candles(60)))
                second.process.terminate()
                assert await second.ended(15) == 0
            await until(lambda: world.shared_by("w1"))
            await sending
        await until(lambda: world.all_there(store))


async def test_a_killed_broker_loses_nothing_that_the_aggregator_keeps(world, store):
    async with world.running("w1", "w2"):
        first = world.candles(50)
        await world.send(first)
        await until(lambda: world.all_there(store))
        during = world.candles(50)
        sending = asyncio.create_task(world.send(during))
        world.broker.kill()
        world.online.clear()
        world.broker.start()
        await sending
        await until(lambda: world.shared_by("w1", "w2"))
        await world.send(world.candles(5))
        await until(lambda: world.all_there(store))


async def test_writer_that_died_with_the_broker_expires_and_its_share_is_stored(world, store):
    async with world.running("w1", "w2") as (dead, _):
        await world.send(world.candles(10))
        await until(lambda: world.all_there(store))
        # It comes back with what it had on the disk, a status that says online among it.
        world.broker.stop()
        await dead.kill()
        world.online.clear()
        world.broker.start()
        await until(lambda: world.online.get("w2"))
        await world.send(world.candles(50))
        await until(lambda: world.shared_by("w2"), 60, lambda: str(world.online))
        await until(lambda: world.all_there(store), 60)


async def test_messages_dropped_from_a_full_queue_are_noticed_and_requested(mosquitto_of, tmp_path):
    broker = mosquitto_of(BROKER + "max_queued_messages 100\nmax_inflight_messages 20\n")
    url = f"sqlite:///{tmp_path / 'c.db'}"
    async with world_on(broker, tmp_path, STORE_URL=url) as world, SqliteStore(tmp_path / "c.db") as store:
        async with world.running("w1"):
            await world.send(world.candles(5))
            await until(lambda: world.all_there(store))
        # The broker confirms all of 1,000, and keeps 100.
        await world.send(world.candles(50))
        async with world.running("w1"):
            await world.send(world.candles(1))
            await until(lambda: world.all_there(store), 60, lambda: world.wrong(store))
            await until(lambda: world.missing["w1"] == 0)


async def test_second_writer_with_a_name_in_use_exits_with_one_line(world, store):
    async with world.running("w1"):
        async with world.writer("w1", log="second") as second:
            await world.send(world.candles(20))
            assert await second.ended(60) in (1, 2)
            assert "INSTANCE_ID" in second.output()
            assert client_id(Topics(), "w1") not in second.output()
        await world.send(world.candles(20))
        await until(lambda: world.all_there(store))


async def test_of_two_writers_that_start_together_with_one_name_one_ends_and_the_other_works(world, store):
    async with world.writer("w1", log="one") as one, world.writer("w1", log="two") as two:
        ends = {asyncio.create_task(writer.ended(90)): writer for writer in (one, two)}
        (ended,), (other,) = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert ended.result() in (1, 2)
        assert "INSTANCE_ID" in ends[ended].output()
        await world.send(world.candles(20))
        await until(lambda: world.all_there(store))
        assert not other.done()
        other.cancel()


async def test_corrections_of_two_writers_on_influxdb_end_as_published_whoever_was_frozen(
    mosquitto_of, influx_place, tmp_path
):
    broker = mosquitto_of(BROKER)
    access = InfluxAccess(f"order-{random.getrandbits(40):x}", influx_place.token)
    settings = {"STORE_URL": influx_place.url, "INFLUX_ORG": access.org, "INFLUX_TOKEN": access.token}
    async with (
        InfluxStore(influx_place.store_url, access, retention=FOREVER) as store,
        world_on(broker, tmp_path, **settings) as world,
    ):
        await store.bootstrap()
        async with world.running("w1", "w2") as writers:
            chance = random.Random(7)
            for turn in range(6):
                batch = []
                for candle in world.candles(10):
                    batch.append(candle)
                    for revision in range(1, chance.randrange(4)):
                        at = candle.at + revision / 1000
                        batch.append(replace(candle, revision=revision, trades=100 + revision, at=at))
                sending = asyncio.create_task(world.send(batch))
                frozen = writers[turn % 2]
                frozen.freeze()
                # Half of it goes to the other one and is written; then the frozen one goes on with what it had read.
                await sending
                frozen.thaw()
            await until(lambda: world.all_there(store), 120, lambda: world.wrong(store))
        assert not await world.wrong(store)
