"""Pairs end in the middle of a day and a week, with and without an aggregator. Then everything is down for a week."""

import time

import pytest
from memory_broker import MemoryBroker

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from pair_world import StorePlace, World, on_memory, shifted, simulator
from waiting import until

DAY, WEEK = Timeframe.D1.seconds, Timeframe.W1.seconds
WHILE_IT_RAN, WHILE_IT_WAS_AWAY, TAKEN_OUT = "ADA/USD", "DOT/USD", "LTC/USD"
ENDED = (WHILE_IT_RAN, WHILE_IT_WAS_AWAY, TAKEN_OUT)

pytestmark = pytest.mark.timeout(300)


async def test_windows_of_ended_pairs_close_unchanged_after_a_week_of_downtime(tmp_path):
    broker, place = MemoryBroker(), StorePlace(f"sqlite:///{tmp_path / 'candles.db'}")
    # A quarter of a minute before the next one.
    clock = shifted((time.time() // WEEK - 3) * WEEK + 3 * DAY + 5 * 3600 + 17 * 60 + 45)
    async with simulator(clock, ("BTC/USD", *ENDED)) as kraken:
        world = World(on_memory(broker), place, clock, kraken)
        await world.start()
        minute = Timeframe.M1.floor(clock())
        await world.follow("*/USD")
        await world.restart_aggregator()
        await until(lambda: all(world.has_closed_whole(symbol, minute) for symbol in ENDED), 60.0)
        ended_at = clock()
        await world.change("delist", WHILE_IT_RAN)
        await until(lambda: len(world.endings()) == 7, 20.0)
        await world.stop_aggregator()
        left_at = clock()
        key = WHILE_IT_WAS_AWAY, Timeframe.H1, Timeframe.H1.floor(left_at)
        before = await world.truth(*key)

        async def traded_on() -> bool:
            return await world.truth(*key) != before

        await until(traded_on, 30.0, every=0.2)
        for symbol in (WHILE_IT_WAS_AWAY, TAKEN_OUT):
            await world.change("delist", symbol)
        await until(lambda: set(ENDED) <= world.rejected, 20.0)
        truths = await world.truths((WHILE_IT_RAN,), ended_at)
        truths |= await world.truths((WHILE_IT_WAS_AWAY, TAKEN_OUT), clock())
        await world.stop()
    later = shifted(clock() + 8 * DAY)
    async with simulator(later, ("BTC/USD",)) as kraken:
        again = World(on_memory(broker), place, later, kraken)
        again.closed = world.closed
        await again.start()
        await again.follow("BTC/USD", WHILE_IT_RAN, WHILE_IT_WAS_AWAY)
        await again.restart_aggregator()
        await again.expect(truths, tmp_path)
        complete = {key[0] for key in truths if key in again.closed and again.closed[key].complete}
        assert complete == {WHILE_IT_RAN}
        await until(lambda: not again.endings(), 20.0, what=again.endings)
        for symbol in ENDED:
            assert all(candle.closed for candle in again.on_the_bus(symbol).values())
        await until(lambda: len(again.on_the_bus("BTC/USD")) == len(TIMEFRAMES), 30.0)
        await again.until_healthy()
        assert again.dead_letters == []
        await again.stop()
