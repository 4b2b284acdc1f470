"""`roll_up_archive` against Kraken's own higher candles, and against the plainest computation there is."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from core_rollup import roll_up_archive
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_ingress.archive import read_archive
from ingress_common.model import Candle, Source
from ingress_common.timeframes import TIMEFRAMES, Timeframe

ARCHIVE = Path(__file__).parents[3].parent / "shared" / "data" / "archive"
NOW = 4_000_000_000.0  # when the file is read: after all that is in it
_TRADED = {5: Timeframe.M5, 15: Timeframe.M15, 60: Timeframe.H1, 1440: Timeframe.D1}


def by_timeframe(candles: Iterator[Candle]) -> dict[Timeframe, list[Candle]]:
    found = defaultdict(list)
    for candle in candles:
        found[candle.timeframe].append(candle)
    return found


@pytest.fixture(scope="module")
def kraken() -> dict[Timeframe, list[Candle]]:
    file = ARCHIVE / "XBTUSDC_1.csv"
    if not file.exists():
        pytest.skip(f"no real archive file: expected {file.name} in ../shared/data/archive")
    return by_timeframe(roll_up_archive("BTC/USDC", read_archive(file, "BTC/USDC", at=NOW)))


def rows(minutes: int) -> list[list[str]]:
    return [line.split(",") for line in (ARCHIVE / f"XBTUSDC_{minutes}.csv").read_text().split()]


@pytest.mark.parametrize("minutes", [1, 5, 15, 60, 1440])
def test_roll_up_of_a_real_month_equals_krakens_own_candles(kraken, minutes):
    timeframe = _TRADED.get(minutes, Timeframe.M1)
    traded = {candle.open_time: candle for candle in kraken[timeframe] if candle.trades}
    expected = rows(minutes)
    assert len(traded) == len(expected)
    for time, o, h, low, c, volume, trades in expected:
        candle = traded[int(time)]
        assert (candle.open, candle.high, candle.low, candle.close) == tuple(map(Decimal, (o, h, low, c)))
        assert candle.trades == int(trades)
        assert abs(candle.volume - Decimal(volume)) <= Decimal("1e-8")


@pytest.mark.parametrize("timeframe", TIMEFRAMES, ids=lambda t: t.value)
def test_every_interval_from_the_first_to_the_last_is_there_once(kraken, timeframe):
    real = rows(1)
    first, last = timeframe.floor(int(real[0][0])), timeframe.floor(int(real[-1][0]))
    assert [c.open_time for c in kraken[timeframe]] == list(range(first, last + 1, timeframe.seconds))
    assert all(c.closed and c.complete and c.revision == 0 for c in kraken[timeframe])


@pytest.mark.parametrize("timeframe", TIMEFRAMES, ids=lambda t: t.value)
def test_intervals_without_trades_are_flat_at_the_last_close(kraken, timeframe):
    close = None
    for candle in kraken[timeframe]:
        assert candle.infilled == (candle.trades == 0)
        if candle.infilled:
            assert candle.volume == 0
            assert {candle.open, candle.high, candle.low, candle.close, candle.vwap} == {close}
        close = candle.close


# --- against the plainest computation --------------------------------------------------------------------------------


def minute(open_time: int, o: int, others: list[int], volume: int, trades: int) -> Candle:
    prices = [Decimal(price) / 10 for price in (o, *others)]
    return Candle(
        symbol="A/B", timeframe=Timeframe.M1, open_time=open_time, open=prices[0], high=max(prices), low=min(prices),
        close=prices[-1], volume=Decimal(volume) / 100, vwap=sum(prices) / len(prices), trades=trades, closed=True,
        infilled=False, complete=True, revision=0, source=Source.ARCHIVE, at=NOW,
    )  # fmt: skip


def plain(minutes: list[Candle], timeframe: Timeframe) -> list[tuple]:
    """All candles of `timeframe`, from all minutes at once."""
    windows = defaultdict(list)
    for candle in minutes:
        windows[candle.open_time // timeframe.seconds * timeframe.seconds].append(candle)
    result, close = [], None
    for window in range(min(windows), max(windows) + 1, timeframe.seconds):
        inside = windows.get(window)
        if inside:
            close = inside[-1].close
            high, low = max(c.high for c in inside), min(c.low for c in inside)
            volume, trades = sum(c.volume for c in inside), sum(c.trades for c in inside)
            result.append((window, inside[0].open, high, low, close, volume, trades, False))
        else:
            result.append((window, close, close, close, close, Decimal(0), 0, True))
    return result


def numbers_of(candle: Candle) -> tuple:
    prices = (candle.open, candle.high, candle.low, candle.close)
    return (candle.open_time, *prices, candle.volume, candle.trades, candle.infilled)


def assert_plain(minutes: list[Candle]) -> None:
    found = by_timeframe(roll_up_archive("A/B", iter(minutes)))
    for timeframe in TIMEFRAMES:
        assert [numbers_of(candle) for candle in found[timeframe]] == plain(minutes, timeframe), timeframe


_BIG_GAPS = st.sampled_from([1, 1, 1, 2, 3, 5, 30, 61, 719, 721, 1439, 1440, 1441, 2881])
_MINUTES = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 9), _BIG_GAPS),
        st.integers(1, 50),
        st.lists(st.integers(1, 50), max_size=3),
        st.integers(0, 300),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 3_000_000), gaps=_MINUTES)
def test_roll_up_equals_a_plain_computation_from_all_minutes_at_once(start, gaps):
    minutes, at = [], start * 60
    for gap, *numbers in gaps:
        at += gap * 60
        minutes.append(minute(at, *numbers))
    assert_plain(minutes)


@pytest.mark.parametrize("days", [1, 6, 7, 8, 20, 45])
def test_days_and_weeks_without_trades_are_filled(days):
    start = Timeframe.W1.seconds * 2700 + 3 * 86400 + 17 * 60
    times = [start, start + 60, start + days * 86400, start + days * 86400 + 7 * 60]
    assert_plain([minute(at, i + 1, [i + 5], 10, 2) for i, at in enumerate(times)])


@pytest.mark.parametrize("offset", [0, 60, Timeframe.W1.seconds - 60, Timeframe.D1.seconds - 60, Timeframe.D1.seconds])
def test_single_minute_gives_one_candle_of_each_timeframe(offset):
    one = minute(Timeframe.W1.seconds * 2700 + offset, 5, [7, 6], 1, 3)
    candles = list(roll_up_archive("A/B", iter([one])))
    assert [candle.timeframe for candle in candles] == list(TIMEFRAMES)
    assert {numbers_of(candle)[1:] for candle in candles} == {numbers_of(one)[1:]}


def test_lower_timeframes_come_before_the_higher_ones_that_end_with_them():
    start = Timeframe.D1.seconds * 19_000
    candles = list(roll_up_archive("A/B", iter([minute(start + i * 60, 5, [], 1, 1) for i in range(1500)])))
    ends = dict.fromkeys(TIMEFRAMES, 0)
    for candle in candles[: -len(TIMEFRAMES)]:
        ends[candle.timeframe] = candle.close_time
        lower = candle.timeframe.lower
        assert lower is None or ends[lower] >= candle.close_time


def test_no_minutes_give_no_candles():
    assert list(roll_up_archive("A/B", iter([]))) == []
