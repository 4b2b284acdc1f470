"""From the bus into the store, acknowledged once it is there."""

import asyncio
import dataclasses
import itertools
import sqlite3
import time
from itertools import chain, repeat

import pytest
from msgspec.structs import replace

from influx_writer import Limits, arrivals, assignment
from influx_writer import writer as writer_module
from ingress_common.backoff import Backoff
from ingress_common.errors import StartError
from ingress_common.payloads import decode_candle, decode_status, encode_candle
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import Rejection, SqliteStore, StoreUnavailableError, WriteResult


async def test_candles_of_all_timeframes_and_ticks_are_stored(world, candle):
    writer, _ = world.writer()
    rows = [candle(timeframe=timeframe) for timeframe in TIMEFRAMES]
    ticks = [candle(0, closed=False) for _ in range(3)]
    async with world.running(writer):
        await world.send(*rows)
        await world.tick(*ticks)
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="tick") == 3)
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == len(rows))
    for row in rows:
        assert await world.stored(row.timeframe) == [row]
    async with world.store() as store:
        assert await store.ticks("BTC/USD", start=0, end=2e9, limit=10) == ticks
    assert not world.dead


async def test_a_writer_whose_ticks_do_not_arrive_is_not_ready_until_they_do(world, candle, monkeypatch):
    monkeypatch.setattr(arrivals, "_LIMIT_SECONDS", 0.2)
    writer, _ = world.writer()
    minute = candle(0).open_time
    async with world.running(writer):
        await world.until(lambda: "BTC/USD" in world.listed())

        async def lacks_ticks() -> bool:
            trades = next(count)
            await world.watermark(world.now, {minute: {"BTC/USD": trades, "SOL/USD": trades}})
            return any(
                not check.ok and "none of BTC/USD was stored" in check.detail for check in writer.health().checks
            )

        count = itertools.count(1)
        while not await lacks_ticks():
            await asyncio.sleep(0.01)
        await world.until(lambda: not world.status()["ready"], 1)
        await world.tick(candle(0, closed=False, trades=next(count)))
        await world.until(lambda: writer.health().ready)
        await world.watermark(world.now)
        await world.until(lambda: world.status()["ready"], 1)


