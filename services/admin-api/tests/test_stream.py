"""Server-sent events, over a real port."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import httpx
import pytest

from admin_api.candles import stream as stream_module
from admin_api.system.candle_header import decode_header
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.times import rfc3339


@dataclass
class Events:
    """What has come on a stream."""

    answer: httpx.Response
    items: list[dict[str, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    over: bool = False

    @property
    def candles(self):
        return [json.loads(item["data"]) for item in self.items if item["event"] == "candle"]

    @property
    def opens(self):
        return [(c["symbol"], c["timeframe"], c["open_time"], c["closed"]) for c in self.candles]

    @property
    def last_id(self):
        return self.items[-1]["id"]

    async def follow(self):
        item = {}
        async for line in self.answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                item[name] = value
            elif "data" in item:
                self.items.append(item)
                item = {}
            else:
                item = {}
        self.over = True


@asynccontextmanager
async def open_stream(world, query="", **headers):
    """A stream that is being read."""
    await world.until(lambda: world.service.port)
    base = f"http://127.0.0.1:{world.service.port}"
    async with (
        httpx.AsyncClient(base_url=base, timeout=30) as http,
        http.stream("GET", f"/stream{query}", headers=headers) as answer,
    ):
        events = Events(answer)
        if answer.status_code != 200:
            await answer.aread()
            yield events
            return
        following = asyncio.create_task(events.follow())
        try:
            yield events
        finally:
            following.cancel()
            await asyncio.wait([following])


async def known(world, *candles):
    """Publish candles, and wait until the service has them."""
    for candle in candles:
        await world.candle(candle)
    last = candles[-1]
    live = world.service.candles.live

    def has():
        frames = live.state([(last.symbol, last.timeframe)])
        return any(frame.payload == encode_candle(last) for frame in frames)

    await world.until(has)


def opens(*candles):
    return [(c.symbol, c.timeframe.value, rfc3339(c.open_time), c.closed) for c in candles]


def value_of(world, name, **labels):
    return world.registry.get_sample_value(name, labels)


async def test_stream_begins_with_the_state_and_continues_live(world, candle):
    closed, forming = candle(-1, volume=Decimal("0.10000000")), candle(0, closed=False)
    async with world.running():
        await known(world, closed, forming)
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            assert events.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert events.answer.headers["cache-control"] == "no-store"
            await world.until(lambda: len(events.items) == 2)
            assert events.opens == opens(closed, forming)
            assert events.items[0]["data"].encode() == encode_candle(closed)
            later = candle(0, closed=False, trades=18, at=world.now + 1)
            await world.candle(later)
            await world.until(lambda: len(events.items) == 3)
            assert events.items[-1]["data"].encode() == encode_candle(later)
            assert all(item["id"] for item in events.items)


async def test_newest_closed_candle_is_read_from_the_store_if_the_bus_has_only_a_forming_one(world, candle):
    await world.store(candle(-2), candle(-1))
    async with world.running():
        await known(world, candle(0, closed=False))
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            await world.until(lambda: len(events.items) == 2)
            assert events.opens == opens(candle(-1), candle(0, closed=False))


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", {("BTC/USD", "1m"), ("BTC/USD", "5m"), ("ETH/USD", "1m"), ("ADA/USD", "1m")}),
        ("?symbol=BTC-USD", {("BTC/USD", "1m"), ("BTC/USD", "5m")}),
        ("?symbol=BTC-USD,ETH-USD&timeframe=1m", {("BTC/USD", "1m"), ("ETH/USD", "1m")}),
        ("?symbol=ADA-USD&symbol=ETH-USD", {("ADA/USD", "1m"), ("ETH/USD", "1m")}),
        ("?timeframe=5m", {("BTC/USD", "5m")}),
    ],
)
async def test_stream_is_filtered_by_symbols_and_timeframes(world, candle, query, wanted):
    async with world.running():
        names = ("BTC/USD", "ETH/USD", "ADA/USD")
        await known(world, candle(timeframe=Timeframe.M5), *[candle(symbol=name) for name in names])
        async with open_stream(world, query) as events:
            await world.until(lambda: len(events.items) == len(wanted))
            after = [candle(0, symbol=name, closed=False) for name in names]
            await known(world, candle(0, timeframe=Timeframe.M5, closed=False), *after)
            await world.until(lambda: len(events.items) == 2 * len(wanted))
            assert {(c["symbol"], c["timeframe"]) for c in events.candles} == wanted


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("?symbol=ETH-EUR", 404, "unknown symbol: ETH/EUR"),
        ("?symbol=BTCUSD", 422, "symbol: expected a symbol such as BTC-USD"),
        ("?symbol=" + ",".join(f"A{n}-USD" for n in range(501)), 422, "at most 500 symbols"),
        ("?timeframe=2m", 422, "timeframe: expected a timeframe of 1m"),
        ("?lastEventId=" + "1" * 65, 422, "lastEventId"),
    ],
)
async def test_stream_of_unknown_symbols_is_refused(world, candle, query, status, named):
    async with world.running(), open_stream(world, query) as events:
        assert events.answer.status_code == status
        assert events.answer.headers["content-type"] == "application/problem+json"
        assert named in events.answer.json()["detail"]


@pytest.mark.parametrize("by_header", [True, False])
async def test_resumed_stream_gets_missed_candles_once(world, candle, by_header):
    async with world.running():
        await known(world, candle(-3))
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            await world.until(lambda: events.items)
            last = events.last_id
        missed = [candle(-2), candle(-3, revision=1, at=world.now), candle(-1), candle(0, closed=False)]
        await known(world, *missed, candle(symbol="ETH/USD"))
        if by_header:
            again = open_stream(world, "?symbol=BTC-USD&timeframe=1m", **{"Last-Event-ID": last})
        else:
            again = open_stream(world, f"?symbol=BTC-USD&timeframe=1m&lastEventId={last}")
        async with again as events:
            await world.until(lambda: len(events.items) == 4)
            assert events.opens == opens(*missed)
            after = candle(0, closed=False, trades=99, at=world.now + 1)
            await world.candle(after)
            await world.until(lambda: len(events.items) == 5)


async def test_after_a_restart_the_closed_candles_since_come_from_the_store(world, candle):
    async with world.running():
        await known(world, candle(-60))
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            await world.until(lambda: events.items)
            last = events.last_id
    world.now += 600
    since = [candle(n) for n in range(-60, 10)]
    await world.store(*since)
    async with world.running():
        await known(world, candle(10, closed=False, at=world.now))
        query = "?symbol=BTC-USD&timeframe=1m"
        async with open_stream(world, query, **{"Last-Event-ID": last}) as events:
            await world.until(lambda: events.candles and not events.candles[-1]["closed"])
            got = events.opens
            assert [item["event"] for item in events.items] == ["candle"] * len(events.items)
            # All that closed since, and a little more: what was sent twice replaces itself.
            assert got == opens(*since[-(len(got) - 1) :], candle(10, closed=False))
            assert len(got) >= 11
            middle = events.items[len(got) // 2]["id"]
        # Who was cut off in the middle of the replay goes on there.
        async with open_stream(world, query, **{"Last-Event-ID": middle}) as events:
            await world.until(lambda: events.candles and not events.candles[-1]["closed"])
            assert events.opens[-3:] == got[-3:]


@pytest.mark.parametrize("last", ["x", "0-0", "abcd1234-5-100", "abcd1234-5-1700000000-7"])
async def test_unknown_event_id_gets_a_reset_and_the_state(world, candle, last):
    async with world.running():
        await known(world, candle(-1))
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m", **{"Last-Event-ID": last}) as events:
            await world.until(lambda: len(events.items) == 2)
            assert [item["event"] for item in events.items] == ["reset", "candle"]
            assert json.loads(events.items[0]["data"])["reason"]
            assert events.opens == opens(candle(-1))


async def test_an_interrupted_broker_resets_the_streams(world, candle):
    async with world.running():
        await known(world, candle(-2))
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            await world.until(lambda: events.items)
            before = events.last_id
            world.bus.drop()
            await world.until(lambda: events.items[-1]["event"] == "reset")
            assert events.last_id.split("-")[0] != before.split("-")[0]
            await known(world, candle(-1))
            await world.until(lambda: events.opens[-1:] == opens(candle(-1)))


async def test_a_heartbeat_keeps_the_stream_alive(world, candle, monkeypatch):
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.05)
    async with world.running(), open_stream(world) as events:
        await world.until(lambda: len(events.comments) >= 2)
        assert set(events.comments) == {": heartbeat"}


async def test_stop_ends_the_streams_promptly(world, candle):
    async with world.running():
        await known(world, candle(-1))
        async with open_stream(world) as events:
            await world.until(lambda: events.items)
            world.task.cancel()
            async with asyncio.timeout(5):
                await asyncio.wait([world.task])
            await world.until(lambda: events.over)
        assert value_of(world, "ingress_admin_streams_ended_total", reason="shutdown") == 1


async def test_more_streams_than_allowed_are_refused(world, candle):
    async with world.running(max_streams=1):
        async with open_stream(world), open_stream(world) as second:
            assert second.answer.status_code == 503
            assert second.answer.headers["retry-after"] == "5"
            assert second.answer.headers["content-type"] == "application/problem+json"
        await world.until(lambda: value_of(world, "ingress_admin_streams") == 0)
        assert value_of(world, "ingress_admin_streams_refused_total") == 1
        async with open_stream(world) as third:
            assert third.answer.status_code == 200


async def test_a_reader_that_does_not_read_is_dropped_and_counted(world, candle, monkeypatch):
    monkeypatch.setattr(stream_module, "STALLED_SECONDS", 0.2)
    async with world.running():
        await known(world, candle(-1))
        await world.until(lambda: world.service.port)
        _, writer = await asyncio.open_connection("127.0.0.1", world.service.port, limit=1)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        await world.until(lambda: value_of(world, "ingress_admin_streams") == 1)
        number = 0

        async def dropped():
            nonlocal number
            for _ in range(100):
                number += 1
                await world.candle(candle(-1, revision=number, at=world.now + number))
            return value_of(world, "ingress_admin_streams_ended_total", reason="slow")

        await world.until(dropped, 60)
        assert value_of(world, "ingress_admin_streams") == 0
        writer.transport.abort()


def burst(world, candles):
    """Give candles to the service in one turn of the event loop, as a repair does."""
    for candle in candles:
        payload = encode_candle(candle)
        world.service.candles.live.take(decode_header(payload), payload, world.now)


async def test_a_burst_does_not_end_the_stream_of_a_reader_that_reads(world, candle):
    async with world.running():
        await known(world, candle(-5000))
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            await world.until(lambda: events.items)
            made = [candle(n) for n in range(-4999, 0)]
            others = [candle(n, symbol="ETH/USD") for n in range(-100, 0)]
            forming = candle(0, closed=False)
            burst(world, [*made[:2000], *others, *made[2000:], forming])
            await world.until(lambda: len(events.items) == len(made) + 2 or events.over)
            after = candle(0, at=world.now + 60)
            await known(world, after)
            await world.until(lambda: events.candles[-1]["closed"] or events.over)
            assert events.opens == opens(candle(-5000), *made, forming, after)
            numbers = [int(item["id"].split("-")[1]) for item in events.items]
            assert numbers == sorted(numbers)
        assert value_of(world, "ingress_admin_streams_ended_total", reason="slow") == 0


async def test_a_burst_beyond_memory_ends_the_stream_of_a_reader(world, candle):
    async with world.running():
        await known(world, candle(-3))
        world.service.candles.live._limit = 300
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            await world.until(lambda: events.items)
            burst(world, [candle(n) for n in range(-2000, 0)])
            await world.until(lambda: events.over)
            # What waited before the burst went beyond is sent, in order; the reader resumes after it.
            assert events.opens == opens(candle(-3), *(candle(n) for n in range(-2000, -1500)))
            assert events.items[-1] == {"event": "error", "data": '{"reason":"slow"}'}
        assert value_of(world, "ingress_admin_streams_ended_total", reason="slow") == 1


async def test_an_interruption_resets_a_reader_that_is_behind(world, candle):
    async with world.running():
        await known(world, candle(-3))
        async with open_stream(world, "?symbol=BTC-USD&timeframe=1m") as events:
            await world.until(lambda: events.items)
            burst(world, [candle(n) for n in range(-2000, 0)])
            world.service.candles.live.interrupted("the broker was away", world.now)
            burst(world, [candle(0)])
            await world.until(lambda: len(events.items) == 3 or events.over)
            assert [item["event"] for item in events.items] == ["candle", "reset", "candle"]
            assert events.opens[-1:] == opens(candle(0))


async def test_a_candle_that_was_cleared_is_no_longer_part_of_the_state(world, candle):
    async with world.running():
        await known(world, candle(-1, symbol="ADA/USD"), candle(-1))
        await world.send(world.topics.candles("ADA/USD", "1m"), b"")
        await world.until(lambda: "ADA/USD" not in world.service.state.symbols)
        async with open_stream(world) as events:
            await world.until(lambda: events.items)
            assert events.opens == opens(candle(-1))
