"""The tasks inside InfluxDB: from one bucket to the next, by the aggregator's laws, with the aggregator's numbers."""

import csv
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from core_rollup import roll_up_archive
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from msgspec.structs import replace

from crypto_ingress.archive import read_archive
from ingress_common.model import Candle, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import InfluxAccess, InfluxStore, Retention, backfill_flux, task_flux

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "archive"
FOREVER = Retention(dict.fromkeys(TIMEFRAMES), ticks=None)
SYMBOL = "BTC/USDC"
START = 1_708_819_200  # 2024-02-25T00:00:00Z, a Sunday
FIELDS = ("open", "high", "low", "close", "volume", "vwap", "trades", "closed", "infilled", "complete", "source")


@asynccontextmanager
async def organisation(place: Any) -> AsyncIterator[InfluxStore]:
    """A store on an organisation of its own, with everything in it that a bootstrap makes."""
    access = InfluxAccess(f"test-{uuid4().hex[:12]}", place.token)
    async with InfluxStore(place.store_url, access, retention=FOREVER) as store:
        await store.bootstrap()
        yield store


@pytest.fixture
async def store(influx_place: Any) -> AsyncIterator[InfluxStore]:
    async with organisation(influx_place) as store:
        yield store


async def run_tasks(store: InfluxStore, start: int, stop: int) -> None:
    """All tasks, lowest first, as they follow on each other: day by day, so that no query takes long."""
    for timeframe in TIMEFRAMES[1:]:
        unit = max(timeframe, Timeframe.D1, key=lambda t: t.seconds)
        for begin in range(unit.floor(start), stop, unit.seconds):
            await store.query(backfill_flux(timeframe, max(begin, start), min(begin + unit.seconds, stop)))


async def write(store: InfluxStore, candles: Iterable[Candle]) -> None:
    rows = list(candles)
    for begin in range(0, len(rows), 5_000):
        result = await store.write(rows[begin : begin + 5_000], [])
        assert not result.rejected_candles


async def all_of(store: InfluxStore, timeframe: Timeframe, symbol: str = SYMBOL) -> list[Candle]:
    return await store.candles(symbol, timeframe, limit=1_000_000)


def assert_equal(got: list[Candle], expected: list[Candle]) -> None:
    """The same windows, and every field the same to the digit, but the vwap, a quotient, within 1e-9."""
    assert [c.open_time for c in got] == [c.open_time for c in expected]
    for one, other in zip(got, expected, strict=True):
        for name in FIELDS:
            a, b = getattr(one, name), getattr(other, name)
            if name == "vwap":
                assert float(a) == pytest.approx(float(b), rel=1e-9, abs=1e-12), (name, one, other)
            elif name != "source" or b is not Source.INFILL:
                assert a == b, (name, one, other)


def minute(number: int, price: str = "100", **changes: Any) -> Candle:
    """A closed minute, `number` minutes after START, that traded at one price."""
    p = Decimal(price)
    open_time = START + 60 * number
    plain = Candle(
        SYMBOL, Timeframe.M1, open_time, p, p, p, p, Decimal(2), p, 3, True, False, True, 0, Source.WS, open_time + 61.0
    )
    return replace(plain, **changes)


def empty(number: int, price: str = "100") -> Candle:
    return minute(number, price, volume=Decimal(0), trades=0, infilled=True, source=Source.INFILL)


@pytest.fixture(scope="module")
def archive() -> list[Candle]:
    """The archive's month, rolled up by the aggregator's core, every timeframe."""
    path = ARCHIVE / "XBTUSDC_1.csv"
    if not path.exists():
        pytest.skip(f"no Kraken archive at {path}")
    return list(roll_up_archive(SYMBOL, read_archive(path, SYMBOL, 1_675_300_000.0)))


async def test_each_bucket_equals_krakens_own_candles_and_the_tasks_alone_make_the_same(influx_place, archive):
    last = max(c.open_time for c in archive if c.timeframe is Timeframe.M1)
    first = min(c.open_time for c in archive)
    async with organisation(influx_place) as whole, organisation(influx_place) as copy:
        await write(whole, archive)
        for timeframe in (Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.D1):
            assert await differences(whole, timeframe) == []
        await write(copy, (c for c in archive if c.timeframe is Timeframe.M1))
        await run_tasks(copy, first, last + 60)
        for timeframe in TIMEFRAMES[1:]:
            # The archive begins and ends in the middle of some windows, and those are not for the tasks.
            begin = min(c.open_time for c in archive if c.timeframe is Timeframe.M1)
            inside = [
                c for c in archive if c.timeframe is timeframe and c.open_time >= begin and c.close_time <= last + 60
            ]
            assert inside
            assert_equal(await all_of(copy, timeframe), inside)