async def test_a_writer_whose_candles_do_not_arrive_asks_the_broker_for_the_retained_ones(world, candle, monkeypatch):
    monkeypatch.setattr(arrivals, "_LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(writer_module, "_REFRESH_SECONDS", 0.05)
    writer, _ = world.writer()
    minute = candle(0, closed=False, trades=1)

    def lacks_candles() -> bool:
        return any("no 1m candle of BTC/USD" in problem for problem in writer.health().problems)

    await world.send(minute)
    async with world.running(writer):
        await world.until(lambda: world.metric("ingress_writer_received_total", kind="forming") == 1)
        for trades in (2, 3):
            await world.watermark(world.now, {minute.open_time: {"BTC/USD": trades}})
        await world.until(lacks_candles)
        # The broker retains the old candle only, as far as this writer may see.
        received = world.metric("ingress_writer_received_total", kind="forming")
        await world.until(lambda: world.metric("ingress_writer_received_total", kind="forming") > received + 3)
        assert lacks_candles()
        topic = world.topics.candles("BTC/USD", Timeframe.M1)
        stored = world.broker._retained[topic]
        world.broker._retained[topic] = dataclasses.replace(stored, payload=encode_candle(replace(minute, trades=3)))
        await world.until(lambda: not lacks_candles())


async def test_a_message_is_acknowledged_only_after_the_commit(world, candle):
    writer, _ = world.impatient_writer()
    async with world.running(writer):
        lock = sqlite3.connect(world.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await world.send(candle())
        await world.until(lambda: world.metric("ingress_writer_retries_total") >= 2)
        assert not writer.health().ready
        assert _unacknowledged(world) == 1
        lock.execute("ROLLBACK")
        lock.close()
        await world.until(lambda: _unacknowledged(world) == 0)
        await world.until(lambda: writer.health().ready)
    assert len(await world.stored()) == 1


async def test_rows_in_memory_are_bounded_during_a_store_outage(world, candle):
    writer, _ = world.impatient_writer(limits=Limits(rows=100, seconds=0.02))
    rows = [candle(-n) for n in range(1, 2_001)]
    async with world.running(writer):
        lock = sqlite3.connect(world.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await world.send(*rows)
        await world.until(lambda: world.metric("ingress_writer_retries_total") >= 3)
        assert _unacknowledged(world) <= 200
        assert world.metric("ingress_writer_in_hand") <= 200
        lock.execute("ROLLBACK")
        lock.close()
        await world.until(lambda: _outstanding(world) == 0)
    assert await world.stored() == rows[::-1]


async def test_rows_after_a_full_batch_of_an_outage_are_written(world, candle):
    limits = Limits(rows=5, seconds=0.02)
    writer, _ = world.impatient_writer(limits=limits)
    # The first retry comes when the next batch is full, and takes it along.
    writer._backoff = Backoff(2.0, 2.0, jitter=(0.01, 1.0), uniform=chain([1.0], repeat(0.0)).__next__)
    rows = [candle(-n) for n in range(1, 31)]
    async with world.running(writer):
        lock = sqlite3.connect(world.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await world.send(rows[0])
        await world.until(lambda: world.metric("ingress_writer_retries_total") == 1)
        await world.send(*rows[1:])
        await world.until(lambda: world.metric("ingress_writer_in_hand") >= 1 + limits.rows)
        await world.until(lambda: world.metric("ingress_writer_retries_total") >= 2)
        lock.execute("ROLLBACK")
        lock.close()
        await world.until(lambda: _outstanding(world) == 0)
    assert await world.stored() == rows[::-1]


async def test_unwritten_rows_of_a_killed_writer_are_redelivered_to_the_next(world, candle):
    writer, bus = world.impatient_writer()
    lock = None
    async with world.running(writer) as task:
        lock = sqlite3.connect(world.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await world.send(candle(-2), candle(-1))
        await world.until(lambda: world.metric("ingress_writer_retries_total") >= 1)
        world.cut(bus, reconnect=False)
        task.cancel()
    await world.send(candle(-3))
    lock.execute("ROLLBACK")
    lock.close()
    world.mend(bus)
    assert await world.stored() == []
    writer, _ = world.writer()
    async with world.running(writer, begun=world.listed):
        await world.until(lambda: _outstanding(world) == 0)
    assert [row.open_time for row in await world.stored()] == [candle(n).open_time for n in (-3, -2, -1)]


async def test_messages_redelivered_after_a_reconnect_are_stored_once(world, candle):
    writer, bus = world.writer(limits=Limits(rows=50, seconds=0.02))
    rows = [candle(-n) for n in range(1, 301)]
    async with world.running(writer):
        for start in range(0, 300, 50):
            await world.send(*rows[start : start + 50])
            bus.drop()
        await world.until(lambda: bus.connected and _outstanding(world) == 0)
    assert await world.stored() == rows[::-1]


async def test_clean_stop_writes_the_current_batch(world, candle):
    writer, _ = world.writer(limits=Limits(seconds=60))
    rows = [candle(-n) for n in range(1, 11)]
    async with world.running(writer, begun=world.listed):
        await world.send(*rows)
        # And a mark of its own.
        await world.until(lambda: world.metric("ingress_writer_in_hand") >= 10)
        assert await world.stored() == []
    assert await world.stored() == rows[::-1]
    assert _outstanding(world) == 0


async def test_clean_stop_without_store_leaves_the_batch_at_the_broker(world, candle):
    writer, _ = world.impatient_writer(limits=Limits(seconds=0.02, drain_seconds=0.2))
    lock = None
    async with world.running(writer):
        lock = sqlite3.connect(world.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await world.send(candle())
        await world.until(lambda: world.metric("ingress_writer_retries_total") >= 1)
    lock.execute("ROLLBACK")
    lock.close()
    assert _outstanding(world) == 1


async def test_an_undecodable_message_becomes_a_dead_letter_and_the_rest_is_written(world, candle):
    writer, _ = world.writer()
    topic = world.topics.candles("BTC/USD", Timeframe.M1)
    async with world.running(writer):
        for payload in (b"{", b"\xff\xfe", b'{"symbol":"BTC/USD"}'):
            await world.client.publish(topic, payload, qos=1)
        await world.send(candle())
        await world.until(lambda: len(world.dead) == 3 and _outstanding(world) == 0)
        assert world.metric("ingress_writer_dead_letters_total", reason="undecodable") == 3
    assert {letter.topic for letter in world.dead} == {topic}
    assert all("expected" in letter.reason for letter in world.dead)
    assert len(await world.stored()) == 1


async def test_empty_payload_leaves_the_stored_candle(world, candle):
    writer, _ = world.writer()
    async with world.running(writer):
        await world.send(candle())
        await world.client.publish(world.topics.candles("BTC/USD", Timeframe.M1), b"", qos=1, retain=True)
        await world.send(candle(open_time=candle().open_time + 60))
        await world.until(lambda: _outstanding(world) == 0 and writer.written == 2)
    assert world.dead == []
    assert len(await world.stored()) == 2


async def test_a_message_that_is_too_large_is_cut_at_once_and_becomes_a_dead_letter(world, candle):
    writer, _ = world.writer()
    topic = world.topics.candles("BTC/USD", Timeframe.M1)
    async with world.running(writer):
        await world.client.publish(topic, encode_candle(candle())[:-1] + b" " * 1_000_000 + b"}", qos=1)
        await world.send(candle())
        await world.until(lambda: len(world.dead) == 1 and _outstanding(world) == 0)
        assert world.metric("ingress_writer_dead_letters_total", reason="too-large") == 1
    assert "8192 bytes" in world.dead[0].reason
    assert len(world.dead[0].payload) < 10_000
    assert len(await world.stored()) == 1


async def test_candle_of_next_month_becomes_a_dead_letter_after_a_watermark(world, candle):
    writer, _ = world.writer()
    async with world.running(writer):
        await world.send(candle(30 * 1440, at=world.now + 31 * 86_400), candle(-1))
        assert not world.dead
        await world.watermark(world.now)
        await world.until(lambda: len(world.dead) == 1 and _outstanding(world) == 0)
        assert world.metric("ingress_writer_dead_letters_total", reason="implausible") == 1
    assert await world.stored() == [world.published["BTC/USD", Timeframe.M1, candle(-1).open_time]]


async def test_a_candle_that_is_closed_long_before_its_end_becomes_a_dead_letter(world, candle):
    writer, _ = world.writer()
    async with world.running(writer):
        await world.watermark(world.now)
        await world.send(candle(4), candle(-1))
        await world.until(lambda: len(world.dead) == 1 and _outstanding(world) == 0)
    assert "expected a candle that is closed" in world.dead[0].reason
    assert await world.stored() == [world.published["BTC/USD", Timeframe.M1, candle(-1).open_time]]


async def test_candles_are_stored_where_the_clock_is_a_month_behind(world, candle):
    now, world.now = world.now, world.now - 30 * 86_400
    writer, _ = world.writer()
    rows = [candle(-2), candle(-1)]
    async with world.running(writer):
        await world.send(*rows)
        await world.tick(candle(0, closed=False))
        await world.watermark(now)
        await world.until(lambda: _outstanding(world) == 0)
    assert await world.stored() == rows
    assert not world.dead


@pytest.mark.parametrize("step", [-30 * 86_400, -300, 300, 30 * 86_400])
async def test_a_clock_that_steps_while_the_writer_runs_changes_nothing(world, candle, step):
    writer, _ = world.writer()
    forming = candle(0, closed=False)
    async with world.running(writer):
        await world.watermark(world.now)
        await world.send(candle(-2))
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle"))
        world.now += step
        await world.send(candle(-1), forming)
        await world.tick(candle(0, closed=False))
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="tick"))
        await world.until(lambda: _outstanding(world) == 0)
        assert await world.forming() == forming
    assert len(await world.stored()) == 2
    assert not world.dead


async def test_forming_candles_are_stored_beside_a_gateway_that_is_minutes_behind(world, candle):
    writer, _ = world.writer()
    forming = candle(0, closed=False)
    async with world.running(writer):
        await world.watermark(world.now - 300)
        await world.tick(candle(0, closed=False))
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="tick"))
        await world.send(forming)
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="forming"))
        assert await world.forming() == forming


