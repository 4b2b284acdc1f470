"""Forming candles that the bus has and the store does not get."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from admin_api.reconciler.stored_forming import FormingWatch
from admin_api.system.state import SystemState
from example import CANDLE
from ingress_common.model import Candle, InstanceState, Status
from ingress_common.payloads import encode_candle, encode_status
from ingress_common.timeframes import Timeframe
from ingress_common.topics import Topics
from ingress_store import SqliteStore

MINUTE = Timeframe.M1.floor(1_700_000_000)
TOPICS = Topics()
LIMIT = 10.0


class Market:
    """Symbols that trade on the bus, and writers that store what they get: `a` has BTC/USD, `b` ETH/USD."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.symbols = {"a": ["BTC/USD"], "b": ["ETH/USD"]}
        self.now = MINUTE - 3.0
        self._state = SystemState(TOPICS)
        self.watch = FormingWatch(store, self._state, LIMIT)
        self.online("a", "b")
        self.now = MINUTE + 2.0

    def publish(self, candle: Candle) -> None:
        self._state.apply(TOPICS.candles(candle.symbol, Timeframe.M1), encode_candle(candle), self.now)

    async def trade(self, symbol: str, *, stored: bool, trades: int = 1) -> Candle:
        candle = replace(
            CANDLE, symbol=symbol, open_time=Timeframe.M1.floor(self.now), at=self.now, trades=trades, closed=False
        )
        self.publish(candle)
        if stored:
            await self.store.write([candle], [])
        return candle

    def offline(self, writer: str) -> None:
        status = Status("influx-writer", writer, InstanceState.OFFLINE, "1", 0.0)
        self._state.apply(TOPICS.status("influx-writer", writer), encode_status(status), self.now)

    def online(self, *writers: str, started_at: float = 0.0) -> None:
        """The writers publish their statuses."""
        for writer in writers:
            details = {"symbols": self.symbols[writer]}
            status = Status("influx-writer", writer, InstanceState.ONLINE, "1", started_at, details)
            self._state.apply(TOPICS.status("influx-writer", writer), encode_status(status), self.now)

    async def look_after(self, seconds: float) -> str:
        """Let time pass; the problem then."""
        self.now += seconds
        self.online("a", "b")
        await self.watch.look({"BTC/USD", "ETH/USD"}, self.now)
        return self.watch.problem(self.now)

    async def seconds_to_a_problem(self, *lost: str, stored: str = "", every: float = 2, at_most: float = 30) -> float:
        """Seconds until the symbols `lost`, which trade on and are not stored, are a problem."""
        started = self.now
        while self.now < started + at_most:
            for symbol in lost:
                await self.trade(symbol, stored=False)
            if stored:
                await self.trade(stored, stored=True)
            if await self.look_after(every):
                break
        return self.now - started


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with SqliteStore(tmp_path / "candles.db", clock=lambda: market.now) as store:
        market = Market(store)
        yield market


@pytest.mark.parametrize("second", [2, 20, 45, 50, 53, 56, 59])
async def test_a_store_that_gets_no_forming_candles_is_noticed_at_any_second_of_a_minute(market, second):
    market.now = MINUTE + second
    for _ in range(5):
        await market.trade("BTC/USD", stored=True)
        assert await market.look_after(2) == ""
    assert await market.seconds_to_a_problem("BTC/USD", "ETH/USD") <= LIMIT + 4


async def test_one_trade_that_is_lost_is_enough(market):
    await market.trade("BTC/USD", stored=False)
    for _ in range(7):
        problem = await market.look_after(2)
    assert problem == "forming candles do not reach the store: BTC/USD 1m of 2023-11-14T22:13:02Z (a)"


async def test_one_of_two_writers_that_stores_nothing_is_noticed_and_stays_so(market):
    assert await market.seconds_to_a_problem("BTC/USD", stored="ETH/USD") <= LIMIT + 4
    for _ in range(8):
        await market.trade("ETH/USD", stored=True)
        assert "BTC/USD" in await market.look_after(2)