async def differences(store: InfluxStore, timeframe: Timeframe) -> list[str]:
    """Where the stored candles that traded are not Kraken's own."""
    with (ARCHIVE / f"XBTUSDC_{timeframe.minutes}.csv").open() as file:
        truth = {int(row[0]): row[1:] for row in csv.reader(file)}
    stored = {c.open_time: c for c in await all_of(store, timeframe) if c.trades}
    found = [f"{at}: only in one" for at in truth.keys() ^ stored.keys()]
    for at in truth.keys() & stored.keys():
        c = stored[at]
        got = [float(value) for value in (c.open, c.high, c.low, c.close, c.volume, c.trades)]
        if got != pytest.approx([float(value) for value in truth[at]], rel=1e-9):
            found.append(f"{at}: {got} instead of {truth[at]}")
    return found


async def test_nothing_above_a_missing_minute_is_written_until_it_is_there(store):
    rows = [minute(n, str(100 + n % 7)) for n in range(1440)]
    gone = 137
    await write(store, rows[:gone] + rows[gone + 1 :])
    await run_tasks(store, START, START + 86400)
    over = {t: t.floor(rows[gone].open_time) for t in TIMEFRAMES[1:]}
    for timeframe in TIMEFRAMES[1:-1]:
        times = [c.open_time for c in await all_of(store, timeframe)]
        expected = [t for t in range(START, START + 86400, timeframe.seconds) if t != over[timeframe]]
        assert times == expected
    await write(store, [rows[gone]])
    await run_tasks(store, START, START + 86400)
    for timeframe in TIMEFRAMES[1:-1]:
        assert len(await all_of(store, timeframe)) == 86400 // timeframe.seconds
    assert_equal(
        await all_of(store, Timeframe.D1),
        [c for c in roll_up_archive(SYMBOL, rows) if c.timeframe is Timeframe.D1],
    )


@pytest.mark.parametrize("change", [{"closed": False}, {"complete": False}])
async def test_a_minute_that_is_forming_or_incomplete_is_not_there_for_a_task(store, change):
    await write(store, [minute(n) for n in range(9)] + [minute(9, **change)])
    await run_tasks(store, START, START + 3600)
    assert [c.open_time for c in await all_of(store, Timeframe.M5)] == [START]


async def test_only_minutes_that_traded_count(store):
    rows = [empty(0, "90"), minute(1, "100"), empty(2, "100"), minute(3, "102", volume=Decimal(6)), empty(4, "102")]
    await write(store, rows)
    await run_tasks(store, START, START + 3600)
    (candle,) = await all_of(store, Timeframe.M5)
    numbers = (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.vwap, candle.trades)
    assert numbers == (100, 102, 100, 102, 8, Decimal("101.5"), 6)
    assert not candle.infilled


async def test_a_window_without_trades_is_flat_at_the_last_close(store):
    await write(store, [empty(n, "51600.1") for n in range(5)])
    await run_tasks(store, START, START + 3600)
    (candle,) = await all_of(store, Timeframe.M5)
    assert {candle.open, candle.high, candle.low, candle.close, candle.vwap} == {Decimal("51600.1")}
    assert (candle.volume, candle.trades, candle.infilled, candle.closed) == (0, 0, True, True)


async def test_trades_without_volume_have_the_last_close_as_vwap(store):
    await write(store, [minute(n, str(100 + n), volume=Decimal(0)) for n in range(5)])
    await run_tasks(store, START, START + 3600)
    (candle,) = await all_of(store, Timeframe.M5)
    assert (candle.vwap, candle.trades, candle.infilled) == (104, 15, False)


async def test_symbols_are_rolled_up_apart(store):
    rows = [minute(n, price, symbol=symbol) for n in range(5) for symbol, price in ((SYMBOL, "100"), ("ETH/USD", "7"))]
    await write(store, rows)
    await run_tasks(store, START, START + 3600)
    assert (await all_of(store, Timeframe.M5))[0].close == 100
    assert (await all_of(store, Timeframe.M5, "ETH/USD"))[0].close == 7


async def test_an_aggregators_candle_with_the_same_trades_is_left_as_it_is(store):
    children = [minute(n, "0.1", volume=Decimal("0.1")) for n in range(5)]
    theirs = replace(children[0], timeframe=Timeframe.M5, volume=Decimal("0.5"), trades=15, vwap=Decimal("0.0999"))
    await write(store, [*children, theirs])
    await run_tasks(store, START, START + 3600)
    (candle,) = await all_of(store, Timeframe.M5)
    assert candle == replace(theirs, open=candle.open)


async def test_a_late_repair_flows_up_as_a_correction_with_a_higher_revision(store):
    rows = [minute(n) for n in range(15)]
    await write(store, rows)
    await run_tasks(store, START, START + 3600)
    repaired = replace(rows[7], trades=9, volume=Decimal(5), revision=1, at=rows[7].at + 600)
    await write(store, [repaired])
    await run_tasks(store, START, START + 3600)
    five = await all_of(store, Timeframe.M5)
    assert [(c.trades, c.volume, c.revision) for c in five] == [(15, 10, 0), (21, 13, 1), (15, 10, 0)]
    (quarter,) = await all_of(store, Timeframe.M15)
    assert (quarter.trades, quarter.volume, quarter.revision) == (51, 33, 1)
    assert quarter.at == repaired.at


