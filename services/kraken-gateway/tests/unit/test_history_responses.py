"""From REST's responses to history batches: pages of trades, prices before a range, rows that Kraken infilled."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingress_common.model import Range, Source
from ingress_common.timeframes import Timeframe
from kraken_gateway.backfill.responses import (
    COMMITTED_ROWS,
    TradeReading,
    ohlc_history,
    price_window,
    reach_of,
    trades_history,
)
from kraken_gateway.kraken.rest import PAGE, Trade, TradePage, parse_envelope, parse_ohlc, parse_trades

M1 = Timeframe.M1


def page_after(trades: list[Trade], since: int, count: int) -> TradePage:
    """What Kraken responds: `since` (ns) is exclusive, `last` the time of the last trade."""
    found = [trade for trade in trades if int(trade.time * 10**9) > since][:count]
    return TradePage(tuple(found), int(found[-1].time * 10**9) if found else since)


@given(
    gaps=st.lists(st.sampled_from([0, 1, 10**6, 10**9, 17 * 10**9, 200 * 10**9]), min_size=0, max_size=60),
    count=st.integers(3, 20),
    first=st.integers(0, 10),
    last=st.integers(11, 40),
    stretch=st.integers(1, 40),
    numbered=st.booleans(),
)
def test_every_trade_of_a_range_is_read_once_however_pages_and_range_are_cut(
    gaps, count, first, last, stretch, numbered
):
    nanos, trades = 0, []
    for number, gap in enumerate(gaps):
        nanos += gap
        if [int(trade.time * 10**9) for trade in trades[-2:]] == [nanos, nanos]:
            nanos += 1  # a page must hold more trades than one nanosecond does
        trades.append(Trade(number, Decimal(nanos).scaleb(-9), Decimal(number + 1), Decimal(1)))
    # One that Kraken learned of late has the highest number.
    trades = [replace(trade, number=10**6) if trade.number == len(gaps) // 2 else trade for trade in trades]
    if not numbered:
        trades = [replace(trade, number=0) for trade in trades]
    start, end = first * 60, last * 60
    reading, read = TradeReading.begin(start, None), []
    while reading.done < end:
        until = min(end, reading.done + stretch * 60)
        further, settled = reading.take(page_after(trades, reading.since, count), until)
        assert further.done >= reading.done
        assert all(reading.done <= trade.time < further.done for trade in settled)
        read += settled
        reading = further
    assert read == [trade for trade in trades if start <= trade.time < end]
    assert reading.price == (read[-1].price if read else None)


def test_page_of_one_nanosecond_is_passed():
    trades = [Trade(number, Decimal(61), Decimal(1), Decimal(1)) for number in range(PAGE)]
    later = Trade(PAGE, Decimal(500), Decimal(2), Decimal(1))
    reading, read = TradeReading.begin(60, None), []
    for _ in range(4):
        reading, settled = reading.take(page_after([*trades, later], reading.since, PAGE), 600)
        read += settled
    assert reading.done == 600
    assert read == [*trades, later]


def test_minutes_from_recorded_trades_begin_with_the_price_that_kraken_has_filled_in(recorded):
    ohlc = {
        row.open_time: row
        for row in parse_ohlc(parse_envelope(200, recorded("rest_ohlc_XBTUSDT_1m.json").encode()), M1)
    }
    trades = parse_trades(parse_envelope(200, recorded("rest_trades_XBTUSDT.json").encode())).trades
    first, last = M1.ceil(float(trades[0].time)), M1.floor(float(trades[-1].time))
    silent = [minute for minute in range(first + 60, last, 60) if minute in ohlc and ohlc[minute].trades == 0]
    assert len(silent) > 50
    for minute in silent:
        before = [trade for trade in trades if trade.time < minute][-1].price
        after = [trade for trade in trades if minute <= trade.time < last]
        history = trades_history("BTC/USDT", after, Range(minute, last), before, 1, last + 100.0)
        row = history.candles[0]
        assert (row.open_time, row.trades, row.infilled, row.source) == (minute - 60, 0, True, Source.REST)
        assert {str(p) for p in (row.open, row.high, row.low, row.close, row.vwap)} == {str(ohlc[minute].close)}
        assert all(candle.trades and not candle.infilled for candle in history.candles[1:])


def test_minutes_that_begin_with_a_trade_need_no_price(recorded):
    trades = parse_trades(parse_envelope(200, recorded("rest_trades_XBTUSDT.json").encode())).trades
    start = M1.floor(float(trades[0].time))
    history = trades_history("BTC/USDT", trades, Range(start, start + 600), Decimal(1), 1, start + 9999.0)
    assert history.candles[0].open_time == start
    assert history.candles[0].trades


def test_filled_in_rows_of_a_recorded_answer_are_left_out_but_for_one_in_front(recorded):
    rows = parse_ohlc(parse_envelope(200, recorded("rest_ohlc_XBTUSDT_1m.json").encode()), M1)
    taken = rows[-1].open_time + 30.0
    for position in range(0, len(rows) - 1, 5):
        span = Range(rows[position].open_time, rows[-1].open_time + 60)
        history = ohlc_history("BTC/USDT", M1, rows, span, taken)
        assert history.covers == Range(span.start, taken)
        assert history.candles[0].open_time == span.start
        assert history.candles[0].infilled == (rows[position].trades == 0)
        assert history.candles[0].vwap or not history.candles[0].close
        assert [c.open_time for c in history.candles[1:]] == [r.open_time for r in rows[position + 1 :] if r.trades]
        assert all(candle.at == taken for candle in history.candles)
        assert all(candle.closed == (candle.open_time < rows[-1].open_time) for candle in history.candles)


def test_row_without_a_price_has_no_price(recorded):
    rows = parse_ohlc(parse_envelope(200, recorded("rest_ohlc_XBTUSDT_1m.json").encode()), M1)
    zero = Decimal(0)
    silent = replace(rows[0], trades=0, open=zero, high=zero, low=zero, close=zero)
    history = ohlc_history("A/B", M1, [silent, *rows[1:]], Range(silent.open_time, silent.open_time + 60), 1e10)
    assert history.candles == ()
    assert history.covers == Range(silent.open_time, silent.open_time + 60)


@given(age=st.floats(60.0, 13 * 365 * 86400), now=st.floats(1.6e9, 1.9e9))
def test_price_before_a_range_is_looked_up_in_the_finest_candles_that_reach_it(age, now):
    start = now - age
    window = price_window(start, now)
    assert window is not None
    timeframe, open_time = window
    assert open_time + timeframe.seconds <= start < open_time + 2 * timeframe.seconds
    oldest_committed = timeframe.floor(now) - COMMITTED_ROWS * timeframe.seconds
    assert open_time > oldest_committed
    finer = [t for t in Timeframe if M1.seconds < t.seconds < timeframe.seconds]
    assert all(t.floor(start) - t.seconds < reach_of(t, now) for t in finer)


def test_price_too_far_back_cannot_be_looked_up():
    assert price_window(0.0, 1.7e9) is None


def test_reach_leaves_time_for_the_call():
    now = 1.7e9
    assert reach_of(M1, now) >= M1.floor(now + 60) - COMMITTED_ROWS * 60
