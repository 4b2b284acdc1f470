"""Archive files into a store: what is in afterwards, whatever happens on the way."""

import bz2
import gzip
import io
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from archive_files import rolled_up, write_minutes
from stores import STORES, all_as_kept, damage, killed, open_store, stored, write_second_series

from crypto_ingress.archive import ArchiveError
from crypto_ingress.errors import CommandError
from crypto_ingress.history import pieces, weeks
from crypto_ingress.history.commands import Verification, import_files, rollup, verify
from crypto_ingress.history.files import find_files
from crypto_ingress.history.importing import Importer
from crypto_ingress.history.reports import SymbolReport, report_lines
from crypto_ingress.history.zips import opened_member, whole_members
from ingress_common.model import Candle, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import StoreUnavailableError
from ingress_store.influx.server import Server

WEEK = Timeframe.W1.seconds
START = 2770 * WEEK  # 2023-02-02, a Thursday
NOW = START + 10 * WEEK


def some_minutes(start: int = START, count: int = 12_000, every: int = 2) -> list[tuple]:
    """Every second minute of two weeks and a half."""
    return [
        (
            start + 60 * i * every,
            f"{100 + i % 7}.5",
            f"{108 + i % 3}",
            "99.25",
            f"{100 + (i + 1) % 7}.5",
            f"0.{i % 97:05d}",
            1 + i % 5,
        )
        for i in range(count)
    ]


SOME = some_minutes(count=200, every=1)
on_both_stores = pytest.mark.parametrize("store", STORES, indirect=True)


@pytest.fixture(params=["sqlite"])
async def store(request):
    async with open_store(request) as opened:
        await opened.bootstrap()
        yield opened


@pytest.fixture
def file(tmp_path) -> Path:
    return write_minutes(tmp_path / "XBTUSD_1.csv", some_minutes())


async def import_(store, *paths: Path, symbol: str | None = None, now: float = NOW) -> SymbolReport:
    found = find_files(paths, symbol)
    symbols = {file.symbol for file in found.files}
    assert len(symbols) <= 1
    report = await Importer(store, lambda: now, lambda *_: None).run(symbols.pop() if symbols else "?", found.files)
    report.note(found.problems)
    return report


def text_of(report: SymbolReport) -> str:
    return "\n".join(report_lines(report))


@on_both_stores
async def test_import_stores_what_the_roll_up_makes(store, file):
    report = await import_(store, file)
    assert await stored(store) == all_as_kept(store, rolled_up(file))
    assert (report.symbol, report.rows, report.odd) == ("BTC/USD", 12_000, False)
    for timeframe in TIMEFRAMES:
        candles = await store.candles("BTC/USD", timeframe, limit=100)
        assert all(c.closed and c.complete and c.revision == 0 and c.at == c.close_time for c in candles)
        sources = {Source.ARCHIVE, Source.INFILL} if timeframe is Timeframe.M1 else {Source.ROLLUP, Source.INFILL}
        assert {c.source for c in candles} <= sources


@on_both_stores
async def test_second_import_changes_nothing(store, file):
    await import_(store, file)
    before = await stored(store)
    report = await import_(store, file)
    assert sum(report.written.values()) == 0
    assert report.there == sum(map(len, before.values()))
    assert await stored(store) == before


@pytest.mark.parametrize(
    ("store", "kill_at"),
    [*(("sqlite", kill_at) for kill_at in (0, 1, 2, 5, 8, 13, 17)), ("influx", 4)],
    indirect=["store"],
)
async def test_killed_import_resumes(store, file, monkeypatch, kill_at):
    monkeypatch.setattr(weeks, "WEEKS_AT_ONCE", 1)
    with killed(store, kill_at):
        await import_(store, file)
    report = await import_(store, file)
    assert await stored(store) == all_as_kept(store, rolled_up(file))
    assert not report.odd


@pytest.mark.parametrize("store", ["influx"], indirect=True)
@pytest.mark.parametrize("lost", [0, 3, 8])
async def test_rows_that_influxdb_acknowledges_and_loses_are_rewritten(store, file, monkeypatch, lost):
    monkeypatch.setattr(weeks, "WEEKS_AT_ONCE", 1)
    monkeypatch.setattr(Server, "write", losing(lost))
    report = await import_(store, file)
    assert await stored(store) == all_as_kept(store, rolled_up(file))
    assert not report.odd


@pytest.mark.parametrize("store", ["influx"], indirect=True)
async def test_replaced_rows_that_influxdb_loses_are_rewritten(store, file, monkeypatch):
    rows = some_minutes()
    rows[1000] = (*rows[1000][:5], "123.5", 7)
    await import_(store, file)
    monkeypatch.setattr(Server, "write", losing(0))
    await import_(store, write_minutes(file, rows))
    assert await stored(store) == all_as_kept(store, rolled_up(file))


@pytest.mark.parametrize("store", ["influx"], indirect=True)
async def test_rows_of_another_program_beside_ours_do_not_count_as_lost(store, file):
    # InfluxDB keeps them apart by their tag more; they are older than the file's and have other prices.
    for row in some_minutes()[:50]:
        time = row[0]
        numbers = ("7.5",) * 4 + ("1.0", "7.5", 1)
        await write_second_series(store, Timeframe.M1, (time, *numbers, True, False, True, 0, "rollup", time - 60.0))
    report = await import_(store, file)
    assert not report.odd
    assert report.replaced == 50
    found = {timeframe: [c for c in candles if c[1] != 7.5] for timeframe, candles in (await stored(store)).items()}
    assert found == all_as_kept(store, rolled_up(file))
    assert not any((await import_(store, file)).written.values())


@pytest.mark.parametrize("store", ["influx"], indirect=True)
async def test_a_store_that_keeps_nothing_ends_the_import(store, file, monkeypatch):
    monkeypatch.setattr(Server, "write", losing(*range(1000)))
    with pytest.raises(StoreUnavailableError, match="acknowledged are not there"):
        await import_(store, file)