async def test_a_correction_of_a_price_alone_flows_up_too(store):
    rows = [minute(n) for n in range(10)]
    await write(store, rows)
    await run_tasks(store, START, START + 3600)
    await write(store, [replace(rows[7], high=Decimal(103), revision=1, at=rows[7].at + 600)])
    await run_tasks(store, START, START + 3600)
    assert [(c.high, c.revision) for c in await all_of(store, Timeframe.M5)] == [(100, 0), (103, 1)]


async def test_series_that_lack_numbers_stop_no_task(store, influx_place):
    await write(store, [minute(n) for n in range(5)])
    lines = [f"candle,exchange=x,symbol=X/Y closed=true,complete=true {START + 60 * n}" for n in range(5)]
    lines += [f"candle,exchange=x closed=true,trades=1i {START + 60 * n}" for n in range(5)]
    async with client(influx_place, store) as influx:
        await influx.write_api().write("candles_1m", record="\n".join(lines), write_precision="s")
    await run_tasks(store, START, START + 3600)
    assert [c.trades for c in await all_of(store, Timeframe.M5)] == [15]


async def test_a_forming_candle_whose_window_is_over_is_closed_by_the_task(store):
    rows = [minute(n) for n in range(5)]
    left = replace(rows[0], timeframe=Timeframe.M5, closed=False, trades=9)
    await write(store, [left, *rows])
    await run_tasks(store, START, START + 3600)
    (candle,) = await all_of(store, Timeframe.M5)
    assert (candle.closed, candle.trades, candle.revision) == (True, 15, 0)


async def test_candles_with_only_the_fields_of_the_contract_are_rolled_up_too(store, influx_place):
    lines = [
        f"candle,exchange=kraken,symbol={SYMBOL} open=1.5,high=2.0,low=1.0,close=1.75,volume=2.0,vwap=1.5,trades=3i,"
        f"closed=true,infilled=false,revision=0i {START + 60 * n}"
        for n in range(15)
    ]
    async with client(influx_place, store) as influx:
        await influx.write_api().write("candles_1m", record="\n".join(lines), write_precision="s")
    await run_tasks(store, START, START + 3600)
    (candle,) = await all_of(store, Timeframe.M15)
    assert (candle.volume, candle.trades, candle.vwap, candle.at) == (30, 45, Decimal("1.5"), START + 900)


async def test_weeks_open_on_thursday(store):
    thursday = Timeframe.W1.floor(START)
    assert datetime.fromtimestamp(thursday, UTC).strftime("%a %H:%M") == "Thu 00:00"
    day = replace(minute(0), timeframe=Timeframe.D1)
    await write(store, (replace(day, open_time=thursday + 86400 * n) for n in range(-3, 12)))
    await store.query(backfill_flux(Timeframe.W1, thursday - 30 * 86400, thursday + 30 * 86400))
    assert [c.open_time for c in await all_of(store, Timeframe.W1)] == [thursday]


async def test_the_registered_text_of_every_task_runs_on_recent_data(store, influx_place):
    now = datetime.now(UTC).timestamp()
    end = Timeframe.M15.floor(now)
    rows = [replace(minute(0), open_time=end - 60 * n, at=end - 60.0 * n) for n in range(1, 241)]
    await write(store, rows)
    async with client(influx_place, store) as influx:
        for timeframe in TIMEFRAMES[1:]:
            await influx.query_api().query_raw(task_flux(timeframe))
    assert len(await all_of(store, Timeframe.M5)) == 48
    assert len(await all_of(store, Timeframe.M15)) == 16
    assert len(await all_of(store, Timeframe.H1)) in (3, 4)


async def test_the_case_this_project_started_from(store):
    """A pair without trades from 02:15 to 02:20, asked for at 04:05: 4 h 15 min of 15m candles and the current one."""
    quiet = set(range(135, 140))
    rows = [empty(n, "107") if n in quiet else minute(n, str(100 + n // 15)) for n in range(245)]
    rows[134] = minute(134, "107")
    await write(store, rows)
    await run_tasks(store, START, START + 245 * 60)
    forming = replace(minute(240, "120"), timeframe=Timeframe.M15, closed=False)
    await write(store, [forming])
    closed = await store.newest_candles(SYMBOL, Timeframe.M15, start=START, limit=100)
    assert [c.open_time for c in closed] == [START + 900 * n for n in range(16)]
    quarter = closed[9]
    assert (quarter.open, quarter.close, quarter.trades, quarter.infilled) == (109, 109, 30, False)
    assert await store.forming(SYMBOL, Timeframe.M15) == forming
    flux = (
        f'from(bucket: "candles_15m") |> range(start: {START}, stop: {START + 260 * 60})'
        ' |> filter(fn: (r) => r._measurement == "candle" and r._field == "close")'
    )
    values = [line for line in (await store.query(flux)).split() if line.startswith(",_result")]
    assert len(values) == 17


@asynccontextmanager
async def client(place: Any, store: InfluxStore) -> AsyncIterator[InfluxDBClientAsync]:
    """The official client, as an outsider would use it."""
    url = place.url.replace("influxdb", "http", 1)
    async with InfluxDBClientAsync(url, place.token, org=store._access.org) as influx:
        yield influx
