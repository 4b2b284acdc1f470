"""`verify` finds what is wrong with stored candles, finds nothing else, and `--fix` mends it."""

from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from archive_files import write_minutes
from test_import import NOW, START, WEEK, higher, import_, some_minutes, stored

from crypto_ingress.history.candle_checks import Before, FindingKind, check_series
from crypto_ingress.history.commands import Verification, verify
from crypto_ingress.history.stored import SCHEMA, stored_candles
from crypto_ingress.history.verifying import SymbolFindings, Verifier, findings_lines
from ingress_common.timeframes import TIMEFRAMES, Timeframe
from ingress_store import SqliteStore

M1, M5, H1, H4, D1, W1 = (Timeframe(name) for name in ("1m", "5m", "1h", "4h", "1d", "1w"))


@pytest.fixture
def file(tmp_path) -> Path:
    return write_minutes(tmp_path / "XBTUSD_1.csv", some_minutes(start=START - 3 * 86_400, every=2, count=20_000))


@pytest.fixture
async def store(tmp_path, file):
    async with SqliteStore(tmp_path / "candles.db") as opened:
        await opened.bootstrap()
        await import_(opened, file)
        yield opened


async def run(store, *, fix: bool = False, krakens=None, now: float = NOW) -> SymbolFindings:
    return await Verifier(store, lambda: now, krakens, fix=fix).run("BTC/USD")


async def change(store, sql: str, *values) -> None:
    def work(connection) -> None:
        assert connection.execute(sql, values).rowcount == 1

    await store._run(work)


def kinds(report: SymbolFindings) -> set[tuple[str, FindingKind]]:
    return {(timeframe.value, kind) for (timeframe, kind), count in report.counts.items() if count}


async def test_clean_store_has_nothing_wrong(store):
    report = await run(store)
    assert (report.total, report.fixed) == (0, 0)
    assert report.candles[M1] == 39_999
    assert "0 wrong" in next(findings_lines(report))


async def test_empty_store_has_nothing_wrong(tmp_path):
    async with SqliteStore(tmp_path / "empty.db") as empty:
        await empty.bootstrap()
        assert (await run(empty)).total == 0