@pytest.mark.parametrize(
    "topic",
    [
        "ingress/candles/kraken/ETH-USD/1m",
        "ingress/candles/kraken/BTC-USD/5m",
        "ingress/raw/kraken/ETH-USD/1m",
    ],
)
async def test_a_topic_that_contradicts_its_payload_makes_a_dead_letter(world, candle, topic):
    writer, _ = world.writer()
    async with world.running(writer):
        await world.send(candle(), topic=topic)
        await world.until(lambda: len(world.dead) == 1 and _outstanding(world) == 0)
    assert world.dead[0].topic == topic
    assert await world.stored() == []


async def test_a_forming_candle_is_written_while_its_window_is_open(world, candle):
    writer, _ = world.writer()
    forming = candle(0, closed=False)
    async with world.running(writer):
        await world.send(forming)
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="forming") == 1)
    assert await world.forming() == forming
    assert await world.stored() == []


async def test_a_forming_candle_that_the_store_rejects_is_one_dead_letter(world, candle, monkeypatch):
    async def write(candles, ticks):
        return WriteResult(0, tuple(Rejection(index, "too old") for index in range(len(candles))))

    writer, _ = world.writer()
    monkeypatch.setattr(writer._store, "write", write)
    forming, closed = candle(0, closed=False), candle(-1)
    async with world.running(writer):
        await world.send(forming)
        await world.until(lambda: len(world.dead) == 1)
        world.now += 5
        await world.send(closed)
        await world.until(lambda: len(world.dead) >= 2 and _outstanding(world) == 0)
    assert [decode_candle(letter.payload.encode()) for letter in world.dead] == [forming, closed]
    assert world.dead[0].topic == world.topics.candles("BTC/USD", Timeframe.M1)
    assert world.dead[0].reason == "the store: too old"


