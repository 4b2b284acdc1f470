"""The behavioural suite of the store port: what every adapter must do."""

import asyncio
from decimal import Decimal

import pytest
from msgspec.structs import replace

from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import Freshness, StoreUnavailableError

EVERYTHING = {"limit": 100_000}


async def test_written_candle_is_read_with_all_fields(world, store, candle):
    rows = [
        candle(0),
        candle(1, infilled=True, trades=0, volume=Decimal("0E-8")),
        candle(2, complete=False, revision=3),
    ]
    result = await store.write(rows, [])
    assert result.taken == 3
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), rows)


async def test_written_rows_survive_a_reopen(world, candle):
    async with world.open() as store:
        await store.bootstrap()
        await store.write([candle(0)], [])
    async with world.open() as store:
        world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [candle(0)])


async def test_writing_a_batch_twice_changes_nothing(world, store, candle):
    rows = [candle(minute) for minute in range(10)]
    ticks = [candle(0, closed=False, at=1_700_000_000.0 + n) for n in range(5)]
    for _ in range(3):
        await store.write(rows, ticks)
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), rows)
    assert len(await store.ticks("BTC/USD", start=0, end=2e9, limit=100)) == 5


async def test_a_batch_may_hold_one_candle_several_times(world, store, candle):
    first = candle(0)
    correction = replace(first, revision=1, at=first.at + 5, close=Decimal("51606.0"))
    await store.write([first, correction, first], [])
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [correction])


async def test_a_correction_replaces_the_candle_and_is_not_undone_by_the_old_one(world, store, candle):
    first = candle(0)
    correction = replace(first, revision=1, at=first.at + 5, volume=Decimal("2.5"))
    for row in (first, correction, first):
        await store.write([row], [])
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [correction])


async def test_a_forming_candle_never_replaces_a_closed_one(world, store, candle):
    closed = candle(0)
    await store.write([closed], [])
    await store.write([replace(closed, closed=False, trades=3, at=closed.at + 100)], [])
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [closed])


async def test_a_closed_candle_replaces_the_forming_one_whatever_their_times(world, store, candle):
    closed = candle(0)
    await store.write([replace(closed, closed=False, trades=3, at=closed.at + 100)], [])
    assert await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING) == []
    await store.write([closed], [])
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [closed])
    assert await store.forming("BTC/USD", Timeframe.M1) is None


async def test_forming_candle_is_separate_and_refreshed(world, store, candle):
    closed, forming = candle(0), candle(1, closed=False, at=1_700_000_070.0)
    later = replace(forming, trades=20, at=forming.at + 1)
    await store.write([closed, forming], [])
    await store.write([later], [])
    await store.write([forming], [])
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [closed])
    found = await store.forming("BTC/USD", Timeframe.M1)
    assert found is not None
    assert world.same(found, later)


async def test_there_is_no_forming_candle_where_nothing_is_newer_than_the_newest_closed_one(store, candle):
    await store.write([candle(0, closed=False), candle(1)], [])
    assert await store.forming("BTC/USD", Timeframe.M1) is None
    assert await store.forming("ETH/USD", Timeframe.M1) is None


async def test_a_range_holds_its_start_and_not_its_end(world, store, candle):
    rows = [candle(minute) for minute in range(10)]
    await store.write(rows[::-1], [])
    found = await store.candles("BTC/USD", Timeframe.M1, start=rows[2].open_time, end=rows[5].open_time, limit=100)
    world.assert_same(found, rows[2:5])
    found = await store.candles(
        "BTC/USD", Timeframe.M1, start=rows[2].open_time + 0.5, end=rows[5].open_time + 0.5, limit=9
    )
    world.assert_same(found, rows[3:6])


async def test_a_limit_takes_the_oldest_or_the_newest_both_oldest_first(world, store, candle):
    rows = [candle(minute) for minute in range(10)]
    await store.write(rows, [])
    end = rows[8].open_time
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, end=end, limit=3), rows[:3])
    world.assert_same(await store.newest_candles("BTC/USD", Timeframe.M1, end=end, limit=3), rows[5:8])


