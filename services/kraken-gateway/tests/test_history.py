"""History over REST: against the simulator and its truth, through failures, and fair to all who ask."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import httpx
import pytest

from ingress_common.bus.memory import MemoryBus
from ingress_common.model import History, HistoryRequest, Range, Source
from ingress_common.timeframes import Timeframe
from ingress_common.times import parse_rfc3339
from ingress_common.topics import Topics
from kraken_gateway.history.requests import HistoryRequests
from kraken_gateway.kraken.rest import KrakenRest
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import Outlet

pytest.importorskip("kraken_simulator", reason="the simulator is not installed")
from kraken_simulator import Simulator, SimulatorConfig
from kraken_simulator.faults import FaultRequest

HOUR = 3600
BUSY, THIN = "BTC/USD", "XRP/GBP"


@dataclass
class Desk:
    """Where history is asked for, and what came of it."""

    requests: HistoryRequests
    simulator: Simulator
    ears: object
    metrics: GatewayMetrics

    def ask(self, symbol: str, timeframe: Timeframe, start: float, end: float) -> asyncio.Event:
        acked = asyncio.Event()
        self.requests.request(HistoryRequest((symbol,), timeframe, Range(start, end)), acked.set)
        return acked

    def batches(self, symbol: str, timeframe: Timeframe = Timeframe.M1) -> list[History]:
        return [h for h in self.ears.of("history") if (h.symbol, h.timeframe) == (symbol, timeframe)]

    async def truth(self, symbol: str, start: float, end: float) -> dict[int, tuple]:
        url = f"{self.simulator.control_url}/truth/{symbol.replace('/', '-')}"
        async with httpx.AsyncClient() as http:
            answer = await http.get(url, params={"timeframe": "1m", "from": str(int(start)), "to": str(int(end))})
        names = ("open", "high", "low", "close", "volume", "trades")
        return {
            int(parse_rfc3339(row["open_time"])): tuple(float(row[name]) for name in names)
            for row in answer.json()["candles"]
        }


@asynccontextmanager
async def history_desk(broker, ears, metrics, activity: float = 0.03) -> AsyncIterator[Desk]:
    """Requests against a simulator that has traded for a day."""
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
        httpx.AsyncClient() as client,
    ):
        outlet = Outlet(bus, Topics(), metrics, simulator.rest_url)
        rest = KrakenRest(simulator.rest_url, client, metrics)
        requests = HistoryRequests(rest, outlet, metrics, lambda symbol: symbol != "NOT/OURS", time.time)
        task = asyncio.create_task(requests.run())
        yield Desk(requests, simulator, ears, metrics)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def numbers(candle) -> tuple:
    return tuple(
        float(number) for number in (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades)
    )


async def expect_truth(desk: Desk, symbol: str, start: float, end: float) -> None:
    """That the batches tell all of `[start, end)`, each moment once, in order, and as it was."""
    batches = desk.batches(symbol)
    assert batches[0].covers.start <= start
    assert batches[-1].covers.end >= end
    assert all(a.covers.end == b.covers.start for a, b in pairwise(batches))
    told = {c.open_time: numbers(c) for h in batches for c in h.candles if c.trades and c.open_time < end}
    assert told == await desk.truth(symbol, batches[0].covers.start, end)
    assert not [c for h in batches for c in h.candles[1:] if c.trades == 0]


@pytest.mark.parametrize("symbol", [BUSY, THIN])
async def test_trades_are_asked_only_for_what_ohlc_does_not_reach_and_the_answer_ascends(broker, ears, metrics, symbol):
    async with history_desk(broker, ears, metrics) as desk:
        now = time.time()
        start, end = now - 20 * HOUR, Timeframe.M1.floor(now - 60)
        acked = desk.ask(symbol, Timeframe.M1, start, end)
        await asyncio.wait_for(acked.wait(), 40)
        await expect_truth(desk, symbol, start, end)
        reach = now - 720 * 60
        batches = desk.batches(symbol)
        assert [h.source for h in batches] == [Source.TRADES] * (len(batches) - 1) + [Source.REST]
        assert reach <= batches[-1].covers.start <= reach + 240
        assert desk.requests.pending == 0
        assert desk.requests.oldest == 0


async def test_answers_begin_with_the_price_before_the_range(broker, ears, metrics):
    async with history_desk(broker, ears, metrics) as desk:
        now = Timeframe.M1.floor(time.time())
        # An hour after the last trade but one, so that the range begins in silence.
        for hours in (20, 3):
            truth = await desk.truth(THIN, now - 60 * HOUR, now - hours * HOUR)
            acked = desk.ask(THIN, Timeframe.M1, now - hours * HOUR + 60, now - (hours - 1) * HOUR)
            await asyncio.wait_for(acked.wait(), 20)
            batch = desk.batches(THIN)[-1]
            batch = next(h for h in desk.batches(THIN) if h.covers.end == batch.covers.end)
            first = batch.candles[0]
            before = {t: row for t, row in truth.items() if t < batch.covers.start}
            if first.trades:
                assert first.open_time == batch.covers.start
                continue
            opens = batch.covers.start - (60 if batch.source is Source.TRADES else 0)
            assert (first.open_time, first.source, first.infilled, first.closed) == (opens, Source.REST, True, True)
            assert {first.open, first.high, first.low, first.close, first.vwap} == {first.close}
            assert float(first.close) == before[max(before)][3]


async def test_what_is_settled_is_not_asked_for_again_when_a_later_page_fails(broker, ears, metrics):
    async with history_desk(broker, ears, metrics, activity=0.06) as desk:
        now = time.time()
        start, end = now - 20 * HOUR, Timeframe.M1.floor(now - 60)
        acked = desk.ask(BUSY, Timeframe.M1, start, end)
        await ears.until(lambda: desk.batches(BUSY), 20)
        exchange = desk.simulator.exchange
        exchange.start_fault(FaultRequest("rest_down"))
        await ears.until(lambda: desk.requests.trouble, 20)
        settled = desk.batches(BUSY)[-1].covers.end
        assert settled < end
        exchange.end_faults()
        await asyncio.wait_for(acked.wait(), 60)
        await expect_truth(desk, BUSY, start, end)
        assert not desk.requests.trouble


async def test_short_requests_do_not_wait_for_a_long_one_of_the_same_symbol(broker, ears, metrics):
    async with history_desk(broker, ears, metrics, activity=0.06) as desk:
        now = Timeframe.M1.floor(time.time())
        long = desk.ask(BUSY, Timeframe.M1, now - 20 * HOUR, now)
        await ears.until(lambda: desk.batches(BUSY), 20)
        short = desk.ask(BUSY, Timeframe.M1, now - 600, now)
        higher = desk.ask(BUSY, Timeframe.H1, now - 24 * HOUR, now)
        await asyncio.wait_for(higher.wait(), 20)
        await ears.until(lambda: [h for h in desk.batches(BUSY) if h.covers == Range(now - 600, now)], 20)
        assert not long.is_set()
        await asyncio.wait_for(long.wait(), 60)
        await asyncio.wait_for(short.wait(), 60)


async def test_pair_that_is_asked_too_often_is_asked_less_often_and_answered_in_the_end(broker, ears, metrics):
    async with history_desk(broker, ears, metrics) as desk:
        now = Timeframe.M1.floor(time.time())
        desk.simulator.exchange.start_fault(FaultRequest("rest_limit"))
        first = desk.ask(THIN, Timeframe.M1, now - 600, now)
        await ears.until(lambda: "Too many requests" in desk.requests.trouble)
        desk.simulator.exchange.end_faults()
        await asyncio.wait_for(first.wait(), 20)
        assert not desk.requests.trouble


async def test_nobody_waits_for_symbols_that_are_not_ours_or_that_kraken_does_not_have(broker, ears, metrics):
    async with history_desk(broker, ears, metrics) as desk:
        now = time.time()
        for symbol in ("NOT/OURS", "NO/PAIR"):
            await asyncio.wait_for(desk.ask(symbol, Timeframe.M1, now - 600, now).wait(), 20)
        await asyncio.wait_for(desk.ask(BUSY, Timeframe.M1, now - 600, now - 600).wait(), 20)
        assert desk.requests.pending == 0
        assert not ears.of("history")


async def test_range_that_nothing_tells_of_is_answered_with_nothing(broker, ears, metrics):
    async with history_desk(broker, ears, metrics) as desk:
        await asyncio.wait_for(desk.ask(BUSY, Timeframe.M5, 86400, 2 * 86400).wait(), 20)
        (batch,) = desk.batches(BUSY, Timeframe.M5)
        assert batch.covers.start == batch.covers.end
        assert batch.candles == ()
