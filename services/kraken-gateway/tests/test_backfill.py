"""History over REST: against the simulator and its truth, through failures, and fair to all who ask."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import httpx
import pytest
from memory_broker import MemoryBus

from ingress_common.model import History, HistoryRequest, Range, Source
from ingress_common.timeframes import Timeframe
from ingress_common.times import parse_rfc3339
from ingress_common.topics import Topics
from kraken_gateway.backfill.backfill import Backfill
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.kraken.rest import KrakenRest
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.publisher import Publisher

pytest.importorskip("kraken_simulator", reason="the simulator is not installed")
from kraken_simulator import Simulator, SimulatorConfig
from kraken_simulator.faults import FaultRequest

HOUR = 3600
BUSY, THIN = "BTC/USD", "XRP/GBP"


@dataclass
class World:
    """Where history is requested, and what arrived."""

    backfill: Backfill
    simulator: Simulator
    listener: object
    metrics: GatewayMetrics

    def request(self, symbol: str, timeframe: Timeframe, start: float, end: float) -> None:
        self.backfill.request(HistoryRequest((symbol,), timeframe, start, end))

    async def all_published(self, seconds: float = 40.0) -> None:
        await self.listener.until(lambda: self.backfill.pending == 0, seconds)
        samples = [sample for metric in self.metrics.history.collect() for sample in metric.samples]
        published = sum(sample.value for sample in samples if sample.name.endswith("_total"))
        await self.listener.until(lambda: len(self.listener.of("history")) >= published, seconds)

    def batches(self, symbol: str, timeframe: Timeframe = Timeframe.M1) -> list[History]:
        return [h for h in self.listener.of("history") if (h.symbol, h.timeframe) == (symbol, timeframe)]

    async def truth(self, symbol: str, start: float, end: float) -> dict[int, tuple]:
        url = f"{self.simulator.control_url}/truth/{symbol.replace('/', '-')}"
        async with httpx.AsyncClient() as http:
            response = await http.get(url, params={"timeframe": "1m", "from": str(int(start)), "to": str(int(end))})
        names = ("open", "high", "low", "close", "volume", "trades")
        return {
            int(parse_rfc3339(row["open_time"])): tuple(float(row[name]) for name in names)
            for row in response.json()["candles"]
        }


@asynccontextmanager
async def backfill_world(
    broker,
    listener,
    metrics,
    activity: float = 0.03,
    on_response: Callable[[httpx.Response], Awaitable[None]] | None = None,
) -> AsyncIterator[World]:
    """Requests against a simulator that has traded for a day; `on_response` is called with each REST response."""
    config = SimulatorConfig(
        port=0,
        control_port=0,
        symbols=(BUSY, THIN),
        activity=activity,
        history_weeks=80,
        epoch=time.time() - 24 * HOUR,
    )
    async with (
        Simulator(config) as simulator,
        MemoryBus(broker, client_id="gateway") as bus,
        httpx.AsyncClient(event_hooks={"response": [on_response] if on_response else []}) as client,
    ):
        publisher = Publisher(bus, Topics(), metrics, simulator.rest_url)
        rest = KrakenRest(simulator.rest_url, client, metrics, KrakenClock(time.time))
        backfill = Backfill(rest, publisher, metrics, lambda symbol: symbol != "NOT/OURS", time.time)
        task = asyncio.create_task(backfill.run())
        yield World(backfill, simulator, listener, metrics)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def numbers(candle) -> tuple:
    return tuple(
        float(number) for number in (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades)
    )


async def expect_truth(world: World, symbol: str, start: float, end: float) -> None:
    """That the batches tell all of `[start, end)`, each moment once, in order, and as it was."""
    batches = world.batches(symbol)
    assert batches[0].covers.start <= start
    assert batches[-1].covers.end >= end
    assert all(a.covers.end == b.covers.start for a, b in pairwise(batches))
    published = {c.open_time: numbers(c) for h in batches for c in h.candles if c.trades and c.open_time < end}
    assert published == await world.truth(symbol, batches[0].covers.start, end)
    assert not [c for h in batches for c in h.candles[1:] if c.trades == 0]


@pytest.mark.parametrize("symbol", [BUSY, THIN])
async def test_trades_serve_only_minutes_beyond_ohlc_in_ascending_order(broker, listener, metrics, symbol):
    async with backfill_world(broker, listener, metrics) as world:
        now = time.time()
        start, end = now - 20 * HOUR, Timeframe.M1.floor(now - 60)
        world.request(symbol, Timeframe.M1, start, end)
        await world.all_published(40)
        await expect_truth(world, symbol, start, end)
        reach = now - 720 * 60
        batches = world.batches(symbol)
        assert [h.source for h in batches] == [Source.TRADES] * (len(batches) - 1) + [Source.REST]
        assert reach <= batches[-1].covers.start <= reach + 240
        assert world.backfill.pending == 0
        assert world.backfill.oldest == 0


async def test_responses_begin_with_the_price_before_the_range(broker, listener, metrics):
    async with backfill_world(broker, listener, metrics) as world:
        now = Timeframe.M1.floor(time.time())
        # An hour after the last trade but one, so that the range begins in silence.
        for hours in (20, 3):
            truth = await world.truth(THIN, now - 60 * HOUR, now - (hours - 1) * HOUR)
            world.request(THIN, Timeframe.M1, now - hours * HOUR + 60, now - (hours - 1) * HOUR)
            await world.all_published(20)
            batch = world.batches(THIN)[-1]
            batch = next(h for h in world.batches(THIN) if h.covers.end == batch.covers.end)
            first = batch.candles[0]
            before = {t: row for t, row in truth.items() if t < batch.covers.start}
            if first.trades:
                assert first.open_time == batch.covers.start
                continue
            opens = batch.covers.start - (60 if batch.source is Source.TRADES else 0)
            assert (first.open_time, first.source, first.infilled, first.closed) == (opens, Source.REST, True, True)
            assert {first.open, first.high, first.low, first.close, first.vwap} == {first.close}
            assert float(first.close) == before[max(before)][3]


async def test_published_minutes_are_not_requested_again_when_a_later_page_fails(broker, listener, metrics):
    pages = 0

    async def break_after_the_first_page(response: httpx.Response) -> None:
        nonlocal pages
        is_page = response.url.path.endswith("/Trades")
        pages += is_page
        if is_page and pages == 1:
            world.simulator.exchange.start_fault(FaultRequest("rest_down"))

    async with backfill_world(
        broker, listener, metrics, activity=0.06, on_response=break_after_the_first_page
    ) as world:
        now = time.time()
        start, end = now - 20 * HOUR, Timeframe.M1.floor(now - 60)
        world.request(BUSY, Timeframe.M1, start, end)
        await listener.until(lambda: world.backfill.problem, 20)
        await listener.until(lambda: world.backfill.failing, 20)
        await listener.until(lambda: world.batches(BUSY), 20)
        settled = world.batches(BUSY)[-1].covers.end
        assert settled < end
        world.simulator.exchange.end_faults()
        await world.all_published(60)
        await expect_truth(world, BUSY, start, end)
        assert not world.backfill.problem
        assert not world.backfill.failing


async def test_short_requests_do_not_wait_for_a_long_one_of_the_same_symbol(broker, listener, metrics):
    async with backfill_world(broker, listener, metrics, activity=0.06) as world:
        now = Timeframe.M1.floor(time.time())
        world.request(BUSY, Timeframe.M1, now - 20 * HOUR, now)
        await listener.until(lambda: world.batches(BUSY), 20)
        world.request(BUSY, Timeframe.M1, now - 600, now)
        world.request(BUSY, Timeframe.H1, now - 24 * HOUR, now)
        await listener.until(lambda: world.batches(BUSY, Timeframe.H1), 20)
        await listener.until(lambda: [h for h in world.batches(BUSY) if h.covers == Range(now - 600, now)], 20)
        assert world.backfill.pending
        await world.all_published(60)


async def test_rate_limited_pair_is_called_less_often_and_served(broker, listener, metrics):
    async with backfill_world(broker, listener, metrics) as world:
        now = Timeframe.M1.floor(time.time())
        world.simulator.exchange.start_fault(FaultRequest("rest_limit"))
        world.request(THIN, Timeframe.M1, now - 600, now)
        await listener.until(lambda: "Too many requests" in world.backfill.problem)
        world.simulator.exchange.end_faults()
        await world.all_published(20)
        assert not world.backfill.problem


async def test_foreign_or_unknown_symbols_delay_no_request(broker, listener, metrics):
    async with backfill_world(broker, listener, metrics) as world:
        now = time.time()
        for symbol in ("NOT/OURS", "NO/PAIR"):
            world.request(symbol, Timeframe.M1, now - 600, now)
            await world.all_published()
        world.request(BUSY, Timeframe.M1, now - 600, now - 600)
        await world.all_published()
        assert world.backfill.pending == 0
        assert not listener.of("history")


async def test_range_without_candles_gets_an_empty_history(broker, listener, metrics):
    async with backfill_world(broker, listener, metrics) as world:
        world.request(BUSY, Timeframe.M5, 86400, 2 * 86400)
        await world.all_published()
        (batch,) = world.batches(BUSY, Timeframe.M5)
        assert batch.covers.start == batch.covers.end
        assert batch.candles == ()


async def test_time_before_the_first_trade_of_a_pair_is_known(broker, listener, metrics):
    async with backfill_world(broker, listener, metrics) as world:
        now = time.time()
        listing = FaultRequest("list", "NEW/USD", trades_per_minute=600.0)
        world.simulator.exchange.start_fault(listing)
        await listener.until(lambda: world.simulator.exchange.markets["NEW/USD"].last_time > now * 1e9, 20)
        start = Timeframe.H1.floor(now) - 5 * HOUR
        world.request("NEW/USD", Timeframe.H1, start, start + 2 * HOUR)
        await listener.until(lambda: world.batches("NEW/USD", Timeframe.H1), 20)
        (batch,) = world.batches("NEW/USD", Timeframe.H1)
        assert (batch.covers.start, batch.covers.end, batch.candles) == (start, start + 2 * HOUR, ())
