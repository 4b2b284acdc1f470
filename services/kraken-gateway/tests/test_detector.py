"""The detector of stale subscriptions reads every symbol after a minute, whatever stands in its way then."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.snapshots import Snapshot
from kraken_gateway.kraken.protocol import IntervalRow
from kraken_gateway.live.detector import StaleDetector
from kraken_gateway.metrics import GatewayMetrics
from waiting import until

SYMBOL = "A/USD"
MINUTE = 1_700_000_040
PRICE = Decimal("1.0")
PROMPTLY = 20.0
"""Seconds within which a reading must be published; the next minute is far away."""


@dataclass
class LiveFeed:
    """A live stream of one symbol that has received one trade less than Kraken has of the last minute."""

    name: str = "gw-0"
    wanted: frozenset[str] = frozenset({SYMBOL})
    behind: bool = False
    live: bool = True
    looks: int = 0
    processed_until: float = float("inf")
    without_updates_for: float = 0.0
    trades: dict[int, int] = field(default_factory=lambda: {MINUTE - 60: 5, MINUTE: 4, MINUTE + 60: 1})

    @property
    def stream(self):
        return self

    @property
    def caught_up(self):
        self.looks += 1
        return not self.behind

    async def next_look(self):
        """Wait until the detector has looked at this feed again."""
        looks = self.looks
        await until(lambda: self.looks > looks, PROMPTLY)

    def suspects(self):
        return {}

    def inactive_for(self):
        return {SYMBOL: 1.0}

    def unusual(self, symbol):
        return 0.0

    def is_live(self, symbol):
        return self.live

    def seen(self, symbol):
        return self.trades

    def published(self, symbol, trades):
        self.trades |= trades

    def verified(self, symbol):
        pass

    def resubscribe(self, symbol):
        pass


class Published:
    """What was published, in the publisher's place."""

    def __init__(self):
        self.batches = asyncio.Queue()

    async def history(self, history):
        await self.batches.put(history)


class Kraken:
    """Snapshots of the last minutes as Kraken has them at `now`, given as soon as `responding`."""

    def __init__(self):
        self.now = MINUTE + 60 + 4.5
        self.responding = asyncio.Event()
        self.responding.set()
        self.requested = asyncio.Event()

    def read(self, symbol, *, urgent=False):
        self.requested.set()
        return asyncio.ensure_future(self._snapshot(symbol, self.now))

    async def _snapshot(self, symbol, taken):
        await self.responding.wait()
        trades = {MINUTE - 60: 5, MINUTE: 5, MINUTE + 60: 1} if taken > MINUTE + 61 else {MINUTE - 60: 5, MINUTE: 4}
        prices = (PRICE,) * 4
        rows = tuple(
            IntervalRow.of(symbol, Timeframe.M1, minute, prices, PRICE, PRICE, n) for minute, n in trades.items()
        )
        return Snapshot(symbol, rows, taken, taken)


@asynccontextmanager
async def detecting(feed, kraken):
    published = Published()
    detector = StaleDetector(
        lambda: [feed],
        kraken,
        SimpleNamespace(),
        published,
        GatewayMetrics(CollectorRegistry()),
        pytest.fail,
        lambda: kraken.now,
    )
    kraken.now -= 60  # the first minute that it sees is not judged
    task = asyncio.create_task(detector.run())
    await asyncio.sleep(0)
    published.detector = detector
    yield published
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def correction(published):
    async with asyncio.timeout(PROMPTLY):
        history = await published.batches.get()
    return {candle.open_time: candle.trades for candle in history.candles}[MINUTE]


async def test_symbol_of_a_lagging_feed_is_read_once_it_has_caught_up():
    feed, kraken = LiveFeed(behind=True), Kraken()
    async with detecting(feed, kraken) as published:
        kraken.now += 60
        await feed.next_look()  # and finds it behind
        assert published.batches.empty()
        feed.behind = False
        assert await correction(published) == 5


async def test_reading_from_before_the_minutes_end_does_not_count_as_the_one_after_it():
    feed, kraken = LiveFeed(trades={MINUTE - 60: 5, MINUTE: 4}), Kraken()
    feed.suspects = lambda: {SYMBOL: 2.0} if not kraken.requested.is_set() else {}
    kraken.responding.clear()
    async with detecting(feed, kraken) as published:
        await kraken.requested.wait()
        kraken.now += 60
        await feed.next_look()  # the minute ends for the detector while the earlier reading is on its way
        kraken.responding.set()
        assert await correction(published) == 5


async def test_symbol_that_is_not_live_is_not_found_stale_and_gets_its_trades():
    feed, kraken = LiveFeed(live=False, trades={MINUTE - 60: 5, MINUTE: 4}), Kraken()
    async with detecting(feed, kraken) as published:
        kraken.now += 60
        assert await correction(published) == 5
        await feed.next_look()
        assert not published.detector.stale
