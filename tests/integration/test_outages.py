"""Hours without Kraken, on a simulated clock: nothing is made up meanwhile, and nothing is missing or wrong afterwards.

The real services in one process, on the in-memory bus and SQLite, with the simulator as Kraken. All of them read one
clock, which is moved on by hours while the outage lasts.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from memory_broker import MemoryBroker, MemoryBus
from prometheus_client import CollectorRegistry

from aggregator.service import Aggregator
from influx_writer.writer import SESSION_SECONDS, Writer
from ingress_common.bus import LastWill, Message
from ingress_common.model import Candle, FeedCondition, HistoryRequest, Range
from ingress_common.payloads import decode_candle, decode_feed_state, encode_history_request
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_common.times import parse_rfc3339
from ingress_store import CandleStore, open_store, parse_store_url
from kraken_gateway.service import GatewayService
from kraken_simulator import Simulator, SimulatorConfig
from kraken_simulator.faults import FaultRequest
from pipeline import TOPICS, aggregator_on, gateway_of, writer_on

SYMBOLS = ("BTC/USD", "SOL/USD", "XRP/GBP", "NANO/EUR")
ACTIVITY = 0.03
"""Five trades a minute, one in two minutes, one an hour, one a day."""

WEEK_ENDS = 1_709_164_800  # Thursday 2024-02-29T00:00:00Z
HOUR = 3600

pytestmark = pytest.mark.timeout(240)


class World:
    """Kraken, the services, and who listens."""

    def __init__(self, start: float, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.published: list[Candle] = []
        self._offset = start - time.time()
        self._frozen: float | None = None
        self._store_url = f"sqlite:///{folder / 'candles.db'}"
        self.aggregators = 0

    # --- time ---

    def clock(self) -> float:
        return self._frozen if self._frozen is not None else time.time() + self._offset

    def pass_by(self, seconds: float) -> None:
        self._offset += seconds

    def stop_the_clock(self) -> None:
        self._frozen = self.clock()

    # --- services ---

    def bus(self, client_id: str, will: LastWill | None = None, **limits: int) -> MemoryBus:
        return MemoryBus(self.broker, client_id=client_id, will=will, **limits)

    def store(self) -> CandleStore:
        return open_store(parse_store_url(self._store_url), clock=self.clock)

    def gateway(self, simulator: Simulator) -> GatewayService:
        return gateway_of(simulator, SYMBOLS, CollectorRegistry(), self.bus, self.clock)

    def aggregator(self) -> Aggregator:
        self.aggregators += 1
        bus = self.bus(f"aggregator-{self.aggregators}", session_expiry=60, inbound_limit=1000)
        return aggregator_on(bus, CollectorRegistry(), self.clock)

    def writer(self) -> Writer:
        bus = self.bus("writer", session_expiry=SESSION_SECONDS, inbound_limit=8_000)
        return writer_on(bus, self.bus("writer-control"), self.store(), CollectorRegistry(), self.clock)

    # --- what they say ---

    async def listen(self) -> None:
        async with self.bus("listener", inbound_limit=60_000) as bus:
            await bus.subscribe(TOPICS.candles("+", "+"))
            async for event in bus.events():
                if isinstance(event, Message):
                    self.published.append(decode_candle(event.payload))
                    event.ack()

    def live(self) -> bool:
        states = [decode_feed_state(p) for topic, p in self.broker.retained.items() if "/feed/" in topic]
        return bool(states) and all(state.state is FeedCondition.LIVE for state in states)

    def retained(self, symbol: str, timeframe: Timeframe) -> Candle | None:
        payload = self.broker.retained.get(TOPICS.candles(symbol, timeframe))
        return decode_candle(payload) if payload else None


class Outage:
    """A running world whose Kraken can go away for hours."""

    def __init__(self, world: World, simulator: Simulator, store: CandleStore, http: httpx.AsyncClient) -> None:
        self.world = world
        self.simulator = simulator
        self.store = store
        self.http = http
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.first: dict[tuple[str, Timeframe], int] = {}

    def start(self, service: Any) -> None:
        self.tasks[service.name] = asyncio.create_task(service.run(), name=service.name)

    async def stop(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.wait([task])

    async def until(self, condition: Callable[[], Awaitable[str | None]], seconds: float) -> None:
        """Wait until `condition` complains no more."""
        deadline = time.monotonic() + seconds
        while (complaint := await condition()) is not None:
            for task in self.tasks.values():
                assert not task.done() or task.exception() is None, f"{task.get_name()} ended: {task.exception()!r}"
            assert time.monotonic() < deadline, complaint
            await asyncio.sleep(0.2)

    async def all_is_seeded(self) -> str | None:
        missing = [f"{s} {t.value}" for s in SYMBOLS for t in TIMEFRAMES if self.world.retained(s, t) is None]
        return f"nothing retained of {', '.join(missing)}" if missing or not self.world.live() else None

    async def feed_is_down(self) -> str | None:
        return "the feed is live" if self.world.live() else None

    async def feed_is_live(self) -> str | None:
        return None if self.world.live() else "the feed is down"

    # --- truth ---

    async def truth(self, symbol: str, timeframe: Timeframe, start: float) -> dict[int, dict[str, Any]]:
        """What traded from `start` (unix seconds) on, by open time."""
        url = f"{self.simulator.control_url}/truth/{symbol.replace('/', '-')}"
        answer = await self.http.get(url, params={"timeframe": timeframe.value, "from": str(int(start))})
        candles = json.loads(answer.raise_for_status().text, parse_float=Decimal)["candles"]
        return {int(parse_rfc3339(candle["open_time"])): candle for candle in candles}

    async def note_what_is_stored(self) -> None:
        """From now on every series must continue without a gap from where it begins."""
        for symbol in SYMBOLS:
            for timeframe in TIMEFRAMES:
                if candles := await self.store.candles(symbol, timeframe, limit=1):
                    self.first[symbol, timeframe] = candles[0].open_time

    async def store_is_true(self) -> str | None:
        for symbol in SYMBOLS:
            for timeframe in TIMEFRAMES:
                if complaint := await self._series_is_true(symbol, timeframe):
                    return f"{symbol} {timeframe.value}: {complaint}"
        return None

    async def _series_is_true(self, symbol: str, timeframe: Timeframe) -> str | None:
        candles = {c.open_time: c for c in await self.store.candles(symbol, timeframe, limit=20_000)}
        # What ended within the last seconds may be on its way.
        last = timeframe.floor(self.world.clock() - 5.0) - timeframe.seconds
        first = self.first.get((symbol, timeframe), min(candles, default=last))
        truth = await self.truth(symbol, timeframe, first - 52 * 7 * 86400)
        if not candles and first > last:
            return None
        closes = {open_time: candle["close"] for open_time, candle in truth.items()}
        price = next((closes[t] for t in sorted(closes, reverse=True) if t < first), None)
        for open_time in range(first, max(last, max(candles, default=last)) + 1, timeframe.seconds):
            if (candle := candles.get(open_time)) is None:
                return f"expected a candle at {open_time}, there is none; last {last}, newest {max(candles, default=0)}"
            if complaint := contradiction(candle, truth.get(open_time), price):
                return complaint
            price = candle.close
        return None

    def retained_is_complete(self) -> str | None:
        for symbol in SYMBOLS:
            for timeframe in TIMEFRAMES:
                candle = self.world.retained(symbol, timeframe)
                if candle is None or not candle.complete:
                    return f"{symbol} {timeframe.value}: expected a complete candle to be retained, got {candle}"
        return None

    async def retained_is_true(self) -> str | None:
        """The newest of each series on the bus; with the clock stopped the market does not move."""
        for symbol in SYMBOLS:
            for timeframe in TIMEFRAMES:
                window = timeframe.floor(self.world.clock())
                candle = self.world.retained(symbol, timeframe)
                truth = await self.truth(symbol, timeframe, window - 52 * 7 * 86400)
                before = [truth[t]["close"] for t in sorted(truth) if t < (candle.open_time if candle else 0)]
                if candle is None or candle.open_time not in (window, window - timeframe.seconds):
                    return f"{symbol} {timeframe.value}: expected the candle of {window} to be retained, got {candle}"
                if complaint := contradiction(candle, truth.get(candle.open_time), before[-1] if before else None):
                    return f"{symbol} {timeframe.value}: retained: {complaint}"
        return None


def contradiction(candle: Candle, true: dict[str, Any] | None, price: Decimal | None) -> str | None:
    """What `candle` says that is not so; `price` is the last one before it."""
    if not candle.complete:
        return f"expected a complete candle, got {candle}"
    if true is None:
        flat = {candle.open, candle.high, candle.low, candle.close, candle.vwap}
        if not candle.infilled or candle.trades or candle.volume or flat != {price}:
            return f"expected a flat candle at {price}, got {candle}"
        return None
    said = (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades)
    happened = tuple(true[name] for name in ("open", "high", "low", "close", "volume", "trades"))
    return None if said == happened and not candle.infilled else f"expected {true}, got {candle}"


@asynccontextmanager
async def running(start: float, folder: Path) -> AsyncIterator[Outage]:
    world = World(start, folder)
    config = SimulatorConfig(port=0, control_port=0, symbols=SYMBOLS, activity=ACTIVITY, history_weeks=80)
    async with (
        Simulator(config, clock=world.clock) as simulator,
        world.store() as store,
        httpx.AsyncClient(timeout=30) as http,
    ):
        outage = Outage(world, simulator, store, http)
        outage.tasks["listener"] = asyncio.create_task(world.listen(), name="listener")
        for service in (world.writer(), world.aggregator(), world.gateway(simulator)):
            outage.start(service)
        try:
            yield outage
        finally:
            for name in reversed(outage.tasks.copy()):
                await outage.stop(name)


async def kraken_is_away(outage: Outage, hours: float, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
    """From a world in which all is well to the end of an outage in which nothing may be made up."""
    await outage.until(outage.all_is_seeded, 60)
    await outage.until(outage.store_is_true, 60)
    await outage.note_what_is_stored()
    began = outage.world.clock()
    exchange = outage.simulator.exchange
    exchange.start_fault(FaultRequest("outage", seconds=86_400))
    await outage.until(outage.feed_is_down, 30)
    heard = len(outage.world.published)
    outage.world.pass_by(hours * HOUR)
    if meanwhile is not None:
        await meanwhile()
    refused = exchange.stats.connections_refused

    async def retried() -> str | None:
        return None if exchange.stats.connections_refused >= refused + 2 else "the gateway does not try to come back"

    await outage.until(retried, 60)
    for candle in outage.world.published[heard:]:
        assert candle.open_time <= began, f"made up during the outage: {candle}"
        assert not (candle.closed and candle.close_time > began), f"closed during the outage: {candle}"
    newest = [await outage.store.newest_candles(symbol, Timeframe.M1, limit=1) for symbol in SYMBOLS]
    assert all(candle.close_time <= began for candles in newest for candle in candles)
    exchange.end_faults()


async def all_is_repaired(outage: Outage, seconds: float) -> None:
    await outage.until(outage.feed_is_live, 60)
    minute_over = Timeframe.M1.ceil(outage.world.clock()) + 6

    async def minute_is_over() -> str | None:
        return "the minute in which Kraken came back lasts" if outage.world.clock() < minute_over else None

    async def all_is_true() -> str | None:
        return await outage.store_is_true() or outage.retained_is_complete()

    await outage.until(minute_is_over, 80)
    await outage.until(all_is_true, seconds)
    outage.world.stop_the_clock()
    await outage.until(outage.retained_is_true, 8)


async def test_three_hours_without_kraken_are_repaired(tmp_path):
    async with running(WEEK_ENDS - HOUR - 20, tmp_path) as outage:
        await kraken_is_away(outage, 3)
        await all_is_repaired(outage, 60)


async def test_twenty_hours_without_kraken_are_repaired(tmp_path):
    async with running(WEEK_ENDS - 10 * HOUR - 20, tmp_path) as outage:
        await kraken_is_away(outage, 20)
        await all_is_repaired(outage, 90)


async def test_aggregator_restart_during_three_hours_without_kraken_is_repaired(tmp_path):
    async with running(WEEK_ENDS - HOUR - 20, tmp_path) as outage:

        async def restart_aggregator() -> None:
            await outage.stop(Aggregator.name)
            outage.start(outage.world.aggregator())

        await kraken_is_away(outage, 3, restart_aggregator)
        await all_is_repaired(outage, 60)


async def test_aggregator_restart_during_twenty_hours_without_kraken_fills_requested_ranges(tmp_path):
    async with running(WEEK_ENDS - 10 * HOUR - 20, tmp_path) as outage:
        began = outage.world.clock()

        async def restart_aggregator() -> None:
            await outage.stop(Aggregator.name)
            outage.start(outage.world.aggregator())

        async def repair_until_all_is_true() -> None:
            # What is older than an aggregator's memory somebody has to ask for: whole hours, again and again.
            span = Range(Timeframe.H1.floor(began), Timeframe.H1.ceil(outage.world.clock() - 12 * HOUR))
            async with outage.world.bus("repair") as bus:
                while await outage.store_is_true():
                    request = HistoryRequest(SYMBOLS, Timeframe.M1, span.start, span.end)
                    await bus.publish(TOPICS.history_requests(), encode_history_request(request))
                    await asyncio.sleep(20)

        await kraken_is_away(outage, 20, restart_aggregator)
        await outage.until(outage.feed_is_live, 60)
        outage.tasks["repair"] = asyncio.create_task(repair_until_all_is_true(), name="repair")
        await all_is_repaired(outage, 90)