def losing(*numbers: int) -> Callable[..., Awaitable[None]]:
    """A `Server.write` that acknowledges these requests, counted from 0, without writing them."""
    write, requests = Server.write, itertools.count()

    async def lossy(server: Server, bucket: str, precision: str, body: bytes) -> None:
        if next(requests) not in numbers:
            await write(server, bucket, precision, body)

    return lossy


def live(open_time: int, timeframe: Timeframe = Timeframe.M1, **fields) -> Candle:
    minute = Candle(
        symbol="BTC/USD", timeframe=timeframe, open_time=open_time, open=Decimal("100.5"), high=Decimal(108),
        low=Decimal("99.25"), close=Decimal("101.5"), volume=Decimal(7), vwap=Decimal(101), trades=9, closed=True,
        infilled=False, complete=True, revision=0, source=Source.WS, at=open_time + timeframe.seconds + 1.2,
    )  # fmt: skip
    return msgspec.structs.replace(minute, **fields)


@on_both_stores
async def test_live_candle_stays_and_differences_of_the_file_are_reported(store, file):
    assert (await store.write([live(START + 600), live(START, Timeframe.H1)], [])).taken == 2
    report = await import_(store, file)
    (minute,) = await store.candles("BTC/USD", Timeframe.M1, start=START + 600, end=START + 660, limit=1)
    (hour,) = await store.candles("BTC/USD", Timeframe.H1, start=START, end=START + 3600, limit=1)
    assert minute == live(START + 600)
    assert hour == live(START, Timeframe.H1)
    assert report.kept == 2
    assert "trades 1 in the file, 9 in the store" in text_of(report)
    assert report.odd


@pytest.mark.parametrize("text", ["abc", "", "inf"])
async def test_stored_price_that_is_no_number_gives_way_or_is_reported(store, file, text):
    await import_(store, file)
    before = await stored(store)
    await damage(store, Timeframe.M1, START + 600, high=text)
    assert (await import_(store, file)).replaced == 1
    assert await stored(store) == before
    await damage(store, Timeframe.M1, START + 600, high=text, at=NOW)
    report = await import_(store, file)
    assert report.kept == 1
    got = "inf" if text == "inf" else "no number"
    assert f"1m 2023-02-02T00:10:00Z: high 110 in the file, {got} in the store" in text_of(report)


@pytest.mark.parametrize("quarter", [False, True])
async def test_stored_price_beside_the_file_that_is_no_number_is_named(store, tmp_path, quarter):
    turn = 1_680_307_200  # 2023-04-01
    rows = some_minutes(start=turn - 6000, every=1, count=200)
    await import_(store, write_minutes(tmp_path / "XBTUSD_1.csv", rows[:100]))
    await damage(store, Timeframe.M1, turn - 60, close="abc")
    folder = tmp_path / ("Kraken_OHLCVT_Q2_2023" if quarter else "other")
    path = write_minutes(folder / "XBTUSD_1.csv", rows[110:])
    lines: list[str] = []
    expected = r"BTC/USD 1m in the store: 2023-03-31T23:59:00Z: expected a number as close, got 'abc'"
    with pytest.raises(CommandError, match=expected):
        await import_files(store, [path], None, lambda _: None, lines.append, lambda *_: None)
    assert lines == [f"not imported: {expected}"]


@on_both_stores
async def test_forming_and_incomplete_candles_are_replaced(store, file):
    # What a stopped system leaves: a minute that never closed, an hour that was given up on.
    forming = live(START, closed=False)
    given_up = live(START, Timeframe.H1, complete=False, revision=3)
    await store.write([forming, given_up], [])
    report = await import_(store, file)
    assert await stored(store) == all_as_kept(store, rolled_up(file))
    (hour,) = await store.candles("BTC/USD", Timeframe.H1, start=START, end=START + 3600, limit=1)
    assert (hour.complete, hour.revision, hour.at) == (True, 4, given_up.at)
    assert not report.odd


@on_both_stores
async def test_corrected_file_takes_the_place_of_an_earlier_one(store, tmp_path, file):
    await import_(store, file)
    rows = some_minutes()
    rows[1000] = (*rows[1000][:5], "123.5", 7)
    report = await import_(store, write_minutes(file, rows))
    assert await stored(store) == all_as_kept(store, rolled_up(file))
    assert report.replaced == len(TIMEFRAMES)  # the minute and the candles above it
    assert report.odd


def with_trades_twice(rows: list[tuple]) -> list[tuple]:
    """The same with one trade in every 1,000 counted twice."""
    twice, before = [], 0
    for *first, volume, trades in rows:
        more = (before + trades) // 1000 - before // 1000
        before += trades
        twice.append((*first, Decimal(volume) * (trades + more) / trades, trades + more))
    return twice


@on_both_stores
async def test_file_that_counts_trades_twice_replaces_no_candle(store, tmp_path, file):
    await import_(store, file)
    before = await stored(store)
    twice = write_minutes(tmp_path / "twice" / "XBTUSD_1.csv", with_trades_twice(some_minutes()))
    report = await import_(store, twice)
    assert await stored(store) == before
    assert report.replaced == 0
    assert f"{twice} counts one trade in every 1,000 twice" in text_of(report)
    assert report.odd


async def test_file_that_counts_trades_twice_gives_way_to_one_that_does_not(store, tmp_path, file):
    twice = write_minutes(tmp_path / "twice" / "XBTUSD_1.csv", with_trades_twice(some_minutes()))
    await import_(store, twice)
    report = await import_(store, file)
    assert await stored(store) == rolled_up(file)
    assert (report.twice, report.contradicted) == ([], 36)  # of 36,000 trades


async def test_file_that_counts_trades_twice_adds_the_minutes_that_the_store_lacks(store, tmp_path, monkeypatch):
    monkeypatch.setattr(weeks, "WEEKS_AT_ONCE", 1)
    rows, cut = some_minutes(), 8_000
    twice = with_trades_twice(rows)
    # The last minute has another price too; the store's stays.
    twice[cut - 1] = (*twice[cut - 1][:2], "200.5", *twice[cut - 1][3:])
    await import_(store, write_minutes(tmp_path / "XBTUSD_1.csv", rows[:cut]))
    report = await import_(store, write_minutes(tmp_path / "twice" / "XBTUSD_1.csv", twice))
    both = write_minutes(tmp_path / "both" / "XBTUSD_1.csv", rows[:cut] + twice[cut:])
    assert await stored(store) == rolled_up(both)
    assert (report.contradicted, report.kept, report.odd) == (0, 0, True)


