"""`verify` finds what is wrong with stored candles, finds nothing else, and `--fix` mends it."""

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from archive_files import write_minutes
from stores import KEPT, STORES, damage, open_store, row_at, stored, write_second_series
from test_import import NOW, START, WEEK, counted_twice, higher, import_, losing, some_minutes

from crypto_ingress.errors import CommandError
from crypto_ingress.history import verifying
from crypto_ingress.history.candle_checks import FindingKind
from crypto_ingress.history.commands import Verification, verify
from crypto_ingress.history.stored import SCHEMA
from crypto_ingress.history.verifying import SymbolFindings, Verifier, findings_lines
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import Retention, SqliteStore
from ingress_store.bulk import COLUMNS
from ingress_store.influx.server import Server

M1, M5, H1, H4, D1, W1 = (Timeframe(name) for name in ("1m", "5m", "1h", "4h", "1d", "1w"))


BEFORE = START - 86_400
ROWS = 6_000  # eight days, one whole week among them


@pytest.fixture
def file(tmp_path) -> Path:
    return write_minutes(tmp_path / "XBTUSD_1.csv", some_minutes(start=BEFORE, every=2, count=ROWS))


@pytest.fixture(params=STORES)
async def store(request, file):
    async with open_store(request) as opened:
        await opened.bootstrap()
        await import_(opened, file)
        yield opened


async def run(store, *, fix: bool = False, krakens=None, now: float = NOW) -> SymbolFindings:
    return await Verifier(store, lambda: now, krakens, fix=fix).run("BTC/USD")


def kinds(report: SymbolFindings) -> set[tuple[str, FindingKind]]:
    return {(timeframe.value, kind) for (timeframe, kind), count in report.counts.items() if count}


async def test_clean_store_has_nothing_wrong(store):
    report = await run(store)
    assert (report.total, report.fixed) == (0, 0)
    assert report.candles[M1] == 2 * ROWS - 1
    assert "0 wrong" in next(findings_lines(report))


async def test_empty_store_has_nothing_wrong(tmp_path):
    async with SqliteStore(tmp_path / "empty.db") as empty:
        await empty.bootstrap()
        assert (await run(empty)).total == 0


NEWEST_DAY = D1.floor(BEFORE + (2 * ROWS - 2) * 60) - 86_400
DAMAGES = {
    "a missing minute": ({}, M1, START + 600, FindingKind.MISSING),
    "a missing day": ({}, D1, START + 86_400, FindingKind.MISSING),
    "the newest day": ({}, D1, NEWEST_DAY, FindingKind.MISSING),
    "a wrong high": ({"high": "999.0"}, H1, START + 7200, FindingKind.NOT_ROLLED_UP),
    "a wrong volume": ({"volume": "0.5"}, M5, START + 3000, FindingKind.NOT_ROLLED_UP),
    "a week shifted to Monday": ({"time": START + 4 * 86_400}, W1, START, FindingKind.MISALIGNED),
    "an infilled candle with volume": ({"volume": "1.0"}, M1, START + 60, FindingKind.INFILLED_TRADES),
    "an infilled candle that is not flat": ({"high": "999.0"}, M1, START + 60, FindingKind.NOT_FLAT),
    "an unmarked candle without trades": ({"infilled": False}, M1, START + 60, FindingKind.NOT_INFILLED),
    "a stale forming candle": ({"closed": False}, M5, START + 300, FindingKind.STALE),
    "an impossible candle": ({"low": "999.0"}, H4, START, FindingKind.IMPOSSIBLE),
    "an impossible vwap": ({"vwap": "999.0"}, H1, START + 7200, FindingKind.IMPOSSIBLE),
    "an impossible vwap without trades": ({"vwap": "0.0"}, M1, START + 60, FindingKind.IMPOSSIBLE),
    "an incomplete candle": ({"complete": False}, H4, START, FindingKind.INCOMPLETE),
    "an incomplete minute": ({"complete": False}, M1, START, FindingKind.INCOMPLETE),
}


