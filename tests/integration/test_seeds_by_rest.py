"""A book that knows nothing but seeds from REST tells the same forming candles as the trades do."""

import asyncio
import time
from decimal import Decimal

import httpx
import pytest
from prometheus_client import CollectorRegistry

from aggregator.core.book import Book, Depth
from ingress_common.bus import Message
from ingress_common.bus.memory import MemoryBroker, MemoryBus
from ingress_common.payloads import decode_history
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339
from ingress_common.topics import Topics
from kraken_gateway.history.requests import HistoryRequests
from kraken_gateway.kraken.rest import KrakenRest
from kraken_gateway.metrics import GatewayMetrics
from kraken_gateway.outlet import Outlet
from kraken_simulator import Simulator, SimulatorConfig

TOPICS = Topics()
SYMBOLS = ("BTC/USD", "ETH/USD", "ADA/USD")


async def truth(simulator: Simulator, symbol: str, timeframe: Timeframe, since: int) -> dict[int, tuple]:
    async with httpx.AsyncClient() as client:
        url = f"{simulator.control_url}/truth/{symbol.replace('/', '-')}"
        answer = await client.get(url, params={"timeframe": timeframe.value, "from": str(since)})
    return {
        int(parse_rfc3339(row["open_time"])): tuple(
            Decimal(str(row[name])) for name in ("open", "high", "low", "close", "volume", "trades")
        )
        for row in answer.json()["candles"]
    }


@pytest.mark.parametrize("activity", [1.0, 0.01])
async def test_forming_and_closed_candles_of_a_start_from_rest_equal_the_trades(activity):
    # Nothing trades meanwhile: the clock stands still in the middle of all windows.
    now = time.time() // 3600 * 3600 + 2000.5
    config = SimulatorConfig(
        port=0, control_port=0, symbols=SYMBOLS, history_weeks=20, activity=activity, rest_burst=99
    )
    broker = MemoryBroker()
    async with (
        Simulator(config, clock=lambda: now) as simulator,
        MemoryBus(broker, client_id="gateway") as bus,
        MemoryBus(broker, client_id="aggregator") as ears,
        httpx.AsyncClient() as client,
    ):
        await ears.subscribe(TOPICS.history("+", "+"))
        metrics = GatewayMetrics(CollectorRegistry())
        rest = KrakenRest(simulator.rest_url, client, metrics)
        outlet = Outlet(bus, TOPICS, metrics, simulator.rest_url)
        requests = HistoryRequests(rest, outlet, metrics, lambda _: True, lambda: now)
        task = asyncio.create_task(requests.run())
        told = [requests.latest(symbol, timeframe) for symbol in SYMBOLS for timeframe in TIMEFRAMES]
        async with asyncio.timeout(30):
            await asyncio.gather(*told)
        task.cancel()
        await asyncio.wait([task])
        books = {symbol: Book(symbol, Depth()) for symbol in SYMBOLS}
        closed = []
        events = ears.events()
        for _ in told:
            while not isinstance(event := await anext(events), Message):
                continue
            history = decode_history(event.payload)
            assert history.covers.end == pytest.approx(now, abs=0.01)
            closed += books[history.symbol].history(history)
        for symbol, book in books.items():
            forming = book.forming(now)
            assert [candle.timeframe for candle in forming] == list(TIMEFRAMES)
            candles = [*forming, *(candle for candle in closed if candle.symbol == symbol)]
            for timeframe in TIMEFRAMES:
                of_it = [candle for candle in candles if candle.timeframe is timeframe]
                true = await truth(simulator, symbol, timeframe, min(candle.open_time for candle in of_it))
                for candle in of_it:
                    numbers = (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades)
                    assert true.get(candle.open_time) == (numbers if candle.trades else None), candle
