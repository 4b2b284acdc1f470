"""The second look at each minute, with a Kraken that keeps updates from the live connection."""

import asyncio
import time

import pytest

from ingress_common.model import FeedCondition
from ingress_common.topics import Topics
from kraken_gateway.kraken.budget import ConnectionBudget
from kraken_gateway.kraken.connection import Kraken
from kraken_gateway.kraken.kraken_time import KrakenClock
from kraken_gateway.live.audit import Audit
from kraken_gateway.live.blindness import Blindness
from kraken_gateway.live.feed import Feed
from kraken_gateway.outlet import Outlet

LIVE = FeedCondition.LIVE


@pytest.fixture
async def world(fake_kraken, open_bus, metrics, ears):
    """A live feed of BTC/USD and ETH/USD, and an audit of it."""
    kraken = Kraken(fake_kraken.url, ConnectionBudget(time.monotonic), KrakenClock(time.time))
    feed = Feed("gw-0", kraken, open_bus, Topics(), metrics)
    feed.assign(frozenset({"BTC/USD", "ETH/USD"}), {})
    task = asyncio.create_task(feed.run())
    async with open_bus("requests", None) as bus:
        outlet = Outlet(bus, Topics(), metrics, fake_kraken.url)
        await ears.until(lambda: ears.of("feed") and len(ears.of("feed")[-1].symbols) == 2)
        yield Audit(kraken, lambda: [feed], outlet, metrics, Blindness(metrics), time.time)
    task.cancel()
    await asyncio.wait([task])


def trading(first: float, last: float, trades: int):
    """A script whose snapshots show `trades` of BTC/USD in some minutes."""

    async def script(client) -> None:
        rows = client.snapshot_rows

        def more(symbol: str) -> list[dict]:
            found = rows(symbol)
            for row in found:
                if symbol == "BTC/USD" and first <= row["begin"] <= last:
                    row["trades"] = trades
            return found

        client.snapshot_rows = more
        await client.serve()

    return script


async def test_nothing_is_published_when_nothing_was_missed(world, ears, fake_kraken):
    audit = world
    before = len(ears.of("history"))
    await audit.look()
    assert fake_kraken.attempts == 2
    assert len(ears.of("history")) == before


async def test_closed_minute_with_trades_that_the_feed_did_not_see_is_published_again(world, ears, fake_kraken):
    audit = world
    minute = time.time() // 60 * 60 - 120
    fake_kraken.scripts = [trading(minute, minute, 7)]
    await audit.look()
    await ears.until(lambda: len(ears.of("history")) == 3)
    history = ears.of("history")[-1]
    assert history.symbol == "BTC/USD"
    assert next(c for c in history.candles if c.open_time == minute).trades == 7
    assert fake_kraken.attempts == 2


async def test_feed_that_is_behind_is_restarted(world, ears, fake_kraken):
    audit = world
    fake_kraken.scripts = [trading(time.time() // 60 * 60, float("inf"), 7)]
    await audit.look()
    await ears.until(lambda: len({state.since for state in ears.of("feed") if state.state is LIVE}) == 2)