DELETE = "DELETE FROM candles WHERE timeframe = ? AND open_time = ?"
SET = "UPDATE candles SET {} WHERE timeframe = ? AND open_time = ?"
DAMAGES = {
    "a missing minute": (DELETE, M1, START + 600, "1m", FindingKind.MISSING),
    "a missing day": (DELETE, D1, START + 86_400, "1d", FindingKind.MISSING),
    "the newest day": (DELETE, D1, START + 23 * 86_400, "1d", FindingKind.MISSING),
    "a wrong high": (SET.format("high = '999.0'"), H1, START + 7200, "1h", FindingKind.NOT_ROLLED_UP),
    "a wrong volume": (SET.format("volume = '0.5'"), M5, START + 3000, "5m", FindingKind.NOT_ROLLED_UP),
    "a shifted week": (SET.format("open_time = open_time + 345600"), W1, START, "1w", FindingKind.MISALIGNED),
    "an infilled candle with volume": (SET.format("volume = '1.0'"), M1, START + 60, "1m", FindingKind.INFILLED_TRADES),
    "an infilled candle that is not flat": (SET.format("high = '999.0'"), M1, START + 60, "1m", FindingKind.NOT_FLAT),
    "an unmarked candle without trades": (SET.format("infilled = 0"), M1, START + 60, "1m", FindingKind.NOT_INFILLED),
    "a stale forming candle": (SET.format("closed = 0"), M5, START + 300, "5m", FindingKind.STALE),
    "an impossible candle": (SET.format("low = '999.0'"), H4, START, "4h", FindingKind.IMPOSSIBLE),
    "an incomplete candle": (SET.format("complete = 0"), H4, START, "4h", FindingKind.INCOMPLETE),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
async def test_damage_is_found_and_named(store, name):
    sql, timeframe, time, found_in, kind = DAMAGES[name]
    if name == "the newest day":
        time = timeframe.floor(START - 3 * 86_400 + 20_000 * 120 - 86_400)
    await change(store, sql, timeframe.value, time)
    report = await run(store)
    assert (found_in, kind) in kinds(report)
    # Other findings concern the candles above, which no longer fit.
    assert all(
        k in (FindingKind.NOT_ROLLED_UP, FindingKind.MISSING) or (t, k) == (found_in, kind) for t, k in kinds(report)
    )
    assert report.total <= 7


@pytest.mark.parametrize("name", [name for name in DAMAGES if name not in ("a missing minute", "an incomplete candle")])
async def test_fix_mends_what_the_laws_can_mend(store, name):
    whole = await stored(store)
    sql, timeframe, time, *_ = DAMAGES[name]
    if name == "the newest day":
        time = timeframe.floor(START - 3 * 86_400 + 20_000 * 120 - 86_400)
    await change(store, sql, timeframe.value, time)
    report = await run(store, fix=True)
    assert report.fixed >= 1
    assert (await run(store)).total == 0
    mended = await stored(store)
    for each in TIMEFRAMES:
        # The vwap of a mended candle is made of rounded ones below.
        assert [(*c[:6], *c[7:]) for c in mended[each]] == [(*c[:6], *c[7:]) for c in whole[each]]


async def test_duplicate_is_named(store):
    minute = (await store.candles("BTC/USD", M1, start=START, limit=1))[0]
    candles = await stored_candles(store.series("BTC/USD", M1), START, START + 600)
    twice = pl.concat([candles, candles.head(1)]).sort("time")
    (finding,) = check_series(M1, twice, Before(), NOW)
    assert (finding.time, finding.kind) == (minute.open_time, FindingKind.DUPLICATE)


async def test_forming_candle_of_a_window_that_is_not_over_is_right(store):
    newest = (await store.newest_candles("BTC/USD", W1, limit=1))[0]
    await change(store, SET.format("closed = 0"), "1w", newest.open_time)
    assert (await run(store, now=newest.open_time + WEEK - 600.0)).total == 0


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


async def test_minute_that_is_missing_or_not_krakens_is_mended_with_krakens(store):
    whole = await stored(store)
    krakens = {t: await krakens_of(store)("BTC/USD", t) for t in TIMEFRAMES}

    async def candles(_symbol: str, timeframe: Timeframe) -> pl.DataFrame:
        return krakens[timeframe]

    newest = whole[M1][-11][0]
    await change(store, "DELETE FROM candles WHERE timeframe = ? AND open_time = ?", "1m", newest)
    await change(store, SET.format("close = '101.0'"), "1m", newest - 120)
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
        if candles["trades"].sum() < 20_000:
            return candles
        fewer = (pl.col("trades").cum_sum() * 999 // 1000).diff().fill_null(pl.col("trades"))
        volume = (pl.col("volume").cast(pl.Float64) * 0.999).cast(pl.String)
        return candles.with_columns(trades=fewer, volume=volume)

    report = await run(store, krakens=krakens_of(store, doubled))
    assert D1 in report.twice
    assert "twice (1000/999" in "\n".join(findings_lines(report))


# --- the command ------------------------------------------------------------------------------------------------------


async def test_archive_file_is_compared_with_the_store(store, tmp_path, file):
    lines: list[str] = []
    hours = higher(file, H1)
    good = write_minutes(tmp_path / "good" / "XBTUSD_60.csv", hours)
    await verify(store, Verification((), None, None, fix=False), [good, file], None, lines.append, lambda *_: None)
    assert any("0 differ" in line for line in lines)
    hours[3][5] += Decimal(1)
    bad = write_minutes(tmp_path / "bad" / "XBTUSD_60.csv", hours)
    with pytest.raises(Exception, match="differences in BTC/USD"):
        await verify(store, Verification((), None, None, fix=False), [bad], None, lines.append, lambda *_: None)


async def test_unknown_symbol_is_named(store):
    with pytest.raises(Exception, match="no candles of ETH/USD"):
        await verify(store, Verification(("ETH/USD",), None, None, fix=False), [], None, print, lambda *_: None)
