"""What an audit finds, the same in every adapter."""

import pytest

from ingress_common.gaps import Gap
from ingress_common.model import Range
from ingress_common.timeframes import TIMEFRAMES, Timeframe


def gap(timeframe, first, last, symbol="BTC/USD", *, incomplete=False):
    """The hole from the open of candle `first` to the close of candle `last`."""
    return Gap(symbol, timeframe, Range(first.open_time, last.close_time), incomplete)


async def all_gaps(store, timeframe=Timeframe.M1):
    return await store.gaps(timeframe, start=0, end=2e9)


async def test_a_series_without_gaps_has_none_and_an_empty_store_neither(store, candle):
    assert await all_gaps(store) == []
    await store.write([candle(n) for n in range(100)], [])
    assert await all_gaps(store) == []


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
async def test_missing_candles_between_two_stored_ones_are_gaps(store, candle, timeframe):
    rows = [candle(n, timeframe=timeframe) for n in range(12)]
    await store.write([row for n, row in enumerate(rows) if n not in (0, 3, 6, 7, 8, 11)], [])
    assert await all_gaps(store, timeframe) == [
        gap(timeframe, rows[3], rows[3]),
        gap(timeframe, rows[6], rows[8]),
    ]


async def test_each_symbol_and_timeframe_has_its_own_gaps(store, candle):
    sparse = [candle(n) for n in (0, 2)]
    other = [candle(n, symbol="ADA/USD") for n in (0, 1, 4)]
    whole = [candle(n, symbol="ETH/USD") for n in range(5)]
    fives = [candle(n, timeframe=Timeframe.M5) for n in (0, 9)]
    await store.write([*sparse, *other, *whole, *fives], [])
    assert await all_gaps(store) == [
        gap(Timeframe.M1, candle(2), candle(3), "ADA/USD"),
        gap(Timeframe.M1, candle(1), candle(1)),
    ]


async def test_closed_candles_that_are_not_complete_are_gaps_of_their_own_kind(store, candle):
    minutes = [candle(n, complete=n not in (0, 2, 3, 7)) for n in range(8)]
    await store.write([row for n, row in enumerate(minutes) if n != 4], [])
    assert await all_gaps(store) == [
        gap(Timeframe.M1, minutes[0], minutes[0], incomplete=True),
        gap(Timeframe.M1, minutes[2], minutes[3], incomplete=True),
        gap(Timeframe.M1, minutes[4], minutes[4]),
        gap(Timeframe.M1, minutes[7], minutes[7], incomplete=True),
    ]


async def test_a_forming_candle_is_a_missing_closed_one_unless_it_is_the_newest(store, candle):
    rows = [candle(0), candle(1, closed=False, complete=False), candle(2), candle(3, closed=False, complete=False)]
    await store.write(rows, [])
    assert await all_gaps(store) == [gap(Timeframe.M1, rows[1], rows[1])]


async def test_only_the_windows_of_the_range_count_and_its_ends_are_widened_to_them(store, candle):
    rows = [candle(n) for n in range(20)]
    await store.write([rows[n] for n in (0, 4, 5, 8, 9, 12, 16)], [])
    found = await store.gaps(Timeframe.M1, start=rows[5].open_time + 59, end=rows[12].open_time + 1)
    assert found == [gap(Timeframe.M1, rows[6], rows[7]), gap(Timeframe.M1, rows[10], rows[11])]
    found = await store.gaps(Timeframe.M1, start=rows[6].open_time, end=rows[12].open_time)
    assert found == []
    assert await store.gaps(Timeframe.M1, start=rows[9].open_time, end=rows[4].open_time) == []


async def test_filled_gap_is_no_longer_a_gap(store, candle):
    rows = [candle(n) for n in range(6)]
    await store.write([rows[0], rows[5]], [])
    assert await all_gaps(store) == [gap(Timeframe.M1, rows[1], rows[4])]
    await store.write(rows[1:4], [])
    assert await all_gaps(store) == [gap(Timeframe.M1, rows[4], rows[4])]
    await store.write([candle(4, complete=False)], [])
    assert await all_gaps(store) == [gap(Timeframe.M1, rows[4], rows[4], incomplete=True)]