BEYOND_THE_LAWS = ("a missing minute", "an incomplete minute")
"""Only Kraken knows these."""


@pytest.mark.parametrize("name", DAMAGES)
async def test_damage_is_found_and_fixed_where_the_laws_allow(store, name):
    whole = await stored(store)
    fields, timeframe, time, kind = DAMAGES[name]
    await damage(store, timeframe, time, **fields)
    report = await run(store)
    found = (timeframe.value, kind)
    assert found in kinds(report)
    # Other findings concern the candles above, which no longer fit.
    assert all(
        other in (FindingKind.NOT_ROLLED_UP, FindingKind.MISSING) or (where, other) == found
        for where, other in kinds(report)
    )
    assert report.total <= 7
    if name in BEYOND_THE_LAWS:
        return
    assert (await run(store, fix=True)).fixed >= 1
    assert (await run(store)).total == 0
    mended = await stored(store)
    for each in TIMEFRAMES:
        # The vwap of a mended candle is made of rounded ones below.
        assert [(*c[:6], *c[7:]) for c in mended[each]] == [(*c[:6], *c[7:]) for c in whole[each]]


@pytest.mark.parametrize(
    ("timeframe", "count", "missing"),
    # The file ends with the minute 07:58: the last 5m candle, which goes on after it, says nothing about it.
    # Hours are missed because their quarters are there, one by one.
    [(M1, 2, 0), (M1, 4, 1), (M1, 90, 87), (H1, 3, 3), (H1, 8, 8)],
)
async def test_candles_that_are_missing_at_the_end_of_a_series_are_found(store, timeframe, count, missing):
    times = [row[0] for row in (await stored(store))[timeframe]]
    assert times[-1] % 86_400 == (7 * 3600 + 58 * 60 if timeframe is M1 else 7 * 3600)
    await store.series("BTC/USD", timeframe).delete(times[-count:])
    report = await run(store)
    assert dict(report.counts) == ({(timeframe, FindingKind.MISSING): missing} if missing else {})
    if missing:
        assert report.kept[timeframe, FindingKind.MISSING][0].time == times[-count]


@pytest.mark.parametrize("store", ["influx"], indirect=True)
async def test_corrections_that_influxdb_acknowledges_and_loses_are_rewritten(store, monkeypatch):
    before = await stored(store)
    await damage(store, W1, START)
    monkeypatch.setattr(Server, "write", losing(0))
    await run(store, fix=True)
    assert await stored(store) == before


@pytest.mark.parametrize("store", ["influx"], indirect=True)
@pytest.mark.parametrize("newest", ["the first", "the second"])
async def test_candle_that_is_stored_twice_is_found_and_the_newest_stays(store, newest):
    # A second series, by a tag more: what another program adds when it writes the same candles.
    row = dict(zip(COLUMNS, await row_at(store, M1, START), strict=True))
    before = (await stored(store))[M1]
    later = 600 if newest == "the second" else -600
    await write_second_series(store, M1, tuple({**row, "volume": "0.75", "at": row["at"] + later}.values()))
    report = await run(store)
    assert report.counts[M1, FindingKind.DUPLICATE] == 1
    assert kinds(report) <= {("1m", FindingKind.DUPLICATE), *((t.value, FindingKind.NOT_ROLLED_UP) for t in TIMEFRAMES)}
    assert (await run(store, fix=True)).fixed >= 1
    assert (await run(store)).total == 0
    after = (await stored(store))[M1]
    assert [c for c in after if c[0] != START] == [c for c in before if c[0] != START]
    (mended,) = (c for c in after if c[0] == START)
    assert mended[5] == (0.75 if newest == "the second" else float(row["volume"]))


