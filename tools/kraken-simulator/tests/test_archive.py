import csv
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_simulator import SourceError
from kraken_simulator.market import Market
from kraken_simulator.sources.archive import ArchiveCandle, archive_source, candle_trades
from kraken_simulator.sources.placement import shift_to_now
from kraken_simulator.truth import TIMEFRAMES, true_candles

from .conftest import ManualClock, running, shared_data

WEEK = 604_800
FIELDS = ("open", "high", "low", "close", "volume", "trades")


@pytest.mark.parametrize(
    ("timeframe", "minutes"), [("1m", 1), ("5m", 5), ("15m", 15), ("1h", 60), ("1d", 1440)], ids=str
)
def test_truth_of_the_archive_equals_krakens_own_candles(timeframe: str, minutes: int) -> None:
    source = archive_source(
        "BTC/USDC", shared_data("archive/XBTUSDC_1.csv"), now=1_672_531_200, play_from=1_672_531_200
    )
    market = Market(source)
    market.advance(2_000_000_000 * 10**9)
    mine = true_candles(market.digits.scale, market.true_trades(0, 2**62), TIMEFRAMES[timeframe])
    with shared_data(f"archive/XBTUSDC_{minutes}.csv").open() as file:
        theirs = [[Decimal(text) for text in row[1:]] for row in csv.reader(file)]
    assert len(mine) == len(theirs)
    for candle, row in zip(mine, theirs, strict=True):
        values = [Decimal(candle[field]) for field in FIELDS]
        assert values[:4] + values[5:] == row[:4] + row[5:]
        assert abs(values[4] - row[4]) < Decimal("1e-8")


async def test_archive_plays_now_on_week_boundaries() -> None:
    path = shared_data("archive/XBTUSDC_1.csv")
    clock = ManualClock(1_790_000_123.0)
    async with running(clock, symbols=0, archives={"BTC/USDC": path}) as client:
        before = await client.truth("BTC/USDC", "1d")
        clock.advance(3_600)
        after = await client.truth("BTC/USDC", "1d")
    with shared_data("archive/XBTUSDC_1440.csv").open() as file:
        theirs = [[Decimal(text) for text in row[1:]] for row in csv.reader(file)]
    whole = [[Decimal(candle[field]) for field in FIELDS] for candle in before[:-1]]
    assert len(whole) >= 22
    assert [row[:4] + row[5:] for row in whole] == [row[:4] + row[5:] for row in theirs[: len(whole)]]
    assert after[len(before) - 1]["trades"] > before[-1]["trades"]


@st.composite
def rows(draw: st.DrawFn) -> ArchiveCandle:
    trades = draw(st.integers(1, 40))
    if trades == 1:
        price = draw(st.integers(1, 10**9))
        return ArchiveCandle(60, price, price, price, price, draw(st.integers(0, 10**12)), 1)
    first, last = draw(st.integers(10, 10**9)), draw(st.integers(10, 10**9))
    high, low = max(first, last), min(first, last)
    if trades >= 3:
        high += draw(st.integers(0, 50))
    if trades >= 4 or high == max(first, last):
        low -= draw(st.integers(0, 9)) if trades >= 3 else 0
    return ArchiveCandle(60, first, high, low, last, draw(st.integers(0, 10**12)), trades)


@given(rows())
def test_trades_reproduce_their_candle_exactly(row: ArchiveCandle) -> None:
    trades = candle_trades(row)
    prices = [trade.price for trade in trades]
    assert (prices[0], max(prices), min(prices), prices[-1]) == (row.open, row.high, row.low, row.close)
    assert (sum(trade.quantity for trade in trades), len(trades)) == (row.volume, row.trades)
    assert all(60 * 10**9 <= trade.time < 120 * 10**9 for trade in trades)
    assert [trade.time for trade in trades] == sorted({trade.time for trade in trades})
    assert all(trade.quantity >= 0 for trade in trades)


@given(
    st.integers(1_300_000_000, 1_700_000_000),
    st.integers(600, 400 * 86_400),
    st.integers(1_750_000_000, 1_900_000_000),
)
def test_now_falls_into_the_moved_data(first: int, length: int, now: int) -> None:
    shift = shift_to_now(first, first + length, now, None)
    assert shift % 60 == 0
    assert first - 60 <= now - shift <= first + length
    if length > WEEK + 86_400:
        assert shift % WEEK == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "was empty"),
        ("hello\n", "line 1: expected the unix seconds of a full minute, was 'hello'"),
        ("60,1,1,1,1,1,1\n90,1,1,1,1,1,1\n", "line 2: expected the unix seconds of a full minute, was '90'"),
        ("60,1,1,1,1\n", "line 1: expected 7 columns, was 5"),
        ("60,1,x,1,1,1,1\n", "line 1: expected a decimal number, was 'x'"),
        ("60,1,2,1,1,1,2\n", "line 1: expected a candle that 2 trades can make"),
        ("120,1,1,1,1,1,1\n60,1,1,1,1,1,1\n", "expected ascending times, found 60 after 120"),
    ],
)
def test_wrong_archive_is_named_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "X.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"X\.csv") as caught:
        archive_source("BTC/USD", path, now=60.0, play_from=60.0)
    assert problem in str(caught.value)