async def test_symbols_and_timeframes_are_kept_apart(world, store, candle):
    rows = [candle(0, symbol=symbol, timeframe=t) for symbol in ("BTC/USD", "BTC/EUR") for t in TIMEFRAMES]
    await store.write(rows, [])
    for row in rows:
        world.assert_same(await store.candles(row.symbol, row.timeframe, **EVERYTHING), [row])
    assert await store.symbols() == ["BTC/EUR", "BTC/USD"]


async def test_latest_names_the_newest_closed_candle_of_each_series(store, candle):
    day = candle(0, timeframe=Timeframe.D1)
    await store.write([candle(0), candle(1), candle(2, closed=False), day, candle(7, symbol="ADA/USD")], [])
    found = await store.latest()
    assert [(f.symbol, f.timeframe, f.open_time) for f in found] == [
        ("ADA/USD", Timeframe.M1, candle(7).open_time),
        ("BTC/USD", Timeframe.M1, candle(1).open_time),
        ("BTC/USD", Timeframe.D1, day.open_time),
    ]
    assert all(isinstance(f, Freshness) and f.at > 0 for f in found)


async def test_newest_closed_is_one_query_for_all_symbols(store, candle):
    await store.write([candle(0), candle(1), candle(2, closed=False), candle(7, symbol="ADA/USD")], [])
    await store.write([candle(9, timeframe=Timeframe.D1)], [])
    since = candle(1).open_time
    expected = {"BTC/USD": since, "ADA/USD": candle(7, symbol="ADA/USD").open_time}
    assert await store.newest_closed(Timeframe.M1, since=since) == expected
    del expected["BTC/USD"]
    assert await store.newest_closed(Timeframe.M1, since=since + 1) == expected
    assert await store.newest_closed(Timeframe.W1, since=0) == {}


async def test_empty_store_returns_nothing(store):
    assert await store.symbols() == []
    assert await store.latest() == []
    assert await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING) == []
    assert (await store.write([], [])).taken == 0


async def test_ticks_are_known_by_the_time_they_were_received(world, store, candle):
    ticks = [candle(0, closed=False, trades=n, at=1_700_000_000.25 + n) for n in range(1, 5)]
    await store.write([], ticks[::-1])
    world.assert_same(await store.ticks("BTC/USD", start=ticks[1].at, end=ticks[3].at, limit=10), ticks[1:3])
    assert await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING) == []


async def test_a_row_that_cannot_be_stored_is_named_and_the_rest_is_written(world, store, candle):
    bad = candle(1, trades=2**70)
    result = await store.write([candle(0), bad, candle(2)], [replace(bad, closed=False), candle(3, closed=False)])
    assert [r.index for r in result.rejected_candles] == [1]
    assert [r.index for r in result.rejected_ticks] == [0]
    assert "trades" in result.rejected_candles[0].reason
    assert result.taken == 3
    world.assert_same(await store.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [candle(0), candle(2)])


async def test_bootstrap_is_idempotent_also_when_two_do_it_at_once(world):
    async with world.open() as one, world.open() as other:
        await asyncio.gather(*(store.bootstrap() for store in (one, other) for _ in range(5)))
        result = await one.bootstrap()
        assert result.changes == ()
        assert result.state.complete
        assert (await other.inspect()).complete


async def test_two_stores_on_one_place_see_each_others_rows(world, candle):
    async with world.open() as one, world.open() as other:
        await one.bootstrap()
        await asyncio.gather(
            one.write([candle(n) for n in range(50)], []), other.write([candle(n) for n in range(25, 75)], [])
        )
        world.assert_same(await one.candles("BTC/USD", Timeframe.M1, **EVERYTHING), [candle(n) for n in range(75)])


async def test_a_batch_of_the_largest_size_is_written(world, store, candle):
    rows = [candle(minute) for minute in range(5_000)]
    assert (await store.write(rows, [])).taken == 5_000
    world.assert_same(await store.newest_candles("BTC/USD", Timeframe.M1, limit=5_000), rows)


async def test_a_closed_store_is_unavailable(world):
    async with world.open() as store:
        await store.ping()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.ping()