@pytest.mark.parametrize("store", ["influx"], indirect=True)
async def test_second_series_of_the_forming_candle_is_removed_and_nothing_closes(store):
    newest = (await store.newest_candles("BTC/USD", W1, limit=1))[0].open_time
    await damage(store, W1, newest, closed=False)
    await write_second_series(store, W1, await row_at(store, W1, newest))
    now = newest + WEEK - 600.0
    assert kinds(await run(store, now=now)) == {("1w", FindingKind.DUPLICATE)}
    await run(store, fix=True, now=now)
    assert (await run(store, now=now)).total == 0
    assert newest not in {c.open_time for c in await store.candles("BTC/USD", W1, limit=10) if c.closed}


async def test_forming_candle_of_a_window_that_is_not_over_is_right(store):
    newest = (await store.newest_candles("BTC/USD", W1, limit=1))[0]
    await damage(store, W1, newest.open_time, closed=False)
    assert (await run(store, now=newest.open_time + WEEK - 600.0)).total == 0


on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


async def rows_above(store) -> list[bytes]:
    """All rows of the timeframes above 1m, as they are stored."""
    return [await store.series("BTC/USD", timeframe).read(0, int(NOW)) for timeframe in TIMEFRAMES[1:]]


@pytest.fixture
async def inactive(tmp_path):
    """A store with an hour without trades around `START`, where a week begins."""
    rows = [row for row in some_minutes(start=BEFORE, count=ROWS) if abs(row[0] - START) > 1800]
    async with SqliteStore(tmp_path / "inactive.db") as opened:
        await opened.bootstrap()
        await import_(opened, write_minutes(tmp_path / "inactive" / "XBTUSD_1.csv", rows))
        yield opened


@pytest.mark.parametrize("times", [[START + 600], [START], [START + 600, START + 660, START + 1200]])
async def test_wrong_flat_minute_is_fixed_and_later_ones_stay(inactive, monkeypatch, times):
    monkeypatch.setattr(verifying, "_SPAN", WEEK)
    whole, above = await stored(inactive), await rows_above(inactive)
    for time in times:
        await damage(inactive, M1, time, **dict.fromkeys(("open", "high", "low", "close", "vwap"), "5.0"))
    assert (await run(inactive)).counts[M1, FindingKind.NOT_FLAT] == len(times)
    assert (await run(inactive, fix=True)).fixed == len(times)
    assert (await run(inactive)).total == 0
    assert (await stored(inactive), await rows_above(inactive)) == (whole, above)


async def test_minutes_after_one_that_may_have_traded_are_not_made_flat_at_an_older_price(inactive):
    # The mark is wrong: the price moved, and the minutes after it are flat at the new one.
    for time in range(START + 600, START + 1861, 60):
        await damage(inactive, M1, time, **dict.fromkeys(("open", "high", "low", "close", "vwap"), "103.5"))
    await damage(inactive, M1, START + 600, trades=3, volume="1.0")
    before = (await stored(inactive))[M1]
    await run(inactive, fix=True)
    assert (await stored(inactive))[M1] == before


IMPOSSIBLE = {
    "a negative volume": {"volume": "-1"},
    "an infinite volume": {"volume": "inf"},
    "a volume that is NaN": {"volume": "nan"},
    "a price that is a word": {"close": "abc"},
    "an empty price": {"high": ""},
    "a vwap that is a word": {"vwap": "abc"},
    "negative trades": {"trades": -1},
}


@on_sqlite
@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_impossible_minute_is_found_and_nothing_is_made_of_it(store, name):
    above = await rows_above(store)
    await damage(store, M1, START, **IMPOSSIBLE[name])
    for _ in range(2):
        report = await run(store, fix=True)
        assert dict(report.counts) == {(M1, FindingKind.IMPOSSIBLE): 1}
        assert (report.fixed, +report.left) == (0, {M5: 1})
    assert "cannot be corrected: 1 of 5m" in "\n".join(findings_lines(report))
    assert await rows_above(store) == above