async def test_one_symbol_of_several_that_is_not_stored_is_noticed_and_stays_so(market):
    market.symbols = {"a": ["BTC/USD", "ETH/USD"], "b": []}
    problems = []
    for second in range(30):
        await market.trade("ETH/USD", stored=True)
        market.now += 0.5
        if second % 3 == 0:
            await market.trade("BTC/USD", stored=False)
        problems.append(await market.look_after(0.5))
    first = next(second for second, problem in enumerate(problems) if problem)
    assert first <= LIMIT + 4
    assert all("BTC/USD" in problem for problem in problems[first:])


async def test_one_candle_that_the_bus_lost_is_no_problem_beside_others(market):
    market.symbols = {"a": ["BTC/USD", "ETH/USD"], "b": []}
    await market.trade("BTC/USD", stored=False)
    for _ in range(20):
        assert await market.look_after(2) == ""
        await market.trade("ETH/USD", stored=True)


@pytest.mark.parametrize("how", ["restarted", "disconnected", "everybody disconnected"])
async def test_what_was_published_while_a_writer_was_away_is_not_followed(market, how):
    market.now = MINUTE + 4
    await market.trade("BTC/USD", stored=False)
    market.now += 1
    if how == "restarted":
        market.online("a", started_at=1.0)
    elif how == "disconnected":
        market.offline("a")
        market.online("a")
    else:
        market.watch.reconnected(market.now)
    for _ in range(20):
        assert await market.look_after(2) == ""
    await market.trade("BTC/USD", stored=False)
    assert await market.seconds_to_a_problem("BTC/USD") <= LIMIT + 4


async def test_later_stored_candle_of_the_writer_clears_the_problem(market):
    await market.seconds_to_a_problem("BTC/USD")
    await market.trade("BTC/USD", stored=True)
    assert await market.look_after(2) == ""


async def test_closed_candle_counts_as_stored(market):
    market.now = MINUTE + 50
    closed = replace(await market.trade("BTC/USD", stored=False), closed=True, at=MINUTE + 61.0)
    for _ in range(5):
        assert await market.look_after(2) == ""
    await market.store.write([closed], [])
    for _ in range(10):
        assert await market.look_after(2) == ""


async def test_thin_market_is_no_problem_once_its_traded_minute_is_stored(market):
    """Its next minute, without trades, was lost too, and nobody publishes that again before it closes."""
    market.now = MINUTE + 52
    closed = replace(await market.trade("BTC/USD", stored=False), closed=True, at=MINUTE + 61.0)
    assert await market.look_after(2) == ""
    market.now = MINUTE + 61
    await market.trade("BTC/USD", stored=False, trades=0)
    await market.look_after(4)
    assert "BTC/USD" in await market.look_after(4)
    await market.store.write([closed], [])
    for _ in range(30):
        assert await market.look_after(2) == ""


async def test_a_slow_store_is_no_problem_as_long_as_candles_arrive_within_the_limit(market):
    late: list[Candle] = []
    for _ in range(20):
        late.append(await market.trade("BTC/USD", stored=False))
        assert await market.look_after(2) == ""
        if len(late) > 4:
            await market.store.write([late.pop(0)], [])


async def test_unstored_forming_candle_is_dropped_once_its_minute_must_have_closed(market):
    market.now = MINUTE + 50
    await market.trade("BTC/USD", stored=False)
    for _ in range(6):
        await market.look_after(2)
    assert await market.look_after(15) == ""


@pytest.mark.parametrize("at", [MINUTE + 1.0, MINUTE + 86_400.0])
async def test_old_retained_and_future_candles_are_not_followed(market, at):
    market.now = MINUTE + 20.0
    market.publish(replace(CANDLE, open_time=MINUTE, at=at, closed=False))
    for _ in range(10):
        assert await market.look_after(2) == ""
    assert await market.seconds_to_a_problem("ETH/USD") <= LIMIT + 4