async def test_a_forming_candle_whose_window_is_over_is_not_written(world, candle):
    writer, _ = world.writer()
    async with world.running(writer):
        await world.send(candle(-1, closed=False), candle(1, closed=False), candle(-5))
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 1)
    assert await world.forming() is None
    assert world.metric("ingress_writer_written_total", kind="forming") == 0


async def test_newest_forming_state_is_written_and_the_last_one_arrives(world, candle):
    writer, _ = world.writer()
    states = [candle(0, closed=False, trades=n) for n in range(1, 201)]
    async with world.running(writer):
        await world.send(*states[:100])
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="forming") == 1)
        await world.send(*states[100:])
        await world.until(lambda: world.metric("ingress_writer_received_total", kind="forming") == 200)
        assert world.metric("ingress_writer_written_total", kind="forming") == 1
        world.now += 1
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="forming") == 2)
    assert await world.forming() == states[-1]


async def test_a_forming_candle_that_waits_for_a_store_is_not_written_after_its_window(world, candle):
    writer, _ = world.impatient_writer()
    async with world.running(writer):
        lock = sqlite3.connect(world.path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        await world.send(candle(0, closed=False), candle(-1))
        await world.until(lambda: world.metric("ingress_writer_retries_total") >= 1)
        world.now += 60
        lock.execute("ROLLBACK")
        lock.close()
        await world.until(lambda: world.metric("ingress_writer_written_total", kind="candle") == 1)
    assert await world.forming() is None


async def test_a_correction_replaces_the_closed_candle(world, candle):
    writer, _ = world.writer()
    first = candle()
    correction = replace(first, revision=1, trades=18, at=first.at + 3)
    async with world.running(writer):
        await world.send(first, correction, first)
        await world.until(lambda: _outstanding(world) == 0)
    assert await world.stored() == [correction]


async def test_status_is_published_and_ended_by_the_last_will(world):
    writer, bus = world.writer()
    topic = world.topics.status("influx-writer", "w1")
    async with world.running(writer):
        await world.until(lambda: topic in world.broker.retained)
        assert decode_status(world.broker.retained[topic]).state == "online"
        world.cut(bus, reconnect=False)
        await world.until(lambda: decode_status(world.broker.retained[topic]).state == "offline")
        assert not writer.health().ready
        world.mend(bus)
        await world.until(lambda: decode_status(world.broker.retained[topic]).state == "online")
        await world.until(lambda: writer.health().ready)
    assert decode_status(world.broker.retained[topic]).state == "offline"


async def test_a_file_that_cannot_be_used_ends_the_service_with_one_line(world):
    world.path.mkdir()
    writer, _ = world.writer()
    with pytest.raises(StartError, match=r"STORE_URL.*candles\.db"):
        await asyncio.wait_for(writer.run(), 20)


def _unacknowledged(world) -> int:
    return sum(
        len(state.unacknowledged)
        for name, state in world.broker._clients.items()
        if name.startswith("ingress-influx-writer")
    )


def _outstanding(world) -> int:
    """Messages that the broker still keeps for writers."""
    waiting = sum(
        len(state.queued) for name, state in world.broker._clients.items() if name.startswith("ingress-influx-writer")
    )
    return waiting + _unacknowledged(world)


class Silent(SqliteStore):
    """Responds to neither a write nor a ping while `silent` names it."""

    silent = ""

    async def ping(self):
        await self._while_silent("ping")
        await super().ping()

    async def write(self, candles, ticks):
        await self._while_silent("write")
        return await super().write(candles, ticks)

    async def _while_silent(self, what):
        while self.silent == what:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("silent", "problem"), [("write", "no response to a write"), ("ping", "no response within 1 s")]
)
async def test_writer_is_not_ready_while_its_store_does_not_respond(world, candle, silent, problem):
    store = Silent(world.path, clock=lambda: world.now)
    writer, _ = world.writer(limits=Limits(seconds=0.05, patience_seconds=0.6), store=store)
    async with world.running(writer):
        store.silent = silent
        await world.send(candle())
        await world.until(lambda: any(problem in text for text in writer.health().problems))
        assert not writer.health().ready
        store.silent = ""
        await world.until(lambda: writer.health().ready)
    assert len(await world.stored()) == 1