@on_sqlite
async def test_infilled_minute_with_trades_is_not_rolled_up(store):
    above = await rows_above(store)
    await damage(store, M1, START + 60, trades=3, volume="1.0")
    report = await run(store, fix=True)
    assert (dict(report.counts), report.fixed) == ({(M1, FindingKind.INFILLED_TRADES): 1}, 0)
    assert await rows_above(store) == above


@on_sqlite
@pytest.mark.parametrize("text", ["abc", "", "inf", "nan"])
async def test_candle_whose_price_is_no_number_is_rolled_up_once_more(store, text):
    whole = await stored(store)
    # Made of minutes, whose vwap is exact; those of longer children are rounded.
    await damage(store, M5, START, high=text)
    assert ("5m", FindingKind.IMPOSSIBLE) in kinds(await run(store, fix=True))
    assert (await run(store)).total == 0
    assert await stored(store) == whole


async def test_candle_of_the_future_is_found_and_leaves_no_gap(store):
    row = dict(zip(COLUMNS, await row_at(store, M1, START), strict=True))
    future = int(NOW) + 10 * 365 * 86_400
    await store.series("BTC/USD", M1).write([tuple({**row, "time": future}.values())])
    assert dict((await run(store)).counts) == {(M1, FindingKind.FUTURE): 1}
    assert (await run(store, fix=True)).fixed == 1
    assert (await run(store)).total == 0


@on_sqlite
async def test_candle_of_the_future_that_was_received_after_it_stays(store):
    # Rather this machine's clock is wrong: by it, all candles of the last day are of the future.
    before = await stored(store)
    report = await run(store, fix=True, now=NEWEST_DAY + 0.5)
    assert report.counts[M1, FindingKind.FUTURE] > 1000
    assert await stored(store) == before


@on_sqlite
@pytest.mark.parametrize(("retention", "missing"), [("1m=forever", 2 * ROWS - 8), ("1m=90d", 0)])
async def test_series_without_candles_is_missing_unless_its_retention_has_passed(store, retention, missing):
    await store.series("BTC/USD", M1).delete([row[0] for row in (await stored(store))[M1]])
    report = await Verifier(
        store, lambda: NOW + 365 * 86_400, None, fix=False, retention=Retention.parse(retention)
    ).run("BTC/USD")
    assert +report.counts == ({(M1, FindingKind.MISSING): missing} if missing else {})


# --- Kraken -----------------------------------------------------------------------------------------------------------


