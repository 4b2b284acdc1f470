"""Forming candles that the bus has and the store does not get."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from admin_api.reconciler.stored_forming import FormingWatch
from admin_api.system.state import SystemState
from example import CANDLE
from ingress_common.model import Candle
from ingress_common.payloads import encode_candle
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import SqliteStore

MINUTE = Timeframe.M1.floor(1_700_000_000)
TOPICS = Topics()


class Market:
    """Symbols that trade on the bus, and a writer that stores what it gets."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now = MINUTE + 2.0
        self._state = SystemState(TOPICS)
        self._watch = FormingWatch(store, self._state)

    async def trade(self, symbol: str, *, stored: bool) -> Candle:
        candle = replace(CANDLE, symbol=symbol, open_time=Timeframe.M1.floor(self.now), at=self.now, closed=False)
        self._state.apply(TOPICS.candles(symbol, Timeframe.M1), encode_candle(candle), self.now)
        if stored:
            await self.store.write([candle], [])
        return candle

    async def look_after(self, seconds: float) -> str:
        """Let time pass; the problem then."""
        self.now += seconds
        await self._watch.look({"BTC/USD", "ETH/USD"}, self.now)
        return self._watch.problem


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with SqliteStore(tmp_path / "candles.db", clock=lambda: market.now) as store:
        market = Market(store)
        yield market


async def test_a_store_that_gets_no_forming_candles_is_noticed_within_twelve_seconds(market):
    for _ in range(5):
        await market.trade("BTC/USD", stored=True)
        assert await market.look_after(2) == ""
    started = market.now
    problem = ""
    while not problem and market.now < started + 20:
        await market.trade("BTC/USD", stored=False)
        problem = await market.look_after(2)
    assert market.now - started <= 12
    assert problem.startswith("forming candles do not reach the store: BTC/USD 1m of ")


async def test_it_is_well_again_once_a_candle_that_is_seen_later_is_stored(market):
    for _ in range(6):
        await market.trade("BTC/USD", stored=False)
        await market.look_after(2)
    await market.trade("ETH/USD", stored=True)
    for _ in range(4):
        await market.look_after(2)
    assert await market.look_after(0) == ""


async def test_one_lost_candle_in_a_quiet_market_is_no_problem(market):
    await market.trade("BTC/USD", stored=False)
    for _ in range(10):
        assert await market.look_after(2) == ""


async def test_a_newer_state_of_the_candle_is_enough(market):
    for _ in range(12):
        await market.trade("BTC/USD", stored=False)
        await market.trade("ETH/USD", stored=False)
        await market.look_after(1)
        await market.trade("BTC/USD", stored=True)
        await market.trade("ETH/USD", stored=True)
        assert await market.look_after(1) == ""


async def test_a_candle_whose_minute_is_over_is_not_looked_for(market):
    market.now = MINUTE + 52.0
    for _ in range(3):
        await market.trade("BTC/USD", stored=False)
        await market.look_after(2)
    for _ in range(5):
        assert await market.look_after(2) == ""


async def test_what_an_earlier_run_retained_is_not_looked_for(market):
    old = replace(CANDLE, open_time=MINUTE, at=MINUTE + 1.0, closed=False)
    market.now = MINUTE + 20.0
    market._state.apply(TOPICS.candles("BTC/USD", Timeframe.M1), encode_candle(old), market.now)
    for _ in range(10):
        assert await market.look_after(2) == ""