class PartlyAway(SqliteStore):
    """A store that does not take candles of the timeframes in `away`."""

    def __init__(self, world):
        super().__init__(world.path, clock=lambda: world.now)
        self.away = {Timeframe.M5}

    async def write(self, candles, ticks):
        result = await super().write([row for row in candles if row.timeframe not in self.away], ticks)
        unstored = tuple(index for index, row in enumerate(candles) if row.timeframe in self.away)
        return dataclasses.replace(result, unstored_candles=unstored, problem="candles_5m: gone" if unstored else "")


async def test_candles_of_a_refused_timeframe_are_requested_once_accepted(world, candle, monkeypatch):
    monkeypatch.setattr(assignment, "_REFUSED_SECONDS", 0.0)
    store = PartlyAway(world)
    writer, _ = world.writer(store=store, limits=Limits(rows=20, seconds=0.05))
    fives = [candle(-n, timeframe=Timeframe.M5) for n in range(60, 0, -1)]
    minutes = [candle(-n) for n in range(60, 0, -1)]
    async with world.running(writer):
        await world.send(*fives, *minutes)
        await world.until(lambda: _outstanding(world) == 0)
        assert writer.health().problems == ["store: candles_5m: gone"]
        assert await world.stored() == minutes
        assert await world.stored(Timeframe.M5) == []
        requests = len(world.requests)
        store.away.clear()
        await world.send(candle(0, timeframe=Timeframe.M5, closed=False))
        await world.until(lambda: writer.health().ready)
        await world.until(lambda: len(world.requests) > requests)
        await world.until(lambda: world.metric("ingress_writer_received_total", kind="candle") >= 180)
        await world.until(lambda: _outstanding(world) == 0)
    assert await world.stored(Timeframe.M5) == fives
    assert (world.requests[-1].start, world.requests[-1].end) == (fives[0].at - 1, fives[-1].at + 1)


class KeepsNewOnes(PartlyAway):
    """A store that rejects closed candles of the timeframes in `away`, as a bucket with a short retention does."""

    async def write(self, candles, ticks):
        refused = [row for row in candles if row.closed and row.timeframe in self.away]
        result = await SqliteStore.write(self, [row for row in candles if row not in refused], ticks)
        unstored = tuple(index for index, row in enumerate(candles) if row in refused)
        return dataclasses.replace(result, unstored_candles=unstored, problem="candles_1h: short" if unstored else "")


async def test_candles_that_are_refused_while_newer_ones_are_stored_are_requested_now_and_then(
    world, candle, monkeypatch
):
    monkeypatch.setattr(assignment, "_REFUSED_SECONDS", 0.5)
    store = KeepsNewOnes(world)
    store.away = {Timeframe.H1}
    writer, _ = world.writer(store=store)
    hour = candle(timeframe=Timeframe.H1)

    async def trading_until(condition) -> None:
        while not await condition():
            world.now += 1
            await world.send(candle(0, timeframe=Timeframe.H1, closed=False))
            await asyncio.sleep(0.01)

    async def is_requested_thrice() -> bool:
        return len(world.requests) >= requests + 3

    async def is_stored() -> bool:
        return await world.stored(Timeframe.H1) == [hour] and writer.health().ready

    async with world.running(writer):
        requests = len(world.requests)
        await world.send(hour)
        await world.until(lambda: writer.health().problems == ["store: candles_1h: short"])
        began = time.monotonic()
        await trading_until(is_requested_thrice)
        assert time.monotonic() - began > 3 * 0.5
        assert not world.dead
        store.away.clear()
        await trading_until(is_stored)


class FullAtFirst(SqliteStore):
    """A store that takes no batch without a minute."""

    async def write(self, candles, ticks):
        if not any(row.timeframe is Timeframe.M1 for row in candles):
            raise StoreUnavailableError("no minute")
        return await super().write(candles, ticks)


async def test_refused_batch_grows_with_later_rows(world, candle):
    writer, _ = world.writer(store=FullAtFirst(world.path, clock=lambda: world.now))
    async with world.running(writer):
        await world.send(candle(timeframe=Timeframe.M5))
        await world.until(lambda: not writer.health().ready)
        await world.send(candle())
        await world.until(lambda: _outstanding(world) == 0)
        assert writer.health().ready