async def test_candles_stay_where_a_file_of_few_trades_may_count_some_twice(store, tmp_path):
    rows = some_minutes(count=1200)
    await import_(store, write_minutes(tmp_path / "XBTUSD_1.csv", rows))
    before = await stored(store)
    report = await import_(store, write_minutes(tmp_path / "twice" / "XBTUSD_1.csv", with_trades_twice(rows)))
    assert await stored(store) == before
    assert (report.kept, report.odd) == (3, True)  # of 3,600 trades
    assert "twice/XBTUSD_1.csv: 1m 2023-02-03T09:18:00Z: volume 0.000348 in the file, 0.00029 in" in text_of(report)


@on_both_stores
async def test_minutes_that_two_files_state_differently_are_named(store, tmp_path, file):
    rows = some_minutes()
    rows[1000] = (*rows[1000][:5], "123.5", 7)
    other = write_minutes(tmp_path / "other" / "XBTUSD_1.csv", rows)
    report = await import_(store, file, other)
    assert await stored(store) == all_as_kept(store, rolled_up(other))  # the last one wins
    assert (report.replaced, report.contradicted, report.odd) == (len(TIMEFRAMES), 1, True)
    expected = "1m 2023-02-03T09:20:00Z: volume 123.5 in the file, 0.0003 in the store; trades 7 in the file, 1 in"
    assert f"    {other}: {expected}" in text_of(report)
    assert not (await import_(store, other)).odd


@on_both_stores
async def test_windows_that_are_not_over_are_left_to_the_live_stream(store, file):
    now = START + 2 * WEEK + 3 * 3600 + 90
    await store.write([live(START + 2 * WEEK, Timeframe.W1, closed=False)], [])
    await import_(store, file, now=now)
    for timeframe in TIMEFRAMES:
        newest = (await store.newest_candles("BTC/USD", timeframe, limit=1))[0]
        assert newest.close_time == timeframe.floor(now)
    assert await store.forming("BTC/USD", Timeframe.W1) is not None


@pytest.mark.parametrize("cut", [7, 7_000, 15_001])
async def test_files_that_follow_each_other_make_whole_weeks(store, tmp_path, cut):
    rows = some_minutes(every=1)
    whole = write_minutes(tmp_path / "XBTUSD_1.csv", rows)
    first = write_minutes(tmp_path / "a" / "XBTUSD_1.csv", rows[:cut])
    second = write_minutes(tmp_path / "b" / "XBTUSD_1.csv", rows[cut:])
    # Whichever comes first.
    for path in (first, second) if cut % 2 else (second, first):
        report = await import_(store, path)
    assert await stored(store) == all_as_kept(store, rolled_up(whole))
    assert report.gaps == []
    assert report.contradicted == 0


@on_both_stores
async def test_files_of_quarters_that_follow_each_other_leave_no_gap(store, tmp_path):
    turn, end = 1_680_307_200, 1_688_169_600  # 2023-04-01, between two minutes that traded, and 2023-07-01
    rows = [row for row in some_minutes(start=turn - 6000 * 60, every=7, count=2000) if abs(row[0] - turn) > 900]
    for quarter, part in (("Q1_2023", [r for r in rows if r[0] < turn]), ("Q2_2023", [r for r in rows if r[0] > turn])):
        folder = tmp_path / f"Kraken_OHLCVT_{quarter}"
        report = await import_(store, write_minutes(folder / "XBTUSD_1.csv", part), now=end)
        assert report.gaps == []
        assert not report.odd
    whole = all_as_kept(store, rolled_up(write_minutes(tmp_path / "XBTUSD_1.csv", rows)))
    found = await stored(store)
    for timeframe in TIMEFRAMES:
        assert found[timeframe][: len(whole[timeframe])] == whole[timeframe]
        candles = await store.candles("BTC/USD", timeframe, limit=1_000_000)
        assert all(c.complete for c in candles)
        # The second quarter goes on, quietly, to its end.
        assert candles[-1].close_time == timeframe.floor(end)


@on_both_stores
async def test_gap_between_a_file_and_live_candles_is_reported_and_nothing_is_invented(store, tmp_path):
    path = write_minutes(tmp_path / "XBTUSD_1.csv", some_minutes(every=1, count=100))
    await store.write([live(START + 60 * minute) for minute in range(130, 150)], [])
    report = await import_(store, path)
    assert report.gaps == [(START + 100 * 60, START + 130 * 60)]
    minutes = await store.candles("BTC/USD", Timeframe.M1, limit=1000)
    assert len(minutes) == 120
    hours = {c.open_time: c.complete for c in await store.candles("BTC/USD", Timeframe.H1, limit=10)}
    assert hours == {START: True, START + 3600: False}


# --- files that verify ------------------------------------------------------------------------------------------------


def higher(path: Path, timeframe: Timeframe) -> list[list]:
    return [[r[0], *r[1:6], r[7]] for r in rolled_up(path)[timeframe] if r[7]]


