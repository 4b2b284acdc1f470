"""The standing self-check: what it compares, counts, shows and follows up."""

import asyncio
from contextlib import suppress
from decimal import Decimal

import pytest
from memory_broker import MemoryBroker, MemoryBus
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from admin_api.reconciler.context import Context
from admin_api.reconciler.self_check import HOURS, SelfCheck, SelfCheckMetrics, differences
from admin_api.system.state import SystemState
from ingress_common.bus import Message
from ingress_common.model import History, Range, Source
from ingress_common.payloads import decode_history, decode_history_request, encode_history
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import SqliteStore

NOW = 1_700_000_030.0
M1 = Timeframe.M1


class Bench:
    """A self-check on a store, and a Kraken that answers with `kraken` by open time."""

    def __init__(self, bus, gateway, store):
        self.now = NOW
        self.live = {"BTC/USD": NOW}
        self.store = store
        self.gateway = gateway
        self.registry = CollectorRegistry()
        self.kraken = {}
        self.requested = []
        topics = Topics()
        context = Context(
            bus, topics, store, SystemState(topics), lambda symbol: True, lambda: self.live, lambda: self.now
        )
        self.check = SelfCheck(context, SelfCheckMetrics(self.registry), seconds=10)
        self.bus = bus

    async def answer(self):
        async for event in self.gateway.events():
            if isinstance(event, Message):
                event.ack()
                request = decode_history_request(event.payload)
                (symbol,), span = request.symbols, request.range
                self.requested.append((symbol, span))
                middle = M1.ceil((span.start + span.end) / 2)
                for part in (Range(span.start, middle), Range(middle, span.end)):
                    rows = [c for at, c in sorted(self.kraken.items()) if part.start <= at < part.end]
                    batch = History(symbol, M1, Source.REST, part, tuple(replace(c, symbol=symbol) for c in rows))
                    await self.gateway.publish(Topics().history(symbol, M1), encode_history(batch))

    async def follow(self):
        async for event in self.bus.events():
            if isinstance(event, Message):
                self.check.take(decode_history(event.payload))
                event.ack()

    async def look(self, seconds=5.0):
        async with asyncio.timeout(seconds):
            await self.check.look()

    @property
    def shown(self):
        return [(d.kind, d.ended) for d in self.check.body().differences]

    def count(self, name, **labels):
        return self.registry.get_sample_value(name, labels) or 0


@pytest.fixture
async def bench(tmp_path):
    broker = MemoryBroker()
    async with (
        MemoryBus(broker, client_id="admin") as bus,
        MemoryBus(broker, client_id="gateway") as gateway,
        SqliteStore(tmp_path / "c.db", clock=lambda: NOW) as store,
    ):
        await gateway.subscribe(Topics().history_requests())
        bench = Bench(bus, gateway, store)
        tasks = [asyncio.create_task(bench.answer()), asyncio.create_task(bench.follow())]
        yield bench
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def hour(candle):
    """The stored candles of the last hour that is looked at."""
    return [candle(n) for n in range(-62, -2)]


async def test_nothing_is_requested_before_the_first_stored_candle(bench, hour):
    # What is answered is stored: it would grow the past by an hour here and a window there.
    await bench.store.write(hour[50:], [])
    bench.kraken = {c.open_time: c for c in hour}
    await bench.look()
    assert bench.requested == [("BTC/USD", Range(hour[50].open_time, hour[-1].close_time))]
    assert bench.shown == []


async def test_equal_minutes_are_counted_and_nothing_is_shown(bench, hour, candle):
    await bench.store.write([*hour, candle(-2), candle(-1, trades=99)], [])
    bench.kraken = {c.open_time: replace(c, vwap=Decimal(1)) for c in hour}
    await bench.look()
    assert bench.requested == [("BTC/USD", Range(hour[0].open_time, hour[-1].close_time))]
    assert bench.shown == []
    assert bench.check.body().candles == 60
    assert bench.count("ingress_self_checks_total", outcome="equal") == 1


def test_kinds_of_differences_are_distinguished(hour):
    kraken = list(hour)
    kraken[10] = replace(kraken[10], close=kraken[10].low, volume=Decimal(7))
    stored = [c for c in hour if c is not hour[20]]
    del kraken[30]
    # A minute without trades is no difference, and neither is what comes before the first stored one.
    flat = replace(hour[40], trades=0, volume=Decimal(0), infilled=True)
    stored = [flat if c is hour[40] else c for c in stored[1:]]
    kraken = [c for c in kraken if c is not hour[40]]
    span = Range(hour[0].open_time, hour[-1].close_time)
    found = differences("BTC/USD", span, stored, kraken, NOW)
    assert [(d.open_time, d.kind.value) for d in found] == [
        (hour[10].open_time, "different"),
        (hour[20].open_time, "missing"),
        (hour[30].open_time, "invented"),
    ]
    assert found[0].text == "expected close 51600.1, got 51605.2; volume 7, got 1.20480000"
    assert differences("BTC/USD", span, [], kraken, NOW) == []


