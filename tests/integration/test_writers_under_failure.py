"""Two influx-writers as processes, on a real Mosquitto: killed, frozen, without a broker, with one name."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from command import Running
from example import CANDLE
from influx_writer.writer import NAME, client_id
from ingress_common.bus import Message
from ingress_common.bus.mqtt import MqttBus
from ingress_common.model import Candle, Presence
from ingress_common.payloads import PayloadError, decode_status, encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import CandleStore, InfluxAccess, InfluxStore, Retention, SqliteStore
from waiting import until

TOPICS = Topics()
FOREVER = Retention.parse("1m=forever,5m=forever,15m=forever,1h=forever,ticks=forever")
BROKER = "allow_anonymous true\nautosave_on_changes false\n"
SYMBOLS = tuple(f"S{n}/USD" for n in range(20))


@dataclass
class World:
    """The broker, a client that publishes as an aggregator does and knows who is online, and the truth."""

    folder: Path
    broker: Any
    bus: MqttBus
    settings: dict[str, str]
    online: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
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
            RETENTION="1m=forever,5m=forever,15m=forever,1h=forever,ticks=forever",
            **self.settings,
        )

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[list[Running]]:
        writers = [self.writer(name) for name in names]
        async with AsyncExitStack() as stack:
            for writer in writers:
                await stack.enter_async_context(writer)
                stack.callback(writer.thaw)
            await until(lambda: all(self.online.get(name) for name in names))
            yield writers

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
            topic = TOPICS.candles(candle.symbol, Timeframe.M1)
            handed.append(await self.bus.publish(topic, encode_candle(candle), qos=1, retain=True))
        for delivery in handed:
            await delivery

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
        await self.bus.subscribe(TOPICS.status(NAME, "+"))
        async for event in self.bus.events():
            if not isinstance(event, Message):
                continue
            event.ack()
            if event.retain:
                # Old news: what counts is who speaks now.
                continue
            name = event.topic.rpartition("/")[2]
            try:
                status = decode_status(event.payload)
                online = status.state is Presence.ONLINE and not status.details.get("leaving")
                self.online[name] = int(online and status.details.get("written", 0)) + int(online)
            except PayloadError:
                self.online.pop(name, None)
                self.removed.add(name)


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


async def test_a_frozen_writer_is_stood_in_for_and_has_its_share_again_when_it_wakes_up(world, store):
    async with world.running("w1", "w2") as (frozen, _):
        await world.send(world.candles(10))
        await until(lambda: world.all_there(store))
        frozen.freeze()
        await world.send(world.candles(50))
        # Nothing is stored of its share until the broker misses it and the other one takes its session over.
        await until(lambda: world.all_there(store), 60, lambda: str(world.online))
        assert not world.online.get("w1")
        await world.send(world.candles(50))
        frozen.thaw()
        await until(lambda: world.online.get("w1"))
        before = world.online.get("w1", 0)
        await world.send(world.candles(50))
        await until(lambda: world.all_there(store))
        await until(lambda: world.online.get("w1", 0) > before)


async def test_a_short_freeze_in_the_middle_of_a_burst_loses_nothing(world, store):
    async with world.running("w1", "w2") as (one, other):
        for writer in (one, other, one):
            sending = asyncio.create_task(world.send(world.candles(100)))
            writer.freeze()
            await sending
            writer.thaw()
        await until(lambda: world.all_there(store))


async def test_what_a_killed_writer_had_in_hand_is_stored_by_the_other_one(world, store):
    async with world.running("w1", "w2") as (killed, _):
        sending = asyncio.create_task(world.send(world.candles(200)))
        await until(store.symbols)
        await killed.kill()
        await sending
        await world.send(world.candles(20))
        await until(lambda: world.all_there(store))
        # Nothing is left of it: no status, no share.
        await until(lambda: "w1" not in world.online)


async def test_a_writer_that_is_stopped_leaves_nothing_to_be_taken_over(world, store):
    async with world.running("w1", "w2") as (stopped, _):
        sending = asyncio.create_task(world.send(world.candles(200)))
        await until(store.symbols)
        stopped.process.terminate()
        assert await stopped.ended(15) == 0
        await sending
        await world.send(world.candles(20))
        await until(lambda: world.all_there(store))


async def test_a_killed_broker_loses_nothing_that_is_published_again(world, store):
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
        # Mosquitto forgets shared subscriptions over a restart, until the writers make them again.
        await until(lambda: all(world.online.get(name) for name in ("w1", "w2")))
        # As the aggregator does after each reconnect: what the broker had confirmed may be gone with it.
        await world.send(during)
        await until(lambda: world.all_there(store))


async def test_one_that_died_with_the_broker_is_counted_out_and_its_share_is_stored(world, store):
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
        await until(lambda: world.all_there(store))
        await until(lambda: "w1" in world.removed, 60, lambda: str(world.online))


async def test_a_second_writer_with_the_name_of_a_living_one_ends_in_one_line_and_disturbs_nothing(world, store):
    async with world.running("w1"):
        async with world.writer("w1", log="second") as second:
            await world.send(world.candles(20))
            assert await second.ended(60) in (1, 2)
            assert "INSTANCE_ID" in second.said()
            assert client_id("w1") not in second.said()
        await world.send(world.candles(20))
        await until(lambda: world.all_there(store))


async def test_corrections_of_two_writers_on_influxdb_end_as_published_whoever_was_frozen(
    mosquitto_of, influx_place, tmp_path
):
    broker = mosquitto_of(BROKER)
    access = InfluxAccess(f"order-{random.getrandbits(40):x}", influx_place.token)
    settings = {"STORE_URL": influx_place.url, "INFLUX_ORG": access.org, "INFLUX_TOKEN": access.token}
    async with (
        InfluxStore(influx_place.url, access, retention=FOREVER) as store,
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
            # What is stored in the wrong order only later must be put right too.
            await until(lambda: world.all_there(store), 60)
        assert not await world.wrong(store)