def counted_twice(candles: list[list]) -> list[list]:
    """The same with one trade in every 1,000 counted twice."""
    for candle in candles:
        candle[5] = round(candle[5] * 1000 / 999, 8)
    extra = sum(candle[6] for candle in candles) // 999
    for i in range(extra):
        candles[i * len(candles) // extra][6] += 1
    return candles


async def test_file_of_a_higher_interval_verifies_the_minutes(store, tmp_path, file):
    hours = higher(file, Timeframe.H1)
    hours[5][5] += Decimal("0.000000001")  # noise of Kraken's floats
    hours[7][2] += 1
    del hours[9]
    report = await import_(store, file, write_minutes(tmp_path / "XBTUSD_60.csv", hours))
    (check,) = report.checks
    assert (check.differing, check.twice) == (2, None)
    assert "high 110 in the minutes, 111 in the file" in text_of(report)
    assert "only in the minutes" in text_of(report)
    assert report.odd


async def test_file_that_counts_trades_twice_is_recognised(store, tmp_path, file):
    hours = counted_twice(higher(file, Timeframe.H1))
    report = await import_(store, file, write_minutes(tmp_path / "XBTUSD_60.csv", hours))
    assert report.checks[0].twice == "the file"
    assert "the file counts one trade in every 1,000 twice (1000/999" in text_of(report)


async def test_store_that_counts_trades_twice_is_recognised(store, tmp_path, file):
    minutes = counted_twice([[*row[:5], Decimal(row[5]), row[6]] for row in some_minutes()])
    await import_(store, write_minutes(tmp_path / "twice" / "XBTUSD_1.csv", minutes))
    sql = "UPDATE candles SET at = at + 5"  # as from the live stream, which is newer than any file
    await store._run(lambda connection: connection.execute(sql))
    report = await import_(store, file)
    assert report.twice == ["the store"]
    assert "the store counts one trade in every 1,000 twice (1000/999" in text_of(report)


async def test_file_of_a_higher_interval_alone_is_compared_with_the_store(store, tmp_path, file):
    days = write_minutes(tmp_path / "other" / "XBTUSD_1440.csv", higher(file, Timeframe.D1))
    report = await import_(store, days)
    assert "the store has no 1d of BTC/USD" in text_of(report)
    assert await store.symbols() == []
    await import_(store, file)
    report = await import_(store, days)
    assert (report.checks[0].compared, report.checks[0].differing, report.odd) == (17, 0, False)


def split(rows: list, at: int) -> tuple[list, list]:
    return [r for r in rows if r[0] < at], [r for r in rows if r[0] >= at]


async def test_files_of_ranges_that_follow_each_other_are_each_compared_with_their_own(store, tmp_path, file):
    cut = START + WEEK
    minutes, hours = split(some_minutes(), cut), split(higher(file, Timeframe.H1), cut)
    paths = [
        write_minutes(tmp_path / part / f"XBTUSD_{interval}.csv", rows[i])
        for i, part in enumerate(("full", "update"))
        for interval, rows in ((1, minutes), (60, hours))
    ]
    report = await import_(store, *paths)
    assert [(check.compared, check.differing) for check in report.checks] == [
        (len(h) - 1, 0) for h in hours
    ]  # the last hours end early
    assert not report.odd


async def test_files_of_ranges_that_overlap_are_each_compared_with_all_their_minutes(store, tmp_path, file):
    cut = START + WEEK
    hours = higher(file, Timeframe.H1)
    late_minutes, late_hours = split(some_minutes(), cut)[1], split(hours, cut)[1]
    report = await import_(
        store,
        file,
        write_minutes(tmp_path / "XBTUSD_60.csv", hours),
        write_minutes(tmp_path / "update" / "XBTUSD_1.csv", late_minutes),
        write_minutes(tmp_path / "update" / "XBTUSD_60.csv", late_hours),
    )
    # Each hour from the cut on is compared with both files' minutes, but for the last one, which ends early.
    counts = [len(hours) - 1 + len(late_hours) - 1, 2 * (len(late_hours) - 1)]
    assert [check.compared for check in report.checks] == counts
    assert [check.differing for check in report.checks] == [0, 0]


async def test_minutes_that_a_quarters_hours_lack_are_a_difference_up_to_the_quarters_end(store, tmp_path):
    days = [1_672_531_200 + day * 86_400 for day in range(90)]  # the first quarter of 2023
    minutes = [(day + 60 * m, *["1.5"] * 4, "1.0", 1) for day in days for m in (7, 67)]
    hours = [(day + 3600 * h, *["1.5"] * 4, "1.0", 1) for day in days[:-1] for h in (0, 1)]
    folder = tmp_path / "Kraken_OHLCVT_Q1_2023"
    minute_file = write_minutes(folder / "XBTUSD_1.csv", minutes)
    report = await import_(store, minute_file, write_minutes(folder / "XBTUSD_60.csv", hours), now=1_700_000_000)
    # All hours but the first one, which begins at its seventh minute.
    assert (report.checks[0].compared, report.checks[0].differing) == (179, 2)


@pytest.mark.parametrize("interval", [60, 1440])
async def test_minutes_that_hold_no_whole_window_of_the_other_file_are_not_compared(store, tmp_path, interval):
    rows = [(START + 600, *["1.5"] * 4, "1.0", 1)]
    higher_row = [(START, *["1.5"] * 4, "1.0", 1)]
    report = await import_(
        store,
        write_minutes(tmp_path / "XBTUSD_1.csv", rows),
        write_minutes(tmp_path / f"XBTUSD_{interval}.csv", higher_row),
    )
    assert (report.checks[0].compared, report.checks[0].differing, report.problem_count) == (0, 0, 0)


# --- broken archives --------------------------------------------------------------------------------------------------


async def broken(store, tmp_path, change, rows=None) -> SymbolReport:
    lines = [",".join(map(str, row)) for row in rows or some_minutes(count=2000, every=1)]
    change(lines)
    path = tmp_path / "XBTUSD_1.csv"
    path.write_text("\n".join(lines) + "\n")
    return await import_(store, path)


@on_both_stores
async def test_broken_row_is_named_and_leaves_its_minute_unknown(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines[500] = "1,2,3"

    report = await broken(store, tmp_path, change)
    assert "line 501" in text_of(report)
    assert "7 columns" in text_of(report)
    assert report.unknown == 1
    minutes = {c.open_time for c in await store.candles("BTC/USD", Timeframe.M1, limit=5000)}
    assert len(minutes) == 1999
    assert START + 500 * 60 not in minutes
    windows = {c.open_time for c in await store.candles("BTC/USD", Timeframe.M5, limit=5000)}
    assert len(windows) == 399
    assert START + 500 * 60 not in windows


@on_both_stores
@pytest.mark.parametrize(
    ("header", "end"),
    [
        (b"time,open,high,low,close,volume,trades", b"\n"),
        (b'"Timestamp","Open","High","Low","Close","Volume","Count"', b"\r\n"),
        (b"\xef\xbb\xbftime, open, high, low, close, volume, trades", b"\n"),
        (b"\xef\xbb\xbf", b""),
    ],
)
async def test_header_and_byte_order_mark_are_no_rows(store, tmp_path, file, header, end):
    other = tmp_path / "with" / "XBTUSD_1.csv"
    other.parent.mkdir()
    other.write_bytes(header + end + file.read_bytes())
    (found,) = find_files([other], None).files
    assert found.first == START
    report = await import_(store, other)
    assert (report.rows, report.problem_count, report.unknown) == (12_000, 0, 0)
    assert await stored(store) == all_as_kept(store, rolled_up(file))


async def test_line_numbers_count_the_header(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines[500] = "1,2,3"
        lines.insert(0, "time,open,high,low,close,volume,trades")

    report = await broken(store, tmp_path, change)
    assert report.problem_count == 1
    assert ", line 502:" in str(report.problems[0])


async def test_header_of_trades_is_no_trade(store, tmp_path):
    path = tmp_path / "XBTUSD.csv"
    path.write_text(f"time,price,volume\n{START + 5}.25,100.5,0.5\n{START + 65},101.0,1.5\n")
    report = await import_(store, path)
    assert (report.rows, report.problem_count) == (2, 0)


async def test_first_time_of_a_file_is_that_of_its_first_valid_row(tmp_path):
    """A retention that is long enough must not be refused because of a broken line."""
    path = tmp_path / "XBTUSD_1.csv"
    path.write_text(f"?,1,1,1,1,1,1\n0,1,1,1,1,1,1\n{START},1,1,1,1,1,1\n")
    assert [file.first for file in find_files([path], None).files] == [START]


@on_both_stores
async def test_repeated_rows_are_taken_once_and_contradictory_ones_not_at_all(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines.insert(11, lines[10])
        lines.insert(700, lines[699].rsplit(",", 1)[0] + ",77")

    report = await broken(store, tmp_path, change)
    assert "line 12: the row of" in text_of(report)
    assert "line 701: a second row of" in text_of(report)
    times = [c.open_time for c in await store.candles("BTC/USD", Timeframe.M1, limit=5000)]
    assert len(times) == 1999


@on_both_stores
async def test_row_out_of_order_is_put_in_its_place(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines[100], lines[150] = lines[150], lines[100]

    report = await broken(store, tmp_path, change)
    assert report.problem_count
    path = write_minutes(tmp_path / "whole" / "XBTUSD_1.csv", some_minutes(count=2000, every=1))
    assert await stored(store) == all_as_kept(store, rolled_up(path))


@pytest.mark.parametrize("order", ["one row far back", "halves exchanged", "newest first", "shuffled"])
async def test_rows_displaced_across_blocks_are_put_in_their_place(store, tmp_path, monkeypatch, order):
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 4_000)  # some 80 rows
    rows = some_minutes(count=2000, every=2)
    displaced = {
        "one row far back": [*rows[:100], *rows[101:1500], rows[100], *rows[1500:]],
        "halves exchanged": [*rows[1000:], *rows[:1000]],
        "newest first": rows[::-1],
        "shuffled": sorted(rows, key=lambda row: row[0] * 7919 % 100_003),
    }[order]
    report = await import_(store, write_minutes(tmp_path / "XBTUSD_1.csv", displaced))
    assert report.problem_count
    if order == "one row far back":
        assert f"line 1500: expected a time after {rows[181][0]}"[:30] in text_of(report)
        assert f"got {rows[100][0]}; moved to its place" in text_of(report)
        assert report.problem_count == 1
    assert (report.rows, report.unknown) == (2000, 0)
    assert await stored(store) == rolled_up(write_minutes(tmp_path / "whole" / "XBTUSD_1.csv", rows))


async def test_left_out_row_is_named_first_among_thousands_that_are_moved(store, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 40_000)
    rows = some_minutes(count=2000, every=1)
    moved = [*rows[:9], rows[-1], *rows[9:-1]]
    report = await import_(store, write_minutes(tmp_path / "XBTUSD_1.csv", [*moved, (*rows[-1][:6], 77)]))
    left_out, first, last = report.problems
    assert f"line 2001: a second row of {rows[-1][0]}, with other numbers; neither is used" in str(left_out)
    assert f"line 11: expected a time after {rows[-1][0]}, got {rows[9][0]}; moved to its place" in str(first)
    assert f"got {rows[-2][0]}; moved to its place; the last of 1,990 such rows" in str(last)
    assert ", line 2000: " in str(last)
    assert report.problem_count == 3


async def test_left_out_row_is_named_first_among_thousands_that_are_repeated(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines += [*lines, "1,2,3"]

    report = await broken(store, tmp_path, change)
    assert [str(problem).partition(", line ")[2][:4] for problem in report.problems] == ["4001", "2001", "4000"]
    assert "used once; the last of 2,000 such rows" in text_of(report)


@pytest.mark.parametrize("other", ["7", "77"])
async def test_row_that_is_repeated_in_a_later_block_is_treated_like_one_nearby(store, tmp_path, monkeypatch, other):
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 4_000)
    rows = some_minutes(count=2000, every=1)
    rows[10] = (*rows[10][:6], 7)
    report = await import_(store, write_minutes(tmp_path / "XBTUSD_1.csv", [*rows, (*rows[10][:6], other)]))
    assert report.problem_count == 1
    assert ("repeated; used once" if other == "7" else "neither is used") in text_of(report)
    assert "line 2001: " in text_of(report)
    times = {c.open_time for c in await store.candles("BTC/USD", Timeframe.M1, limit=5000)}
    assert (rows[10][0] in times) == (other == "7")
    assert len(times) == (2000 if other == "7" else 1999)


async def test_displaced_row_after_a_broken_one_does_not_make_it_good(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines[500] = "broken"
        lines.insert(501, lines.pop(100))

    report = await broken(store, tmp_path, change)
    assert report.unknown == 1
    times = {c.open_time for c in await store.candles("BTC/USD", Timeframe.M1, limit=5000)}
    assert {START + 60 * minute for minute in range(2000)} - times == {START + 500 * 60}


async def test_row_of_the_future_is_named_and_nothing_is_infilled_up_to_it(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines[500] = lines[500].replace(str(START + 500 * 60), str(START + 500 * 60 + 60 * 10**7))

    report = await broken(store, tmp_path, change)
    assert "line 501: expected a time that has passed" in text_of(report)
    assert (report.problem_count, report.unknown) == (1, 1)
    assert len(await store.candles("BTC/USD", Timeframe.M1, limit=5000)) == 1999


@pytest.mark.parametrize("time", [120, 1_377_993_540])  # up to 2013-08-31T23:59:00Z
async def test_row_from_before_kraken_is_named_and_nothing_is_infilled_from_it_on(store, tmp_path, time):
    def change(lines: list[str]) -> None:
        lines[0] = lines[0].replace(str(START), str(time))
        lines[500] = lines[500].replace(str(START + 500 * 60), "60")

    report = await broken(store, tmp_path, change)
    expected = "expected a time since 1377993600, when trading at Kraken began, got"
    assert f"line 1: {expected} {time}" in text_of(report)
    assert f"line 501: {expected} 60" in text_of(report)
    assert report.problem_count == 2
    times = {c.open_time for c in await store.candles("BTC/USD", Timeframe.M1, limit=5000)}
    assert times == {START + 60 * minute for minute in range(1, 2000)} - {START + 500 * 60}


@on_both_stores
async def test_volumes_with_exponents_are_no_problem(store, tmp_path):
    def change(lines: list[str]) -> None:
        lines[0] = lines[0].replace("0.00000", "1E+1")
        lines[1] = lines[1].replace("0.00001", "1.2E-7")

    report = await broken(store, tmp_path, change)
    assert not report.odd
    one, two = await store.candles("BTC/USD", Timeframe.M1, limit=2)
    assert (one.volume, two.volume) == (Decimal(10), Decimal("0.00000012"))


async def test_noise_of_floats_in_volumes_and_windows_line_ends_are_no_problem(store, tmp_path):
    # A price of ten decimals times a volume of 20: exact products of it would not fit into 128 bits.
    rows = [(*row[:1], *("0.0000012345",) * 4, repr(0.0001 + 0.0002 + i * 1e9), row[6]) for i, row in enumerate(SOME)]
    path = tmp_path / "PEPEUSD_1.csv"
    path.write_bytes("".join(",".join(map(str, row)) + "\r\n" for row in rows).encode())
    report = await import_(store, path)
    assert not report.odd
    minutes = await store.candles("PEPE/USD", Timeframe.M1, limit=5000)
    assert [c.volume for c in minutes] == [pytest.approx(Decimal(row[5]), rel=Decimal("1e-13")) for row in rows]


async def test_files_of_an_interval_without_a_timeframe_are_no_problem_beside_the_minutes(store, tmp_path):
    two_minutes = write_minutes(tmp_path / "XBTUSD_2.csv", [(120 * i, 1, 1, 1, 1, 1, 1) for i in range(9)])
    report = await import_(store, write_minutes(tmp_path / "XBTUSD_1.csv", SOME), two_minutes)
    assert not report.odd
    assert "no timeframe of their length" in text_of(report)


def zipped(path: Path, *names: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    text = "".join(",".join(map(str, row)) + "\n" for row in some_minutes(count=5000, every=1))
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, text)
    return path.read_bytes()


async def test_damaged_member_of_a_zip_is_not_taken(store, tmp_path):
    content = bytearray(zipped(tmp_path / "Kraken_OHLCVT.zip", "XBTUSD_1.csv"))
    content[len(content) // 2] ^= 0xFF  # rows behind it may look right and be wrong
    (tmp_path / "Kraken_OHLCVT.zip").write_bytes(content)
    report = await import_(store, tmp_path / "Kraken_OHLCVT.zip")
    assert "Kraken_OHLCVT.zip:XBTUSD_1.csv: damaged" in text_of(report)
    assert await store.symbols() == []


def test_symbol_takes_its_pair_out_of_an_archive_of_many(tmp_path):
    path = tmp_path / "all.zip"
    zipped(path, "XBTUSD_1.csv", "ETHUSD_1.csv", "UNKNOWN_1.csv", "XBTUSD_60.csv")
    found = find_files([path], "BTC/USD")
    assert [file.label for file in found.files] == [f"{path}:XBTUSD_1.csv"]
    assert [problem.where for problem in found.problems] == [f"{path}:XBTUSD_60.csv"]  # it has minutes


def test_archive_in_an_archive_is_named(tmp_path):
    path = tmp_path / "all.zip"
    zipped(path, "XBTUSD_1.csv", "more/ETHUSD_1.zip", "SOLUSD_1.csv.gz", "README.txt", "__MACOSX/._more.zip")
    found = find_files([path], None)
    assert [file.symbol for file in found.files] == ["BTC/USD"]
    assert [problem.where for problem in found.problems] == [f"{path}:more/ETHUSD_1.zip", f"{path}:SOLUSD_1.csv.gz"]
    assert "expected .csv files, got a .zip archive; not read" in str(found.problems[0])
    assert found.unread == (f"{path}:README.txt",)


@pytest.mark.parametrize(("name", "fails"), [("more.zip", True), ("README.txt", False)])
async def test_import_names_what_it_does_not_read_and_fails_for_an_archive(store, tmp_path, name, fails):
    path = tmp_path / "all.zip"
    zipped(path, "XBTUSD_1.csv", name)
    lines: list[str] = []
    failure = pytest.raises(CommandError, match=r"more.zip: expected \.csv files") if fails else nullcontext()
    with failure:
        await import_files(store, [path], None, lambda _: None, lines.append, lambda *_: None)
    assert f"{path}:{name}" in lines[-1]
    assert await store.symbols() == ["BTC/USD"]


@pytest.mark.parametrize(("minutes", "few"), [(5, 9), (15, 6), (60, 4), (240, 3), (1440, 2), (10080, 2)])
def test_few_rows_are_minutes_unless_the_name_gives_the_interval(tmp_path, minutes, few):
    for count, found in ((few, 1), (few + 1, minutes)):
        rows = some_minutes(count=count, every=minutes)
        paths = [write_minutes(tmp_path / name, rows) for name in ("rows.csv", f"XBTUSD_{minutes}.csv")]
        assert [file.interval for file in find_files(paths, "BTC/USD").files][-1] == minutes
        assert [file.interval for file in find_files(paths[:1], "BTC/USD").files] == [found]


PACKERS = {"gzip": gzip.compress, "zlib": zlib.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("kind", PACKERS)
async def test_compressed_file_with_the_name_of_a_table_is_named_in_one_line(store, tmp_path, file, kind):
    file.write_bytes(PACKERS[kind](file.read_bytes()))
    expected = f"{file}: expected rows of time,open,high,low,close,volume,trades, got {kind}-compressed data"
    calls = (
        import_files(store, [file], None, lambda _: None, lambda _: None, lambda *_: None),
        verify(store, Verification((), None, None, fix=False), [file], None, (lines := []).append, lambda *_: None),
    )
    for call in calls:
        with pytest.raises(CommandError) as error:
            await call
        assert expected in f"{error.value}{lines}"
    with pytest.raises(ArchiveError) as refused:
        rollup(file, "BTC/USD", tmp_path / "out", lambda *_: None)
    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize("trades", [False, True])
async def test_bytes_within_a_file_that_look_compressed_are_invalid_rows(store, tmp_path, monkeypatch, trades):
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 40)
    columns = slice(0, 3) if trades else slice(None)
    rows = [",".join(map(str, row[columns])) for row in some_minutes(count=40, every=1)]
    path = tmp_path / ("XBTUSD.csv" if trades else "XBTUSD_1.csv")
    path.write_bytes("\n".join(rows[:20]).encode() + b"\n\x1f\x8b\x08\n" * 20 + "\n".join(rows[20:]).encode())
    report = await import_(store, path)
    assert len(report.problems) == 20
    assert f"{path}, line 21: expected" in text_of(report)


def test_archives_in_a_folder_are_read_or_named(tmp_path, file):
    zipped(tmp_path / "more.zip", "ETHUSD_1.csv")
    for name in ("SOLUSD_1.csv.gz", "README.txt"):
        (tmp_path / name).write_bytes(b"something")
    found = find_files([tmp_path], None)
    assert sorted(file.symbol for file in found.files) == ["BTC/USD", "ETH/USD"]
    assert [problem.where for problem in found.problems] == [str(tmp_path / "SOLUSD_1.csv.gz")]
    assert found.unread == (str(tmp_path / "README.txt"),)


def test_symbol_does_not_make_one_pair_of_two(tmp_path):
    path = tmp_path / "all.zip"
    zipped(path, "XBTUSD_1.csv", "ETHUSD_1.csv")
    found = find_files([path], "SOL/USD")
    assert found.files == ()
    assert "expected files of SOL/USD or of one pair, got files of BTC/USD, ETH/USD" in str(found.problems[0])


def test_symbol_names_files_whose_names_contain_none_or_one_other(tmp_path, file):
    other = write_minutes(tmp_path / "other" / "minutes.csv", some_minutes())
    assert [found.symbol for found in find_files([other], "SOL/USD").files] == ["SOL/USD"]
    assert [found.symbol for found in find_files([file], "SOL/USD").files] == ["SOL/USD"]


async def test_directory_of_a_zip_is_read_once(tmp_path, monkeypatch):
    """Kraken's archive has 24,000 entries; reading them once more for each file takes hours."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number in range(5):
            archive.writestr(f"A{number}USD_1.csv", f"{START},1.0,1.0,1.0,1.0,1.0,1\n")
    opened = []
    whole = zipfile.ZipFile

    def counted(*args, **kwargs):
        opened.append(args)
        return whole(*args, **kwargs)

    monkeypatch.setattr(zipfile, "ZipFile", counted)
    found = find_files([tmp_path / "all.zip"], None)
    assert [file.damage() for file in found.files] == [None] * 5
    for file in found.files:
        with file.open() as stream:
            assert stream.read().startswith(b"%d," % START)
    assert len(opened) == 1


async def test_encrypted_member_of_a_zip_is_named(store, tmp_path):
    path = tmp_path / "locked.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("XBTUSD_1.csv", f"{START},1.0,1.0,1.0,1.0,1.0,1\n")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    report = await import_(store, path)
    assert "encrypted" in text_of(report)
    assert report.rows == 0


class Pipe(io.BytesIO):
    """A zip archive that is written into it has the sizes of its members behind them."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("target", [Pipe, io.BytesIO])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_a_truncated_zip_are_found_however_they_are_written(tmp_path, method, target, zip64):
    texts = [b"1,2\n" * 500_000, b"PK\x07\x08 is no end", b"", b"cut off\n" * 9_000]
    content = target()
    with zipfile.ZipFile(content, "w", method) as archive:
        for number, text in enumerate(texts):
            with archive.open(f"{number}.csv", "w", force_zip64=zip64) as member:
                member.write(text)
    path = tmp_path / "all.zip"
    path.write_bytes(content.getvalue()[: content.getvalue().index(b"PK\x01\x02") - 30])
    found = whole_members(path)
    assert [member.filename for member in found] == ["0.csv", "1.csv", "2.csv"]
    for member, text in zip(found, texts, strict=False):
        with opened_member(path, member) as stream:
            assert stream.read() == text


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_truncated_zip_gives_the_files_that_are_whole(store, tmp_path, method):
    path = tmp_path / "Kraken_OHLCVT.zip"
    content = zipped(path, "XBTUSD_1.csv", "ETHUSD_1.csv", method=method)
    path.write_bytes(content[: len(content) * 3 // 4])
    report = await import_(store, path)
    assert "1 complete files are imported" in text_of(report)
    assert await store.symbols() == ["BTC/USD"]
    assert len(await store.candles("BTC/USD", Timeframe.M1, limit=10_000)) == 5000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("XBTUSD_1.zip", b"PK\x03\x04 cut off", "whole zip archive"),
        ("nonsense_1.csv", b"60,1,1,1,1,1,1\n", "no Kraken pair"),
        ("XBTUSD_1.csv", b"", "empty"),
        ("XBTUSD_60.csv", b"60,1,1,1,1,1,1\n120,1,1,1,1,1,1\n", "expected candles of 60 minutes"),
        ("XBTUSD_1.csv", b"".join(b"%d,1,1,1,1,1,1\n" % (3600 * i) for i in range(9)), "got candles of 60"),
        (
            "XBTUSD_1.csv",
            b"".join(b"%d,1,1,1,1,1,1\n" % time for time in sorted([*range(0, 72_000, 3600), 4260, 9000])),
            "got candles of 60",
        ),
        ("XBTUSD_2.csv", b"".join(b"%d,1,1,1,1,1,1\n" % (120 * i) for i in range(9)), "no timeframe here"),
        ("XBTUSD_1.csv", b"1672531200000,1,1,1,1,1,1\n1672531500000,1,1,1,1,1,1\n", "expected the unix seconds"),
        ("XBTUSD_1.csv", b"60,1,1,1,1,1" + b"0" * 20 + b",1\n", "at most 18 digits"),
        ("XBTUSD_1.csv", b"time,open,low,high,close,volume,trades\n60,1,1,1,1,1,1\n", "got the header 'time,open,low"),
        ("XBTUSD.csv", b"time,volume,price\n1672531200.5,1,2\n", "got the header 'time,volume,price'"),
        ("XBTUSD_1.csv", b"time,open,high,low,close,volume,trades\n", "got none"),
    ],
)
async def test_file_that_cannot_be_used_is_named(store, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    report = await import_(store, tmp_path / name)
    assert name in str(report.problems[0])
    assert words in str(report.problems[0])
    assert await store.symbols() == []


async def test_full_disk_ends_the_import_which_resumes_later(store, file):
    def limit(pages: int) -> None:
        store._connection.execute(f"PRAGMA max_page_count = {pages}")

    await store._run(lambda _: limit(600))
    with pytest.raises(StoreUnavailableError, match="full"):
        await import_(store, file)
    await store._run(lambda _: limit(1_000_000))
    assert not (await import_(store, file)).odd
    assert await stored(store) == all_as_kept(store, rolled_up(file))


# --- trades -----------------------------------------------------------------------------------------------------------


async def test_trades_become_minutes(store, tmp_path):
    path = tmp_path / "XDGUSD.csv"
    path.write_text(
        f"{START + 1.5},0.1,10\n{START + 2},0.12,1E+1\n"
        f"{START + 61},0.11,5.5\n{START + 61.25},0.13,0.5\n{START + 300},0.2,1\n"
    )
    report = await import_(store, path)
    assert (report.symbol, report.odd) == ("DOGE/USD", False)
    minutes = (await stored(store, "DOGE/USD"))[Timeframe.M1]
    d = Decimal
    assert minutes[0] == (START, d("0.1"), d("0.12"), d("0.1"), d("0.12"), d(20), d("0.11"), 2, False)
    assert minutes[1] == (START + 60, d("0.11"), d("0.13"), d("0.11"), d("0.13"), d(6), d("0.11"), 2, False)
    assert [m[8] for m in minutes] == [False, False, True, True, True, False]
    assert (await stored(store, "DOGE/USD"))[Timeframe.M5][0][5:8] == (d(26), d("0.11"), 4)


async def test_trade_from_before_kraken_is_named(store, tmp_path):
    path = tmp_path / "XBTUSD.csv"
    path.write_text(f"1377993599.5,100,1\n{START + 5},101,1\n")
    report = await import_(store, path)
    assert "line 1: expected time,price,volume with a time since 1377993600" in text_of(report)
    assert "got '1377993599.5,100,1'" in text_of(report)
    assert report.first == START


async def test_trades_in_blocks_of_any_size_make_the_same_minutes(store, tmp_path, monkeypatch):
    path = tmp_path / "XBTUSD.csv"
    path.write_text("".join(f"{START + i * 7.5},{100 + i % 13 / 10},{(i % 11 + 1) / 1000}\n" for i in range(3000)))
    await import_(store, path)
    before = await stored(store)
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 777)
    report = await import_(store, path)
    assert (report.replaced, report.odd) == (0, False)
    assert await stored(store) == before
    assert sum(m[7] for m in before[Timeframe.M1]) == 3000


async def test_trades_displaced_across_blocks_count_in_their_minutes(store, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 777)
    lines = [f"{START + i * 7.5},{100 + i % 13 / 10},{(i % 11 + 1) / 1000}" for i in range(3000)]
    whole = tmp_path / "whole.csv"
    whole.write_text("\n".join(lines))
    await import_(store, whole, symbol="ETH/USD")
    lines.insert(2500, lines.pop(50))
    path = tmp_path / "XBTUSD.csv"
    path.write_text("\n".join(lines))
    report = await import_(store, path)
    assert "sorted" in text_of(report)
    assert await stored(store) == await stored(store, "ETH/USD")


async def test_broken_trade_leaves_the_minutes_around_it_unknown(store, tmp_path):
    lines = [f"{START + i * 20},100,1" for i in range(60)]
    lines[30] = "what is this"
    path = tmp_path / "XBTUSD.csv"
    path.write_text("\n".join(lines))
    report = await import_(store, path)
    assert "line 31: expected time,price,volume" in text_of(report)
    times = [c.open_time for c in await store.candles("BTC/USD", Timeframe.M1, limit=100)]
    assert times == [START + 60 * i for i in range(20) if i not in (9, 10)]