def krakens_of(store, change=lambda candles: candles):
    async def candles(symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        rows = [
            (c.open_time, *map(str, (c.open, c.high, c.low, c.close, c.volume, c.vwap)), c.trades)
            for c in await store.newest_candles(symbol, timeframe, limit=720)
        ]
        names = ("time", "open", "high", "low", "close", "volume", "vwap", "trades")
        return change(pl.DataFrame(rows, schema={name: SCHEMA[name] for name in names}, orient="row"))

    return candles


async def test_missing_or_different_minute_is_fixed_with_krakens(store):
    whole = await stored(store)
    krakens = {t: await krakens_of(store)("BTC/USD", t) for t in TIMEFRAMES}

    async def candles(_symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        return krakens[timeframe]

    newest = whole[M1][-11][0]
    await damage(store, M1, newest)
    await damage(store, M1, newest - 120, close="101.0")
    report = await run(store, krakens=candles)
    assert ("1m", FindingKind.NOT_KRAKENS) in kinds(report)
    assert "only in Kraken" in "\n".join(findings_lines(report))
    assert (await run(store, krakens=candles, fix=True)).fixed >= 2
    assert (await run(store, krakens=candles)).total == 0
    assert {t: [c[:6] for c in v] for t, v in (await stored(store)).items()} == {
        t: [c[:6] for c in v] for t, v in whole.items()
    }


async def test_trades_that_are_counted_twice_are_recognised(store):
    def doubled(candles: pl.DataFrame) -> pl.DataFrame:
        if candles["trades"].sum() < 10_000:
            return candles
        fewer = (pl.col("trades").cum_sum() * 999 // 1000).diff().fill_null(pl.col("trades"))
        volume = (pl.col("volume").cast(pl.Float64) * 0.999).cast(pl.String)
        return candles.with_columns(trades=fewer, volume=volume)

    report = await run(store, krakens=krakens_of(store, doubled))
    assert report.twice[D1] == "the store"
    assert "the store counts one trade in every 1,000 twice (1000/999" in "\n".join(findings_lines(report))


# --- the command ------------------------------------------------------------------------------------------------------


async def test_archive_file_is_compared_with_the_store(store, tmp_path, file):
    lines: list[str] = []
    hours = higher(file, H1)
    good = write_minutes(tmp_path / "good" / "XBTUSD_60.csv", hours)
    await verify(store, Verification((), None, None, fix=False), [good, file], None, lines.append, lambda *_: None)
    assert any("0 differ" in line for line in lines)
    hours[3][5] += Decimal(1)
    bad = write_minutes(tmp_path / "bad" / "XBTUSD_60.csv", hours)
    with pytest.raises(CommandError, match="differences in BTC/USD"):
        await verify(store, Verification((), None, None, fix=False), [bad], None, lines.append, lambda *_: None)


async def test_stored_candles_outside_of_a_files_range_are_no_difference(store, tmp_path, file):
    lines: list[str] = []
    hours = higher(file, H1)
    part = write_minutes(tmp_path / "part" / "XBTUSD_60.csv", hours[10:-10])
    await verify(store, Verification((), None, None, fix=False), [part], None, lines.append, lambda *_: None)
    assert any(f"{len(hours) - 20} 1h candles compared, 0 differ" in line for line in lines)
    hole = write_minutes(tmp_path / "hole" / "XBTUSD_60.csv", [*hours[10:20], *hours[21:-10]])
    with pytest.raises(CommandError, match="differences in BTC/USD"):
        await verify(store, Verification((), None, None, fix=False), [hole], None, lines.append, lambda *_: None)


async def test_file_of_another_symbol_is_not_compared(store, tmp_path, file):
    lines: list[str] = []
    other = [(time, *(Decimal(number) * 9 for number in row), n) for time, *row, n in higher(file, H1)]
    files = [
        write_minutes(tmp_path / "ETHUSD_60.csv", other),
        write_minutes(tmp_path / "XBTUSD_60.csv", higher(file, H1)),
        write_minutes(tmp_path / "XBTUSD_2.csv", [(START + 120 * i, *row[1:]) for i, row in enumerate(other)]),
    ]
    wanted = Verification(("BTC/USD",), None, None, fix=False)
    await verify(store, wanted, files, None, lines.append, lambda *_: None)
    assert any("not used: 1 of the files" in line and "ETHUSD_60.csv" in line for line in lines)
    assert any("XBTUSD_2.csv: candles of 2 minutes" in line for line in lines)
    await verify(store, wanted, files[:1], None, lines.append, lambda *_: None)


async def test_file_of_a_symbol_that_the_store_lacks_is_an_error(store, tmp_path, file):
    lines: list[str] = []
    other = write_minutes(tmp_path / "ETHUSD_60.csv", higher(file, H1))
    with pytest.raises(CommandError, match="differences in ETH/USD"):
        await verify(store, Verification((), None, None, fix=False), [other], None, lines.append, lambda *_: None)
    assert lines[-1] == "the store has no candles of ETH/USD; expected those of the files"
    async with SqliteStore(tmp_path / "empty.db") as empty:
        await empty.bootstrap()
        with pytest.raises(CommandError, match="differences in BTC/USD"):
            await verify(empty, Verification((), None, None, fix=False), [file], None, lines.append, lambda *_: None)


async def test_file_without_a_pair_in_its_name_is_of_the_one_symbol(store, tmp_path, file):
    lines: list[str] = []
    hours = write_minutes(tmp_path / "hours.csv", higher(file, H1))
    wanted = Verification(("BTC/USD",), None, None, fix=False)
    await verify(store, wanted, [hours], None, lines.append, lambda *_: None)
    assert any("1h candles compared, 0 differ" in line for line in lines)


async def test_file_that_counts_trades_twice_is_named(store, tmp_path, file):
    lines: list[str] = []
    twice = write_minutes(tmp_path / "twice" / "XBTUSD_60.csv", counted_twice(higher(file, H1)))
    with pytest.raises(CommandError, match="differences in BTC/USD"):
        await verify(store, Verification((), None, None, fix=False), [twice], None, lines.append, lambda *_: None)
    assert any("the file counts one trade in every 1,000 twice" in line for line in lines)


async def test_store_that_counts_trades_twice_is_named(tmp_path, file):
    hours = write_minutes(tmp_path / "XBTUSD_60.csv", higher(file, H1))
    minutes = counted_twice([[*row[:5], Decimal(row[5]), row[6]] for row in some_minutes(start=BEFORE, count=ROWS)])
    twice = write_minutes(tmp_path / "twice" / "XBTUSD_1.csv", minutes)
    lines: list[str] = []
    async with SqliteStore(tmp_path / "twice.db") as store:
        await store.bootstrap()
        assert (await import_(store, twice, hours)).checks[0].twice == "the minutes"
        with pytest.raises(CommandError, match="differences in BTC/USD"):
            await verify(store, Verification((), None, None, fix=False), [hours], None, lines.append, lambda *_: None)
    assert any("the store counts one trade in every 1,000 twice" in line for line in lines)


LAST = BEFORE + (2 * ROWS - 2) * 60
ABSENT = {
    "the first minute": (BEFORE, BEFORE, 1),
    "the first day": (BEFORE, START - 60, 720),
    "the last minute": (LAST, LAST, 1),
    "the last days": (START + 86_400, LAST, ROWS - 1440),
    "all minutes": (BEFORE, LAST, ROWS),
}


@on_sqlite
@pytest.mark.parametrize("name", ABSENT)
async def test_minutes_of_a_file_that_the_store_lacks_are_missing(store, file, name):
    first, last, missing = ABSENT[name]
    for timeframe in TIMEFRAMES if name.endswith(("day", "days")) else (M1,):
        times = range(timeframe.floor(first), last + 1, timeframe.seconds)
        await store.series("BTC/USD", timeframe).delete(times)
    lines: list[str] = []
    wanted = Verification((), None, None, fix=False, retention=KEPT)
    with pytest.raises(CommandError, match="differences in BTC/USD"):
        await verify(store, wanted, [file], None, lines.append, lambda *_: None)
    assert any(f" 1m candles compared, {missing:,} differ" in line for line in lines)
    assert any(line.endswith("only in the file") for line in lines)


@on_sqlite
async def test_minutes_of_a_file_that_the_retention_no_longer_keeps_are_not_missing(store, file):
    for timeframe in TIMEFRAMES:
        times = range(timeframe.floor(BEFORE), START - 60 + 1, timeframe.seconds)
        await store.series("BTC/USD", timeframe).delete(times if timeframe is not W1 else [])
    lines: list[str] = []
    await verify(store, Verification((), None, None, fix=False), [file], None, lines.append, lambda *_: None)
    assert any(f"{ROWS - 720:,} 1m candles compared, 0 differ" in line for line in lines)


@on_sqlite
async def test_infinite_volume_differs_from_a_files(store, file):
    await damage(store, M1, START, volume="inf")
    lines: list[str] = []
    with pytest.raises(CommandError, match="differences in BTC/USD"):
        await verify(store, Verification((), None, None, fix=False), [file], None, lines.append, lambda *_: None)
    assert any("volume inf in the store" in line for line in lines)


async def test_unknown_symbol_is_named(store):
    with pytest.raises(CommandError, match="no candles of ETH/USD"):
        await verify(store, Verification(("ETH/USD",), None, None, fix=False), [], None, print, lambda *_: None)
