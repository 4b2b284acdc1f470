"""Bulk reading and writing of one series, on every store."""

import csv
import io

from ingress_common.timeframes import Timeframe
from ingress_store.bulk import COLUMNS

MINUTE = 1_700_000_040 // 60 * 60


def row(minute: int, close: str = "100.5", *, trades: int = 3, revision: int = 0, at: float | None = None) -> tuple:
    time = MINUTE + 60 * minute
    numbers = ("100.0", "101.25", "99.00000012", close, "7.00000001", "100.123456789012345")
    return (time, *numbers, trades, True, not trades, True, revision, "archive", at or time + 60.0)


async def rows_of(series, start: int = MINUTE, end: int = MINUTE + 86_400) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((await series.read(start, end)).decode())))


async def test_rows_round_trip_oldest_first(store):
    series = store.series("BTC/USD", Timeframe.M1)
    assert await series.write(reversed([row(minute) for minute in range(5)])) == 5
    found = await rows_of(series)
    assert list(found[0]) == list(COLUMNS)
    assert [int(r["time"]) for r in found] == [MINUTE + 60 * minute for minute in range(5)]
    first = found[0]
    numbers = [float(first[name]) for name in ("open", "high", "low", "close", "volume")]
    assert numbers == [100.0, 101.25, 99.00000012, 100.5, 7.00000001]
    assert all("." in first[name] for name in ("open", "high", "low", "close", "volume", "vwap"))
    assert [first[name] for name in ("trades", "closed", "infilled", "complete", "revision", "source")] == [
        "3", "1", "0", "1", "0", "archive",
    ]  # fmt: skip
    assert float(first["at"]) == MINUTE + 60


async def test_bulk_rows_are_readable_as_candles(store):
    await store.series("BTC/USD", Timeframe.M5).write([row(0), row(5, trades=0)])
    one, two = await store.candles("BTC/USD", Timeframe.M5, limit=10)
    assert (one.trades, one.closed, one.infilled, one.source.value, one.at) == (3, True, False, "archive", MINUTE + 60)
    assert two.infilled
    assert await store.symbols() == ["BTC/USD"]


async def test_ranges_count_and_bounds(store, candle):
    series = store.series("BTC/USD", Timeframe.M1)
    assert await series.bounds() is None
    assert await series.count(0, 4_000_000_000) == 0
    assert await rows_of(series) == []
    await series.write([row(minute) for minute in range(10)])
    await store.series("ETH/USD", Timeframe.M1).write([row(77)])
    forming = candle(open_time=MINUTE + 600, closed=False, at=MINUTE + 605.0)
    await store.write([forming], [])
    assert await series.bounds() == (MINUTE, MINUTE + 540)
    assert await series.count(MINUTE + 120, MINUTE + 660) == 9
    found = await rows_of(series, MINUTE + 540, MINUTE + 660)
    assert [(int(r["time"]), r["closed"]) for r in found] == [(MINUTE + 540, "1"), (MINUTE + 600, "0")]


async def test_only_requested_columns_are_read(store):
    series = store.series("BTC/USD", Timeframe.M1)
    await series.write([row(0)])
    (found,) = csv.DictReader(
        io.StringIO((await series.read(MINUTE, MINUTE + 60, ("time", "close", "closed"))).decode())
    )
    assert found == {"time": str(MINUTE), "close": "100.5", "closed": "1"}


async def test_later_version_replaces_an_earlier_one(store):
    series = store.series("BTC/USD", Timeframe.M1)
    await series.write([row(0)])
    await series.write([row(0, "101.0", revision=1)])
    (found,) = await rows_of(series)
    assert (float(found["close"]), found["revision"]) == (101.0, "1")


async def test_deleted_candles_are_gone_and_no_others(store):
    series = store.series("BTC/USD", Timeframe.M1)
    await series.write([row(minute) for minute in range(4)])
    await series.delete([MINUTE + 60, MINUTE + 120])
    assert [int(r["time"]) for r in await rows_of(series)] == [MINUTE, MINUTE + 180]


async def test_many_rows_are_written_and_read_in_pieces(store):
    series = store.series("BTC/USD", Timeframe.M1)
    await series.write(row(minute) for minute in range(45_000))
    end = MINUTE + 45_000 * 60
    assert await series.count(MINUTE, end) == 45_000
    found = await rows_of(series, MINUTE, end)
    assert [int(r["time"]) for r in found] == list(range(MINUTE, end, 60))