async def test_a_difference_that_is_repaired_is_shown_as_such_and_never_red(bench, hour):
    await bench.store.write(hour, [])
    bench.kraken = {c.open_time: c for c in hour}
    late = replace(hour[5], trades=hour[5].trades + 1, revision=1)
    bench.kraken[late.open_time] = late
    await bench.look()
    assert bench.shown == [("different", None)]
    assert bench.check.check(bench.now).ok
    await bench.store.write([late], [])
    bench.now += 21
    await bench.look()
    assert bench.shown == [("different", "repaired")]
    assert len(bench.requested) == 1
    assert bench.count("ingress_self_check_differences_total", kind="different") == 1


async def test_difference_that_kraken_reverts_is_not_requested(bench, hour):
    await bench.store.write(hour, [])
    bench.kraken = {c.open_time: c for c in hour[1:]}
    await bench.look()
    assert bench.shown == [("invented", None)]
    bench.kraken[hour[0].open_time] = hour[0]
    bench.now += 21
    await bench.look()
    assert bench.shown == [("invented", "taken-back")]
    bench.now += 21
    await bench.look()
    assert len(bench.requested) == 3


async def test_lasting_difference_is_red_after_two_minutes(bench, hour):
    await bench.store.write(hour[:-1], [])
    bench.kraken = {c.open_time: c for c in hour}
    await bench.look()
    assert bench.check.check(bench.now + 119).ok
    # Nothing but what differed is looked at from here on.
    bench.live = {}
    for _ in range(8):
        bench.now += 21
        await bench.look()
    check = bench.check.check(bench.now)
    assert not check.ok
    assert "BTC/USD" in check.detail
    assert "missing" in check.detail
    await bench.store.write([hour[-1]], [])
    bench.now += 21
    await bench.look()
    assert bench.check.check(bench.now).ok
    assert bench.shown == [("missing", "repaired")]


async def test_differences_after_a_store_outage_end_with_the_next_recheck(bench, hour):
    bench.live = {f"S{number}/USD": NOW for number in range(5)}
    rows = [replace(row, symbol=symbol) for symbol in bench.live for row in hour]
    await bench.store.write([row for row in rows if row.open_time != hour[-1].open_time], [])
    bench.kraken = {c.open_time: c for c in hour}
    for _ in bench.live:
        await bench.look()
    for _ in range(12):
        bench.now += 21
        await bench.look()
    assert "and 4 more" in bench.check.check(bench.now).detail
    await bench.store.write(rows, [])
    bench.now += 21
    await bench.look()
    assert bench.check.check(bench.now).ok
    assert bench.shown == [("missing", "repaired")] * 5


async def test_symbols_take_turns_and_then_the_hours(bench, hour, candle):
    bench.live = {"BTC/USD": NOW, "ETH/USD": NOW}
    for symbol in bench.live:
        await bench.store.write([candle(n, symbol=symbol) for n in range(-13 * 60, 0)], [])
    bench.kraken = {candle(n).open_time: candle(n) for n in range(-13 * 60, 0)}
    for _ in range(2 * HOURS):
        await bench.look()
    assert [symbol for symbol, _ in bench.requested[:4]] == ["BTC/USD", "ETH/USD", "BTC/USD", "ETH/USD"]
    assert len(set(bench.requested)) == 2 * HOURS
    assert min(span.start for _, span in bench.requested) >= NOW - 718 * 60


async def test_missing_response_is_not_a_difference(bench, hour, monkeypatch):
    monkeypatch.setattr("admin_api.reconciler.self_check.RESPONSE_SECONDS", 0.05)
    await bench.store.write(hour, [])
    bench.gateway.drop(reconnect=False)
    await bench.look()
    assert bench.shown == []
    assert bench.check.body().unanswered == 1
    assert bench.check._pause() == 20


async def test_nothing_is_requested_without_a_live_feed_or_stored_candles(bench):
    await bench.look()
    bench.live = {}
    await bench.look()
    assert bench.requested == []


async def test_self_check_runs_in_the_service_and_is_in_health(world, candle):
    rows = [candle(n) for n in range(-70, 0)]
    await world.store(*rows)
    await world.client.subscribe(world.topics.history_requests())

    async def answer():
        async for event in world.client.events():
            if isinstance(event, Message):
                event.ack()
                span = decode_history_request(event.payload).range
                batch = History("BTC/USD", M1, Source.REST, span, tuple(c for c in rows if span.start <= c.open_time))
                await world.send(world.topics.history("BTC/USD", M1), encode_history(batch), retain=False)

    task = asyncio.create_task(answer())
    async with world.running(self_check_seconds=1) as http:
        await world.healthy()

        async def checked():
            return (await http.get("/health")).json()["self_check"]["candles"] >= 60

        await world.until(checked)
        await world.until_failing()
    task.cancel()
